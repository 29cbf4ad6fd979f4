"""One stream to many clients of `rxllm serve`: CPU time of the server for each delivered token.

Beside one loop over all clients, in which each that stands still would hold all the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

from aiohttp import web

from rxllm import Chunk, End, Start, Token, from_async
from rxllm import operators as ops
from rxllm.server import Limits, create_app
from rxllm.server.app_keys import MODELS, STREAMS
from rxllm.web.encoding import EventEncoder
from tests.benchmarks.relay import serving
from tests.benchmarks.relay_peers import read_all
from tests.benchmarks.side_by_side import Result, compare


def _spoken(tokens: int) -> list[Chunk]:
    return [Start("r", "m"), *(Token(f"word{n} ") for n in range(tokens)), End("stop")]


def by_us(readers: int, tokens: int) -> Callable[[], float]:
    """`GET /stream/{id}`, by so many."""

    async def work() -> float:
        all_here = asyncio.Event()

        async def speak() -> AsyncIterator[Chunk]:
            await all_here.wait()
            for chunk in _spoken(tokens):
                yield chunk
                await asyncio.sleep(0)

        app = create_app(limits=Limits(grace=60))
        async with serving(app) as address:
            tracked = ops.track(app[MODELS].registry, "s")
            await app[STREAMS].begin(from_async(speak).pipe(tracked), "s")
            reading = asyncio.create_task(read_all(f"{address}/stream/s", readers))
            while ((await app[STREAMS].describe("s")).readers or 0) < readers:
                await asyncio.sleep(0.001)
            started = time.process_time()
            all_here.set()
            await reading
            return (time.process_time() - started) / (readers * tokens) * 1e6

    return lambda: asyncio.run(work())


def by_hand(readers: int, tokens: int) -> Callable[[], float]:
    """One loop over all clients: one that stands still would hold all others."""

    async def work() -> float:
        responses: list[web.StreamResponse] = []
        ended = asyncio.Event()

        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            responses.append(response)
            await ended.wait()
            return response

        async def say(frame: bytes) -> None:
            for response in responses:
                await response.write(frame)

        app = web.Application()
        app.router.add_get("/stream", handler)
        async with serving(app) as address:
            reading = asyncio.create_task(read_all(f"{address}/stream", readers))
            while len(responses) < readers:
                await asyncio.sleep(0.001)
            started = time.process_time()
            encoder = EventEncoder("s")
            for chunk in _spoken(tokens):
                await say(encoder.chunk(chunk))
                await asyncio.sleep(0)
            await say(encoder.complete())
            ended.set()
            await reading
            return (time.process_time() - started) / (readers * tokens) * 1e6

    return lambda: asyncio.run(work())


def benchmarks() -> Iterator[Result]:
    for readers, tokens in ((1, 5000), (10, 1000), (100, 200), (1000, 50)):
        yield compare(
            f"one stream to {readers} clients of `rxllm serve`, a delivered token, "
            "beside one loop over all",
            by_us(readers, tokens),
            by_hand(readers, tokens),
            unit="us a token",
            limit=4 if readers == 1 else 2,
            kind="at most",
            rounds=3,
        )
