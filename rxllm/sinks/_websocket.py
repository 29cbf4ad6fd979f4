"""A stream as messages of a WebSocket."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.consumer import check_stream
from rxllm.web.answering import DeliveryReport, OnEnd, check_position, report
from rxllm.web.encoding import EventEncoder, encoded, plain_message
from rxllm.web.response_writer import ResponseWriter, check_times
from rxllm.web.sending import websocket_writer

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["websocket"]


def websocket(
    socket: web.WebSocketResponse,
    stream: Observable[Chunk],
    stream_id: str,
    *,
    first_position: int = 1,
    max_stall: float = 300.0,
    on_end: OnEnd | None = None,
) -> Coroutine[Any, Any, DeliveryReport]:
    """Send a stream over a WebSocket, a text message for each chunk.

    The messages are those of `sse`, `complete` or `error` last; any number of streams may be under
    way on one socket, each in a task of its own and told apart by its `stream_id`, and other
    messages between them. The socket stays open at the end.

    - Completion: what became of it is returned; without an `End` it counts as failed, as at `sse`.
    - Error: goes out as an `error` message, and is in what is returned; that of another kind than
      rxllm's goes out as `internal`, and without an `on_end` to the loop's exception handler.
    - The client leaves, or closes the socket: the stream is disposed at once, also before its
      first token. Somebody has to read from the socket (`async for message in socket`), or a
      closing handshake goes unseen. Cancelling the task disposes the stream too, and waits for its
      clean-up; no message tells of that.
    - Restart and demand: as at `sse`. All streams of a slow client are held. Heartbeats are
      aiohttp's: `WebSocketResponse(heartbeat=15)`.

    Args:
        socket: prepared; to a closed one nothing is sent, and no model asked.
        stream: the chunks.
        stream_id: the stream's name in the messages.
        first_position: the position of the first message, 1 or more.
        max_stall: seconds, above 0, that a slow client may leave more waiting than the transport's
            high-water mark; then the connection is closed.
        on_end: called with what is returned, unless the task is cancelled.

    Raises:
        TypeError: `stream` is not a stream, or `socket` is not an aiohttp `WebSocketResponse`.
        ValueError: a number is out of range, or the socket is not prepared.
    """
    from aiohttp import web

    if not isinstance(socket, web.WebSocketResponse):
        raise TypeError(
            f"websocket sends over a web.WebSocketResponse; got {type(socket).__name__}: "
            "sinks.websocket(socket, stream, stream_id)"
        )
    if not socket.prepared:
        raise ValueError("the socket is not prepared: await socket.prepare(request) first")
    check_stream(stream, "websocket")
    check_position(first_position)
    check_times(None, max_stall)

    async def send() -> DeliveryReport:
        encoder = EventEncoder(stream_id, plain_message, first_position=first_position)
        request = socket._req  # noqa: SLF001 - the one way from a socket to its transport
        transport = None if request is None or socket.closed else request.transport
        delivery = ResponseWriter(transport, websocket_writer(socket), max_stall=max_stall)
        await delivery.run(encoded(stream, encoder))
        return report(encoder, delivery, on_end)

    return send()
