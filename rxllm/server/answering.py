"""What the endpoints share: to wait for a stream, and to answer with all of it."""

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
from rxllm.web.sending import send_frames
from rxllm.web.stream_store import Frame, StreamHandle

__all__ = ["collect", "first_frame", "send_json"]

PATIENCE: Final = 5.0
"""Seconds in which a failure gets a status. Then the headers go out, and it gets an event."""


async def first_frame(
    request: web.Request,
    begun: StreamHandle,
    seconds: float = PATIENCE,
    *,
    comes_back: bool = False,
) -> Frame | None:
    """The first event of a stream, or None if it does not come in time.

    If the client leaves in the meantime, the stream is abandoned, unless the client can ask for it
    again: then it has the time of grace for that.
    """
    connection = connection_of(request.transport)
    waiting = asyncio.ensure_future(begun.first())

    def look() -> None:
        if connection.is_lost:
            waiting.cancel()

    has_left = True  # some servers of aiohttp cancel the handler
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
    """Answer with one JSON object. A client that does not take it is given up, as a reader is."""
    body = to_json(answer)
    return await send_frames(
        request,
        reactivex.of(body),
        content_type="application/json",
        headers={"Content-Length": str(len(body))},
        heartbeat=None,
        max_stall=request.app[LIMITS].reader_stall,
    )
