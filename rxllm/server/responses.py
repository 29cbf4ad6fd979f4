"""Helpers for endpoints: wait for the start of a stream, or respond with the whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import reactivex
from aiohttp import web
from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.consumer import Consumer
from rxllm.result import Result
from rxllm.server.app_keys import LIMITS
from rxllm.web.connection import connection_of
from rxllm.web.encoding import to_json
from rxllm.web.frame_sender import send_frames
from rxllm.web.stream_store import Frame, StreamHandle

__all__ = ["collect", "first_frame", "send_json"]

PATIENCE: Final = 5.0
"""Seconds in which a failure is returned as a status. After that, the headers are sent and a
failure becomes an event."""


async def first_frame(
    request: web.Request,
    begun: StreamHandle,
    seconds: float = PATIENCE,
    *,
    comes_back: bool = False,
) -> Frame | None:
    """Return the first event of a stream, or `None` if it takes too long.

    If the client leaves meanwhile, the stream is cancelled, unless the client may come back
    (`comes_back`): then the stream continues for its grace period.
    """
    connection = connection_of(request.transport)
    waiting = asyncio.ensure_future(begun.first())

    def look() -> None:
        if connection.is_lost:
            waiting.cancel()

    has_left = True  # aiohttp may be configured to cancel the handler
    try:
        with connection.watch(look):
            look()
            await asyncio.wait([waiting], timeout=seconds)
        has_left = connection.is_lost
        if waiting.done() and not waiting.cancelled():
            return waiting.result()
        return None
    finally:
        waiting.cancel()
        if has_left and not comes_back:
            begun.cancel_if_unread()


async def collect(
    request: web.Request,
    stream: Observable[Chunk],
    on_chunk: Callable[[Chunk], object] | None = None,
) -> Result:
    """Read a whole stream; stop it when the client leaves.

    Raises:
        Exception: the stream's error.
    """
    consumer = Consumer(stream, on_chunk)
    connection = connection_of(request.transport)

    def look() -> None:
        if connection.is_lost:
            consumer.stop()

    with connection.watch(look):
        look()
        return await consumer.run()


async def send_json(request: web.Request, answer: object) -> web.StreamResponse:
    """Respond with one JSON object. A client that stalls is disconnected, as a reader is."""
    body = to_json(answer)
    return await send_frames(
        request,
        reactivex.of(body),
        headers={"Content-Type": "application/json", "Content-Length": str(len(body))},
        heartbeat=None,
        max_stall=request.app[LIMITS].reader_stall,
    )
