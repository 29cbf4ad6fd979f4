"""A server that relays streams to server-sent events, CPU time of its process a token.

Beside one written by hand, which sends the same events. The provider and the clients are processes
of their own. Then one stream to many clients: the cost of a delivered token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import aiohttp
import msgspec
from aiohttp import web
from reactivex.subject import Subject

import rxllm
from rxllm import End, Start, Token, sinks
from rxllm import operators as ops
from rxllm.server.messages import Complete, StreamChunk
from rxllm.sinks._encoding import EventEncoder
from rxllm.sinks._sending import send_frames
from tests.benchmarks.relay_peers import read_all, upstream
from tests.benchmarks.remote import Event
from tests.benchmarks.side_by_side import Result, compare

STREAMS = 32
ATTEMPTS = 2
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

_decode = msgspec.json.Decoder(Event).decode
_encode = msgspec.json.Encoder().encode


def _framed(kind: bytes, position: int, message: msgspec.Struct) -> bytes:
    return b"event: %b\nid: %d\ndata: %b\n\n" % (kind, position, _encode(message))


def by_hand(url: str, session: aiohttp.ClientSession) -> Handler:
    """As one would write it: no demand, no heartbeat, no end of what nobody reads, no errors."""

    async def relay(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        begun, position, rest = time.monotonic(), 0, b""
        async with session.post(f"{url}/chat/completions", json={"messages": []}) as answer:
            async for data in answer.content.iter_any():
                *blocks, rest = (rest + data).split(b"\n\n")
                for block in blocks:
                    if not block.startswith(b"data: ") or block == b"data: [DONE]":
                        continue
                    for choice in _decode(block[6:]).choices:
                        if choice.delta.content:
                            position += 1
                            chunk = StreamChunk(
                                id="s",
                                position=position,
                                timestamp=time.time(),
                                chunk=Token(choice.delta.content),
                            )
                            await response.write(_framed(b"chunk", position, chunk))
        end = Complete(id="s", tokens=position, seconds=time.monotonic() - begun)
        await response.write(_framed(b"complete", position + 1, end))
        return response

    return relay


def by_us(url: str, _: aiohttp.ClientSession) -> Handler:
    """With time limits and retries, and all that a sink does."""
    model = rxllm.model("openai/gpt", api_key="none", base_url=url)

    async def relay(request: web.Request) -> web.StreamResponse:
        stream = model.stream("Hi").pipe(
            ops.timeouts(first=10, between=5, total=300), ops.retry_with_backoff(3)
        )
        return await sinks.sse(request, stream, stream_id="s")

    return relay


@asynccontextmanager
async def _serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


def measured_relay(
    relay: Callable[[str, aiohttp.ClientSession], Handler], url: str, tokens: int
) -> Callable[[], float]:
    """The cost of a token, of `STREAMS` streams at once: the best of some attempts.

    Where three processes share few cores, how many tokens come in one read depends on who has to
    wait for whom, and the cost of a token with it.
    """

    async def work() -> float:
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            _serving(relay(url, session)) as address,
        ):
            started = time.process_time()
            size = await read_all(address, STREAMS)
            assert size > STREAMS * tokens * 100
            return (time.process_time() - started) / (STREAMS * tokens) * 1e6

    return lambda: min(asyncio.run(work()) for _ in range(ATTEMPTS))


def _spoken(tokens: int) -> list[rxllm.Chunk]:
    return [Start("r", "m"), *(Token(f"word{n} ") for n in range(tokens)), End("stop")]


async def _said_to_all(tokens: int, say: Callable[[bytes], Awaitable[object]]) -> None:
    """Encode each chunk once and say it, a chunk in each turn of the loop."""
    encoder = EventEncoder("s")
    for chunk in _spoken(tokens):
        await say(encoder.chunk(chunk))
        await asyncio.sleep(0)
    await say(encoder.complete())


def fan_out_by_us(readers: int, tokens: int) -> Callable[[], float]:
    async def work() -> float:
        frames: Subject[bytes] = Subject()
        here = asyncio.Semaphore(0)

        async def handler(request: web.Request) -> web.StreamResponse:
            here.release()
            return await send_frames(request, frames)

        async def say(frame: bytes) -> None:
            frames.on_next(frame)

        async with _serving(handler) as address:
            reading = asyncio.create_task(read_all(address, readers))
            for _ in range(readers):
                await here.acquire()
            while len(frames.observers) < readers:
                await asyncio.sleep(0.001)
            started = time.process_time()
            await _said_to_all(tokens, say)
            frames.on_completed()
            await reading
            return (time.process_time() - started) / (readers * tokens) * 1e6

    return lambda: asyncio.run(work())


def fan_out_by_hand(readers: int, tokens: int) -> Callable[[], float]:
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

        async with _serving(handler) as address:
            reading = asyncio.create_task(read_all(address, readers))
            while len(responses) < readers:
                await asyncio.sleep(0.001)
            started = time.process_time()
            await _said_to_all(tokens, say)
            ended.set()
            await reading
            return (time.process_time() - started) / (readers * tokens) * 1e6

    return lambda: asyncio.run(work())


def benchmarks() -> Iterator[Result]:
    for name, tokens, seconds in (("100 tokens/s", 300, 0.01), ("at full speed", 500, 0.0)):
        with upstream(tokens, seconds) as url:
            yield compare(
                f"{STREAMS} OpenAI-style streams at once ({name}) relayed to server-sent events, "
                "beside a relay by hand",
                measured_relay(by_us, url, tokens),
                measured_relay(by_hand, url, tokens),
                unit="us a token",
                limit=1.25,
                kind="at most",
                rounds=3,
            )
    for readers, tokens in ((1, 5000), (10, 1000), (100, 200), (1000, 50)):
        yield compare(
            f"one stream to {readers} clients, a delivered token, beside one loop over all",
            fan_out_by_us(readers, tokens),
            fan_out_by_hand(readers, tokens),
            unit="us a token",
            limit=2,
            kind="at most",
            rounds=3,
        )
