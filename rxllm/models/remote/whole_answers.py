"""Answers that a server sends as a whole in place of a stream, and streams of other media types."""

from __future__ import annotations

import json
from typing import Final

from rxllm.models.remote.coercion import is_json
from rxllm.models.remote.connection import Connection
from rxllm.models.remote.event_template import BLANK_LINE
from rxllm.models.remote.failures import error_in_place_of_stream
from rxllm.models.remote.sse import EVENT_STREAM, is_event_stream
from rxllm.models.remote.wire import Wire

__all__ = ["first_data"]

_JSON: Final = (b"{", b"[")
_PEEK: Final = 64 * 1024
"""Bytes without the end of an event, after which JSON is a whole answer."""


async def first_data(
    connection: Connection, wire: Wire, provider: str
) -> tuple[bytes | None, bytes | None]:
    """Return what has been read of a stream, or events that stand for all of a whole answer.

    Args:
        connection: the response.
        wire: the API.
        provider: the provider's name, for errors.

    Raises:
        RxLLMError: the response is neither a stream nor an answer.
    """
    kind = connection.content_type
    if kind in {wire.media_type, EVENT_STREAM, ""}:
        return await _of_a_stream(connection, wire)
    data = b""
    while (is_stream := is_event_stream(data)) is None and (more := await connection.read()):
        data += more
    is_json_lines = wire.media_type != EVENT_STREAM and data.lstrip().startswith(b"{")
    if is_json_lines or is_stream:
        return data, None
    body = data + await connection.read_all()
    whole = _events_of(body, wire)
    if whole is None:
        raise error_in_place_of_stream(provider, kind, connection.headers, body)
    return None, whole


async def _of_a_stream(connection: Connection, wire: Wire) -> tuple[bytes | None, bytes | None]:
    """As `first_data`, where the media type is that of a stream."""
    data = await connection.read()
    if data.lstrip()[:1] not in _JSON:
        return data, None
    while not (has_event := _has_event(data)) and len(data) < _PEEK:
        more = await connection.read()
        if not more:
            break
        data += more
    if not has_event and len(data) >= _PEEK:
        data += await connection.read_all()
    whole = _events_of(data, wire)
    return (data, None) if whole is None else (None, whole)


def _has_event(data: bytes) -> bool:
    """Whether JSON without `data:` has the end of an event: a blank line, or a line of JSON."""
    line, end, _ = data.lstrip().partition(b"\n")
    is_line = bool(end) and is_json(line.decode("utf-8", "replace"), strict=False)
    return is_line or BLANK_LINE.search(data.lstrip()) is not None


def _events_of(body: bytes, wire: Wire) -> bytes | None:
    """Return the events that stand for an answer that was sent as a whole, if it is one."""
    try:
        events = wire.events_of(json.loads(body))
    except (ValueError, RecursionError):
        return None
    if events is None:
        return None
    lines = [*(json.dumps(event) for event in events), "[DONE]"]
    return "".join([f"data: {line}\n\n" for line in lines]).encode()
