"""A stream as messages of a WebSocket."""

from __future__ import annotations

from collections.abc import Coroutine
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from reactivex import Observable

from rxllm.chunks import Carried
from rxllm.consumer import check_stream
from rxllm.web.delivery import DeliveryReport, OnEnd, check_position, report
from rxllm.web.encoded_stream import EncodedStream
from rxllm.web.frame_sender import websocket_writer
from rxllm.web.response_writer import ResponseWriter, check_times

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["websocket"]


def websocket(
    socket: web.WebSocketResponse,
    stream: Observable[Carried],
    stream_id: str,
    *,
    first_position: int = 1,
    max_stall: float = 300.0,
    on_end: OnEnd | None = None,
) -> Coroutine[Any, Any, DeliveryReport]:
    """Send a stream over a WebSocket, one text message per chunk.

    The messages are those of `sse`, with `complete` or `error` last. One socket can carry any
    number of streams, each in its own task and identified by its `stream_id`, and other messages
    between them. The socket stays open at the end.

    - Completion: a `DeliveryReport` is returned.
    - Error: sent as an `error` message, and included in the report. An exception that isn't an
      `RxLLMError` is sent as `internal`, and without an `on_end` goes to the loop's exception
      handler.
    - The client disconnects or closes the socket: the stream is disposed at once, also before its
      first token. The application must keep reading from the socket (`async for message in
      socket`), or a closing handshake goes unnoticed. Cancelling the task disposes the stream too
      and waits for its clean-up; no message is sent then.
    - Restart and demand: as in `sse`. All streams of a slow client are held. Heartbeats are
      aiohttp's: `WebSocketResponse(heartbeat=...)`, which drops a client that doesn't answer within
      half of that time: give one that reads slowly a minute, since it answers a ping only when it
      has read what is in the buffers before it.

    Args:
        socket: a prepared socket. If it is closed, nothing is sent and no model is asked.
        stream: the chunks.
        stream_id: the stream's id in the messages.
        first_position: the position of the first message, 1 or more.
        max_stall: seconds, above 0, that a slow client may stay above the transport's high-water
            mark; then the connection is closed.
        on_end: called with the returned report, unless the task is cancelled.

    Raises:
        TypeError: `stream` is not a stream, or `socket` is not an aiohttp `WebSocketResponse`.
        ValueError: a number is out of range, or the socket is not prepared.
    """
    from aiohttp import web

    if not isinstance(socket, web.WebSocketResponse):
        raise TypeError(
            f"websocket takes a web.WebSocketResponse, got {type(socket).__name__}: "
            "call sinks.websocket(socket, stream, stream_id)"
        )
    if not socket.prepared:
        raise ValueError("the socket is not prepared: await socket.prepare(request) first")
    check_stream(stream, "websocket")
    check_position(first_position)
    check_times(None, max_stall)

    async def send() -> DeliveryReport:
        encoded = EncodedStream(
            stream, stream_id, attrgetter("data"), first_position=first_position
        )
        request = socket._req  # noqa: SLF001 - the only way from a socket to its transport
        transport = None if request is None or socket.closed else request.transport
        delivery = ResponseWriter(transport, websocket_writer(socket), max_stall=max_stall)
        await delivery.run(encoded.frames)
        return report(encoded.run, delivery, on_end)

    return send()
