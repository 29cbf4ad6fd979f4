"""A stream as lines of JSON."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from reactivex import Observable

from rxllm.chunks import Carried
from rxllm.web.delivery import OnEnd, answer
from rxllm.web.wire import NDJSON_WIRE

if TYPE_CHECKING:
    from aiohttp import web


def ndjson(
    request: web.Request,
    stream: Observable[Carried],
    *,
    stream_id: str | None = None,
    first_position: int = 1,
    heartbeat: float | None = 15.0,
    headers: Mapping[str, str] | None = None,
    max_stall: float = 300.0,
    on_end: OnEnd | None = None,
) -> Coroutine[Any, Any, web.StreamResponse]:
    """Answer a request with a stream, one JSON object per line (`application/x-ndjson`).

    The messages are those of `sse`; the last line is a `complete` with the whole text, which no
    earlier line contains, or an `error` with the text so far. An answer that ends without either
    was cut off.

    Completion, error, restart, disconnection of the client, and demand are as in `sse`.

    Args:
        request, stream, stream_id, first_position, headers, max_stall, on_end: as in `sse`.
        heartbeat: seconds of silence, above 0, after which a space is sent, or `None` for no
            heartbeat. It comes before the next object, in its line, where JSON allows it; an empty
            line would not do, since not every reader skips it.

    Raises:
        TypeError: `stream` is not a stream, or `request` is not an aiohttp request.
        ValueError: a number is out of range, or `stream_id` can't be the value of a header.
    """
    return answer(
        NDJSON_WIRE,
        request,
        stream,
        stream_id=stream_id,
        first_position=first_position,
        heartbeat=heartbeat,
        headers=headers,
        max_stall=max_stall,
        on_end=on_end,
    )
