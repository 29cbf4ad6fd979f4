"""Streams that are read on another server, through Redis: CPU time and memory a token.

Both servers run in this process, each with its store. The baseline is the store in memory, with the
readers on the server of the stream.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import redis

from rxllm import Chunk, End, Start, Token, from_async
from rxllm import operators as ops
from rxllm.redis import RedisStreams
from rxllm.server import Limits
from rxllm.stream import Stream
from rxllm.valve import StreamScheduler, Valve
from rxllm.web.memory_store import MemoryStreams
from rxllm.web.stream_store import Frame, StreamStore
from tests.benchmarks.side_by_side import Result, compare
from tests.redis.server import PROGRAM, RedisServer

_STREAMS, _TOKENS, _PACE = 100, 200, 0.01
_ALL = _STREAMS * _TOKENS
_LIMITS = Limits(grace=60, ended_streams=1000)


async def _say(go: asyncio.Event) -> AsyncIterator[Chunk]:
    yield Start("r", "m")
    await go.wait()
    for number in range(_TOKENS):
        await asyncio.sleep(_PACE)
        yield Token(f"w{number} ")
    yield End("stop")


def _itself(story: Stream[Chunk]) -> Stream[Chunk]:
    return story


async def _cost(own: StreamStore, registry: ops.StreamRegistry, other: StreamStore) -> float:
    """Return the CPU time of this process a token, in microseconds."""
    go, loop = asyncio.Event(), asyncio.get_running_loop()
    ended = []

    def on_next(frame: Frame) -> None:
        _ = frame.sse

    for number in range(_STREAMS):
        stream_id = f"s{number}"
        story = from_async(lambda: _say(go)).pipe(ops.track(registry, stream_id))
        await own.begin(partial(_itself, story), stream_id)
        done = asyncio.Event()
        frames = await other.read(stream_id)
        frames.subscribe(on_next, on_completed=done.set, scheduler=StreamScheduler(loop, Valve()))
        ended.append(done.wait())
    await asyncio.sleep(0.1)
    started = time.process_time()
    go.set()
    await asyncio.gather(*ended)
    return (time.process_time() - started) / _ALL * 1e6


def in_memory() -> float:
    """Measure the store in memory."""

    async def work() -> float:
        registry = ops.StreamRegistry(max_idle=None)
        store = MemoryStreams(registry, _LIMITS)
        cost = await _cost(store, registry, store)
        await store.close()
        return cost

    return asyncio.run(work())


def through_redis(url: str) -> Callable[[], float]:
    """Measure an owner, a replica, and its reader."""

    async def work() -> float:
        redis.Redis.from_url(url).flushall()
        registries = ops.StreamRegistry(max_idle=None), ops.StreamRegistry(max_idle=None)
        own, other = [RedisStreams(url, each, _LIMITS) for each in registries]
        await own.start()
        await other.start()
        cost = await _cost(own, registries[0], other)
        await own.close()
        await other.close()
        return cost

    return lambda: asyncio.run(work())


def _of_redis(server: RedisServer, what: str) -> Callable[[], float]:
    """Measure the CPU time (us) or the memory (bytes) of Redis a token, by a run of its own."""

    def measure() -> float:
        server.client.flushall()
        before = _info(server, what)
        through_redis(server.url)()
        return (_info(server, what) - before) / _ALL

    return measure


def _info(server: RedisServer, what: str) -> float:
    found = server.client.info()
    if what == "memory":
        return float(found["used_memory"])
    return float(found["used_cpu_user"] + found["used_cpu_sys"]) * 1e6


def benchmarks() -> Iterator[Result]:
    if PROGRAM is None:
        print("redis-server is not installed: skipping its benchmarks", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        yield compare(
            f"a token through Redis to a reader of another server, {_STREAMS} streams of "
            "100 tokens/s, both servers",
            through_redis(server.url),
            in_memory,
            unit="us per token",
            limit=1.6,
            kind="at most",
            rounds=5,
        )
        for what, unit, budget in (("cpu", "us per token", 8.0), ("memory", "B per token", 30.0)):
            yield compare(
                f"the same in Redis, {what}",
                _of_redis(server, what),
                lambda budget=budget: budget,  # type: ignore[misc]
                unit=unit,
                limit=1.0,
                kind="at most",
                rounds=3,
            )
