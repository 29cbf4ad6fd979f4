"""One stream to many clients of `rxllm serve`: CPU time of the server per delivered token.

The baseline is one loop over all clients, in which a slow client would hold up all others.
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
from rxllm.web.encoding import sse_event, to_json
from rxllm.web.stream_messages import Complete, StreamChunk
from tests.benchmarks.relay import serving
from tests.benchmarks.relay_peers import read_all
from tests.benchmarks.side_by_side import Result, compare


def _answer(tokens: int) -> list[Chunk]:
    return [Start("r", "m"), *(Token(f"word{n} ") for n in range(tokens)), End("stop")]


def by_the_server(readers: int, tokens: int) -> Callable[[], float]:
    """Measure `GET /stream/{id}` with `readers` clients."""

    async def work() -> float:
        all_here = asyncio.Event()

        async def source() -> AsyncIterator[Chunk]:
            await all_here.wait()
            for chunk in _answer(tokens):
                yield chunk
                await asyncio.sleep(0)

        app = create_app(limits=Limits(grace=60))
        async with serving(app) as address:
            tracked = ops.track(app[MODELS].registry, "s")
            await app[STREAMS].begin(lambda: from_async(source).pipe(tracked), "s")
            reading = asyncio.create_task(read_all(f"{address}/stream/s", readers))
            while ((await app[STREAMS].describe("s")).readers or 0) < readers:
                await asyncio.sleep(0.001)
            started = time.process_time()
            all_here.set()
            await reading
            return (time.process_time() - started) / (readers * tokens) * 1e6

    return lambda: asyncio.run(work())


def by_hand(readers: int, tokens: int) -> Callable[[], float]:
    """Measure one loop over all clients, in which a slow client would hold up all others."""

    async def work() -> float:
        responses: list[web.StreamResponse] = []
        ended = asyncio.Event()

        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            responses.append(response)
            await ended.wait()
            return response

        async def broadcast(frame: bytes) -> None:
            for response in responses:
                await response.write(frame)

        app = web.Application()
        app.router.add_get("/stream", handler)
        async with serving(app) as address:
            reading = asyncio.create_task(read_all(f"{address}/stream", readers))
            while len(responses) < readers:
                await asyncio.sleep(0.001)
            started = time.process_time()
            for position, chunk in enumerate(_answer(tokens), 1):
                event = StreamChunk(id="s", position=position, timestamp=time.time(), chunk=chunk)
                await broadcast(sse_event("chunk", position, to_json(event)))
                await asyncio.sleep(0)
            complete = Complete(id="s", tokens=tokens, seconds=0)
            await broadcast(sse_event("complete", 0, to_json(complete)))
            ended.set()
            await reading
            return (time.process_time() - started) / (readers * tokens) * 1e6

    return lambda: asyncio.run(work())


def benchmarks() -> Iterator[Result]:
    for readers, tokens in ((1, 5000), (10, 1000), (100, 200), (1000, 50)):
        yield compare(
            f"one stream to {readers} clients of `rxllm serve`, per delivered token, "
            "vs one loop over all",
            by_the_server(readers, tokens),
            by_hand(readers, tokens),
            unit="us per token",
            limit=4 if readers == 1 else 2,
            kind="at most",
            rounds=3,
        )
