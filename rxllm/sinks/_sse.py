"""A stream as server-sent events."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from reactivex import Observable

from rxllm.chunks import Carried
from rxllm.web.delivery import OnEnd, answer
from rxllm.web.wire import SSE_WIRE

if TYPE_CHECKING:
    from aiohttp import web


def sse(
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
    """Answer a request with a stream, as server-sent events.

    In a handler of any aiohttp application: `return await sinks.sse(request, stream)`. The response
    is `text/event-stream` as in the WHATWG HTML standard, which a browser's `EventSource` reads::

        event: chunk
        id: 2
        data: {"type":"chunk","id":"story","position":2,"timestamp":1700000000.5,"chunk":{...}}

    and, as the last event, `complete` (tokens, seconds, finish reason, usage, model) or `error`
    (code, message, whether to retry, the text so far). A connection that ends without either was
    cut off. The messages are `StreamChunk`, `Complete` and `StreamFailed` of `rxllm.web`.

    - Sends the headers at once, with `X-Stream-Id`, and then subscribes. Each chunk is encoded
      once; a single chunk is written at once, chunks that arrive close together in one call. For
      progress put `ops.progress()` in the pipe.
    - Completion: the finished response is returned. A stream that completes without an `End` (after
      RxPY's `take`, for example) is complete, without a finish reason.
    - Error: sent as the final `error` event, and passed to `on_end`; then the response is returned.
      For an exception that isn't an `RxLLMError`, the client receives only the code `internal`, and
      without an `on_end` the exception goes to the loop's exception handler.
    - Restart: sent as its notice, on which the client should discard the text so far.
    - The client disconnects: the stream is disposed at once, also before its first token.
      Cancelling the handler does the same, and the client sees the connection cut. The clean-up is
      awaited.
    - Demand: holds the stream while the client is slow, that is, while more than the transport's
      high-water mark (64 KiB) is waiting for it, or as much was collected in one iteration of the
      loop. The connection is closed after `max_stall`, or when 4 MiB are waiting that a source
      emitted despite the closed valve.

    Args:
        request: a request that hasn't been answered. A `HEAD` request gets only the headers, and no
            model is asked.
        stream: the chunks.
        stream_id: the stream's id on the wire; `None` to generate one.
        first_position: the id of the first event, 1 or more, for a client that resumes.
        heartbeat: seconds of silence, above 0, after which a comment (`: ping`) is sent, or `None`
            for no heartbeat.
        headers: headers to add to `Content-Type`, `Cache-Control: no-store, no-transform` and
            `X-Accel-Buffering: no`, or to replace them.
        max_stall: seconds, above 0, that a slow client may stay above the high-water mark.
        on_end: called with a `DeliveryReport` at the end, unless the handler is cancelled.

    Raises:
        TypeError: `stream` is not a stream, or `request` is not an aiohttp request.
        ValueError: a number is out of range, or `stream_id` can't be the value of a header.
    """
    return answer(
        SSE_WIRE,
        request,
        stream,
        stream_id=stream_id,
        first_position=first_position,
        heartbeat=heartbeat,
        headers=headers,
        max_stall=max_stall,
        on_end=on_end,
    )
