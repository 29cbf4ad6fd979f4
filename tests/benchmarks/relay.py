"""Servers that relay streams as server-sent events: CPU time of the process per token.

The sink in a custom application, and the server of `rxllm serve` with all its features, are
compared with a hand-written server that sends the same events. The provider and the clients run in
separate processes. All are warm: a first short answer to each client opens the connections.
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

import rxllm
from rxllm import Settings, Token, sinks
from rxllm import operators as ops
from rxllm.server import create_app
from rxllm.server.messages import Complete, StreamChunk
from tests.benchmarks.relay_peers import read_all, upstream
from tests.benchmarks.remote import Event
from tests.benchmarks.side_by_side import Measure, Result, Row, compare_all

STREAMS = 32
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Relay: TypeAlias = Callable[[str, aiohttp.ClientSession], web.Application]

_decode = msgspec.json.Decoder(Event).decode
_encode = msgspec.json.Encoder().encode


def _framed(kind: bytes, position: int, message: msgspec.Struct) -> bytes:
    return b"event: %b\nid: %d\ndata: %b\n\n" % (kind, position, _encode(message))


def _app(handler: Handler) -> web.Application:
    app = web.Application()
    app.router.add_get("/stream", handler)
    return app


def by_hand(url: str, session: aiohttp.ClientSession) -> web.Application:
    """Relay with hand-written code: no demand, no heartbeats, no slow-client limit, no errors."""

    async def relay(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        started, position, rest = time.monotonic(), 0, b""
        body = {"messages": [{"role": "user", "content": request.query["prompt"]}]}
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
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
        end = Complete(id="s", tokens=position, seconds=time.monotonic() - started)
        await response.write(_framed(b"complete", position + 1, end))
        return response

    return _app(relay)


def by_the_sink(url: str, _: aiohttp.ClientSession) -> web.Application:
    """Relay with `sinks.sse`, with time limits and retries."""
    model = rxllm.model("openai/gpt", api_key="none", base_url=url)

    async def relay(request: web.Request) -> web.StreamResponse:
        stream = model.stream(request.query["prompt"]).pipe(
            ops.timeouts(first=10, between=5, total=300), ops.retry_with_backoff(3)
        )
        return await sinks.sse(request, stream, stream_id="s")

    return _app(relay)


def by_the_server(url: str, _: aiohttp.ClientSession) -> web.Application:
    """Relay with `rxllm serve`, whose streams can also be resumed, joined, listed and limited."""
    model = rxllm.model("openai/gpt", api_key="none", base_url=url)
    return create_app({"gpt": model}, settings=Settings(remote_streams=STREAMS))


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve `app`, and yield its address."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def measured_relay(relay: Relay, url: str, tokens: int) -> Measure:
    """Return the measure of the cost per token, with `STREAMS` concurrent streams."""

    async def work() -> float:
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            serving(relay(url, session)) as address,
        ):
            await read_all(f"{address}/stream?prompt=1", STREAMS)
            started = time.process_time()
            size = await read_all(f"{address}/stream?prompt={tokens}", STREAMS)
            assert size > STREAMS * tokens * 100
            return (time.process_time() - started) / (STREAMS * tokens) * 1e6

    return lambda: asyncio.run(work())


def benchmarks() -> Iterator[Result]:
    # Few tokens at full speed, since a server may merge chunks that a slow client hasn't read.
    for pace, tokens, seconds in (("100 tokens/s", 500, 0.01), ("full speed", 500, 0.0)):
        with upstream(seconds) as url:
            rows = [
                Row(f"{name}, {STREAMS} streams, {pace}", measured_relay(relay, url, tokens), limit)
                for name, relay, limit in (
                    ("`sinks.sse`", by_the_sink, 1.15),
                    ("`rxllm serve`", by_the_server, 1.4),
                )
            ]
            baseline = measured_relay(by_hand, url, tokens)
            yield from compare_all(rows, baseline, unit="us per token", rounds=5)
