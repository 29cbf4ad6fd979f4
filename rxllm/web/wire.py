"""Wire formats: how a stream is sent over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

from rxllm.web.encoding import to_json
from rxllm.web.stream_messages import Complete
from rxllm.web.stream_store import Frame

__all__ = [
    "EVENT_STREAM",
    "NDJSON",
    "NDJSON_WIRE",
    "PING",
    "SSE_WIRE",
    "WireFormat",
    "Writer",
]

EVENT_STREAM: Final = "text/event-stream"
PING: Final = b": ping\n"  # no empty line: to some clients, that ends an event without data
_SPACE: Final = b" "  # before the next line; not every client skips an empty one

Writer: TypeAlias = Callable[[Frame], bytes]
"""Writes the frames of one stream, in order; `b""` for one that the format doesn't show. The last
frame has a `Complete` or a `StreamFailed`."""


class WireFormat(NamedTuple):
    """How a stream is sent over HTTP.

    Args:
        name: the name of the format, and of its sink.
        content_type: the content type of the response.
        writer: returns the writer of one stream, given its id, and the options of the format.
        ping: keeps the connection alive in silence, or `None` if the format has nothing for that.
        headers: further headers of the response.
    """

    name: str
    content_type: str
    writer: Callable[..., Writer]
    ping: bytes | None = PING
    headers: Mapping[str, str] = {}


def _line(frame: Frame) -> bytes:
    if isinstance(frame.message, Complete):
        return to_json(frame.message) + b"\n"  # with the whole text
    return frame.data + b"\n"


def _sse_writer(stream_id: str, **options: Any) -> Writer:
    return attrgetter("sse")


def _line_writer(stream_id: str, **options: Any) -> Writer:
    return _line


NDJSON: Final = "application/x-ndjson"

SSE_WIRE: Final = WireFormat("sse", EVENT_STREAM, _sse_writer)
"""The messages of `rxllm.web` as server-sent events."""

NDJSON_WIRE: Final = WireFormat("ndjson", NDJSON, _line_writer, _SPACE)
"""The messages of `rxllm.web` as lines of JSON; the last one has the whole text."""
