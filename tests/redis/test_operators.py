"""The operators with what processes share: each behaves as in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from rxllm import from_async
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Notice, Start, Token
from rxllm.errors import ServerError
from rxllm.models.scripted import ScriptedModel
from rxllm.redis import (
    RedisBreaker,
    RedisCache,
    RedisConnections,
    RedisLimiter,
    RedisPool,
)
from rxllm.testing import no_leaks
from rxllm.valve import StreamScheduler, Valve
from tests.redis.server import RedisServer
from tests.redis.streams import eventually, start

OPERATORS: dict[str, Callable[[RedisConnections], Any]] = {
    "limit_concurrency": lambda redis: ops.limit_concurrency(RedisPool(redis, "x", 1)),
    "limit": lambda redis: ops.limit(RedisLimiter(redis, "x", requests=6000)),
    "circuit_breaker": lambda redis: ops.circuit_breaker(RedisBreaker(redis, "x")),
    "cache": lambda redis: ops.cache(RedisCache(redis, "x"), "key"),
}
HOLDING = [name for name in OPERATORS if name != "cache"]
"""Those that pass demand on; a cache holds the whole answer."""

WITH_RESTART: list[Chunk] = [
    Start("r", "m"),
    Token("a"),
    Notice("restart"),
    Start("r", "m"),
    Token("b"),
    End("stop"),
]


@pytest.fixture(params=OPERATORS)
async def operator(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[Any]:
    async with no_leaks(), RedisConnections(server.url) as connections:
        yield OPERATORS[request.param](connections)


def chunks_of(stream: Any) -> Any:
    async def collect() -> list[Chunk]:
        return [chunk async for chunk in stream]

    return collect()


def said(*chunks: Chunk) -> Any:
    async def answer() -> AsyncIterator[Chunk]:
        for chunk in chunks:
            yield chunk

    return from_async(answer)


async def test_the_stream_passes_unchanged_with_its_restart(operator: Any) -> None:
    assert await chunks_of(said(*WITH_RESTART).pipe(operator)) == WITH_RESTART


async def test_an_empty_stream(operator: Any) -> None:
    assert await chunks_of(said().pipe(operator)) == []


async def test_an_error_follows_the_text(operator: Any) -> None:
    stream = ScriptedModel(["a", ServerError("down")]).stream("Hi").pipe(operator)
    seen: list[Chunk] = []
    with pytest.raises(ServerError, match="down"):
        async for chunk in stream:
            seen.append(chunk)
    assert Token("a") in seen


async def test_each_subscription_runs_again(operator: Any) -> None:
    stream = ScriptedModel(["a", "b"]).stream("Hi").pipe(operator)
    assert [(await start(stream)).text for _ in range(3)] == ["ab"] * 3


async def test_disposal_stops_the_model_at_any_time(operator: Any, server: RedisServer) -> None:
    model = ScriptedModel(["a", "b"], delay=60, first_delay=0)
    for seconds in (0.0, 0.0005, 0.001, 0.002, 0.02):
        asked = start(model.stream("Hi"), operator)
        await asyncio.sleep(seconds)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
    assert model.cancelled == len(model.requests) > 0
    await eventually(lambda: not server.client.zcard("rx:{pool:x}"))


async def test_a_subscriber_that_raises_holds_nothing(operator: Any) -> None:
    def fail(_: object) -> None:
        raise LookupError("of the subscriber")

    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, report: reports.append(report["exception"])
    )
    model = ScriptedModel(["a"])
    model.stream("Hi").pipe(operator).subscribe(fail)
    await eventually(lambda: reports)
    assert isinstance(reports[0], LookupError)
    assert (await start(model.stream("Hi"), operator)).text == "a"


@pytest.mark.parametrize("operator", HOLDING, indirect=True)
async def test_a_closed_valve_holds_the_model_and_not_the_start(operator: Any) -> None:
    pulled: list[int] = []

    async def source() -> AsyncIterator[Chunk]:
        yield Start("r", "m")
        for number in range(100):
            pulled.append(number)
            yield Token(str(number))
        yield End("stop")

    valve = Valve()
    seen: list[Chunk] = []
    valve.close()
    scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
    from_async(source).pipe(operator).subscribe(seen.append, scheduler=scheduler)
    await asyncio.sleep(0.05)
    assert (seen, len(pulled) <= 2) == ([], True)
    valve.open()
    await eventually(lambda: End("stop") in seen)
    assert len(pulled) == 100
    await scheduler.settle()
