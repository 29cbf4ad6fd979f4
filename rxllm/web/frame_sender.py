"""Send encoded events to one client: the base of `sse`, `ndjson` and the server's endpoints."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from reactivex import Observable

from rxllm.web.response_writer import ResponseWriter, check_times
from rxllm.web.wire import SSE_WIRE, WireFormat

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["HEADERS", "send_frames", "websocket_writer"]

HEADERS: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


async def send_frames(
    request: web.Request,
    frames: Observable[bytes],
    *,
    wire: WireFormat = SSE_WIRE,
    headers: Mapping[str, str] | None = None,
    heartbeat: float | None = 15.0,
    max_stall: float = 300.0,
    on_end: Callable[[ResponseWriter], object] | None = None,
) -> web.StreamResponse:
    """Answer `request` with `frames` as they arrive.

    - Sends the headers, and then subscribes. Completion: returns the finished response.
    - Error: raised after all earlier frames have been written, so that aiohttp cuts the connection:
      the client sees no clean end.
    - The client disconnects: the frames are disposed at once, and the response, which aiohttp no
      longer uses, is returned. A slow client is disconnected in the same way, after `max_stall`, or
      when 4 MiB of frames are waiting for it that the source emitted despite the closed valve.
    - Cancelling the handler disposes the frames, and awaits their clean-up.
    - Demand: holds the frames while the client is slow. Frames that arrive close together are
      written in one call.

    Args:
        request: a request of any aiohttp application.
        frames: encoded events.
        wire: the format: its content type, headers and ping.
        headers: headers to add to `Cache-Control: no-store, no-transform` and
            `X-Accel-Buffering: no`, or to replace them.
        heartbeat: seconds of silence after which a ping is sent, or `None` for no heartbeat.
        max_stall: seconds that a slow client may stay above the high-water mark.
        on_end: called at the end with the `ResponseWriter`, whose `left` and `error` are final.

    Raises:
        ValueError: `heartbeat` or `max_stall` is not above 0.
    """
    from aiohttp import HttpVersion11, web

    check_times(heartbeat, max_stall)
    response = web.StreamResponse(headers={**HEADERS, **wire.headers, **(headers or {})})
    if "Content-Type" not in response.headers:
        response.headers["Content-Type"] = wire.content_type
    if request.version < HttpVersion11 and "Content-Length" not in response.headers:
        response.force_close()  # HTTP/1.0 has no other way to end a body of unknown length

    def write(gathered: list[bytes]) -> Coroutine[Any, Any, None]:
        return response.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))

    with suppress(ConnectionError):  # the client has left; the writer notices
        await response.prepare(request)
    if request.method == "HEAD":
        return response
    delivery = ResponseWriter(
        request.transport, write, heartbeat=heartbeat, ping=wire.ping, max_stall=max_stall
    )
    await delivery.run(frames)
    if on_end is not None:
        on_end(delivery)
    if delivery.error is not None and not delivery.left:
        raise delivery.error
    return response


def websocket_writer(
    socket: web.WebSocketResponse,
    written: Callable[[int], Coroutine[Any, Any, None]] | None = None,
) -> Callable[[list[bytes]], Coroutine[Any, Any, None]]:
    """Return the `write` of a `ResponseWriter` for a WebSocket: a text message for each frame.

    `written` is awaited after each frame, with its length.
    """
    from aiohttp import WSMsgType

    async def write(frames: list[bytes]) -> None:
        for frame in frames:
            await socket.send_frame(frame, WSMsgType.TEXT)
            if written is not None:
                await written(len(frame))

    return write
