"""Encoded events, sent to one client: what `sse`, `ndjson` and the server's endpoints stand on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from reactivex import Observable

from rxllm.web.response_writer import ResponseWriter, check_times

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["EVENT_STREAM", "NDJSON", "PING", "send_frames", "websocket_writer"]

EVENT_STREAM: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
PING: Final = b": ping\n\n"

_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def send_frames(
    request: web.Request,
    frames: Observable[bytes],
    *,
    content_type: str = EVENT_STREAM,
    headers: Mapping[str, str] | None = None,
    heartbeat: float | None = 15.0,
    ping: bytes = PING,
    max_stall: float = 300.0,
    on_end: Callable[[ResponseWriter], object] | None = None,
) -> web.StreamResponse:
    """Answer `request` with `frames`, as they come.

    - Sends the headers, and subscribes then. Completion: returns the finished response.
    - Error: raised when what came before it is written, so that aiohttp cuts the connection: the
      client sees no clean end.
    - The client leaves: the frames are disposed at once, and the response is returned, for which
      aiohttp has no more use. A slow client is given up in the same way, after `max_stall`, or when
      4 MiB wait for it of frames that came in spite of the closed valve.
    - Cancelling the handler disposes the frames, and waits for their clean-up.
    - Demand: holds the frames while the client is slow. What comes closely together is written in
      one call.

    Args:
        request: of any aiohttp application.
        frames: events as they go out, see above.
        content_type: of the response.
        headers: more of them; `Cache-Control: no-store` and `X-Accel-Buffering: no` are there.
        heartbeat: seconds of silence after which `ping` is sent; None: it never is.
        ping: what says that the connection lives.
        max_stall: seconds that a client may take nothing of what waits for it.
        on_end: called at the end with what became of it: `left`, `error`.

    Raises:
        ValueError: a time is not above 0.
    """
    from aiohttp import web

    check_times(heartbeat, max_stall)
    response = web.StreamResponse(headers={**_HEADERS, **(headers or {})})
    if "Content-Type" not in response.headers:
        response.headers["Content-Type"] = content_type

    def write(gathered: list[bytes]) -> Coroutine[Any, Any, None]:
        return response.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))

    with suppress(ConnectionError):  # it has left, as the delivery finds
        await response.prepare(request)
    if request.method == "HEAD":
        return response
    delivery = ResponseWriter(
        request.transport, write, heartbeat=heartbeat, ping=ping, max_stall=max_stall
    )
    await delivery.run(frames)
    if on_end is not None:
        on_end(delivery)
    if delivery.error is not None and not delivery.left:
        raise delivery.error
    return response


def websocket_writer(
    socket: web.WebSocketResponse,
) -> Callable[[list[bytes]], Coroutine[Any, Any, None]]:
    """What a `ResponseWriter` writes to a WebSocket with: each frame is a text message."""
    from aiohttp import WSMsgType

    async def write(frames: list[bytes]) -> None:
        for frame in frames:
            await socket.send_frame(frame, WSMsgType.TEXT)

    return write
