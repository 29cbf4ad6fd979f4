"""A stream as server-sent events."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.web.answering import OnEnd, WireFormat, answer
from rxllm.web.encoding import sse_event
from rxllm.web.sending import EVENT_STREAM, PING

if TYPE_CHECKING:
    from aiohttp import web

_WIRE_FORMAT: Final = WireFormat("sse", EVENT_STREAM, sse_event, PING, with_text=False)


def sse(
    request: web.Request,
    stream: Observable[Chunk],
    *,
    stream_id: str | None = None,
    first_position: int = 1,
    heartbeat: float | None = 15.0,
    headers: Mapping[str, str] | None = None,
    max_stall: float = 300.0,
    on_end: OnEnd | None = None,
) -> Coroutine[Any, Any, web.StreamResponse]:
    """Answer a request with a stream, as server-sent events.

    In a handler of any aiohttp application: `return await sinks.sse(request, stream)`. What goes
    out is `text/event-stream` of the WHATWG HTML standard, and a browser's `EventSource` reads it::

        event: chunk
        id: 2
        data: {"type":"chunk","id":"story","position":2,"timestamp":1700000000.5,"chunk":{...}}

    and, as the last event, `complete` (tokens, seconds, finish reason, usage, model) or `error`
    (code, message, whether to ask again, what had been said). A connection that ends without one
    of these was cut. The messages are `StreamChunk`, `Complete` and `Failed` of
    `rxllm.server.messages`.

    - Sends the headers at once, with `X-Stream-Id`, and subscribes then. Each chunk is encoded
      once; one that comes alone is written at once, what comes closely together in one call. For
      progress put `ops.progress()` in the pipe.
    - Completion: the finished response is returned. A stream that completes without an `End` has
      broken off: it counts as failed, with a `TruncatedStreamError`.
    - Error: goes out as the terminal `error` event, and then the response is returned; `on_end`
      gets it. Of an error that is none of rxllm's the client learns the code `internal` only, and
      without an `on_end` it goes to the loop's exception handler.
    - Restart: goes out as the notice that it is, for the client to forget what it has.
    - The client leaves: the stream is disposed at once, also before its first token. Cancelling
      the handler does the same, and is no clean end for the client. The clean-up is awaited.
    - Demand: holds the stream while the client is slow, that is while more than the transport's
      high-water mark (64 KiB) waits for it, or as much was gathered in one turn of the loop. The
      client is given up after `max_stall`, or when 4 MiB wait of what came in spite of the closed
      valve.

    Args:
        request: not answered yet. To `HEAD` go the headers alone, and no model is asked.
        stream: the chunks.
        stream_id: the stream's name on the wire; made here if None.
        first_position: the id of the first event, 1 or more, for a reader who goes on.
        heartbeat: seconds of silence, above 0, after which a comment (`: ping`) goes out; None:
            none does.
        headers: more headers, besides `Content-Type`, `Cache-Control: no-store` and
            `X-Accel-Buffering: no`, which they may replace.
        max_stall: seconds, above 0, that a slow client may leave more than that waiting.
        on_end: called with a `DeliveryReport` at the end, unless the handler is cancelled.

    Raises:
        TypeError: `stream` is not a stream, or `request` is not an aiohttp request.
        ValueError: a number is out of range, or `stream_id` can't be the value of a header.
    """
    return answer(
        _WIRE_FORMAT,
        request,
        stream,
        stream_id=stream_id,
        first_position=first_position,
        heartbeat=heartbeat,
        headers=headers,
        max_stall=max_stall,
        on_end=on_end,
    )
