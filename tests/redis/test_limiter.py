"""`RedisLimiter`: requests and tokens a minute, of all processes together."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm import from_async
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, RateLimit, RateLimits, Start, Token, Usage
from rxllm.errors import NoEventLoopError, PoolFullError, RateLimitError
from rxllm.models.scripted import ScriptedModel
from rxllm.redis import RedisConnections, RedisLimiter, RedisPool
from rxllm.redis.allowance import Allowance
from rxllm.stream import Stream
from rxllm.testing import Marbles, no_leaks
from tests.redis.server import RedisServer
from tests.redis.streams import Gate, eventually, start

KEY = "rx:{rate:x}"


def slow(connections: RedisConnections, **options: Any) -> RedisLimiter:
    """A limiter that permits two requests at once and one a second."""
    return RedisLimiter(connections, "x", **{"requests": 60, "burst": 2.0, **options})


def said(*chunks: Chunk) -> Stream[Chunk]:
    async def answer() -> AsyncIterator[Chunk]:
        for chunk in chunks:
            yield chunk

    return from_async(answer)


HELLO = said(Start("r", "m"), Token("a"), End("stop"))


async def test_three_processes_together_keep_to_the_rate(server: RedisServer) -> None:
    """Of 100 a second, and 20 at once."""
    connections = [RedisConnections(server.url) for _ in range(3)]
    limiters = [RedisLimiter(each, "x", requests=6000, burst=0.2) for each in connections]
    begun, started = time.monotonic(), []

    async def source() -> AsyncIterator[Chunk]:
        started.append(time.monotonic() - begun)
        yield Start("r", "m")
        yield End("stop")

    asked = [start(from_async(source), ops.limit(limiters[each % 3])) for each in range(150)]
    await asyncio.gather(*asked)
    assert started == sorted(started)
    assert [at for at, each in enumerate(started) if at + 1 > 20 + 100 * each] == []
    assert started[-1] < 2.6  # 1.3 s on an idle machine
    for each in connections:
        await each.close()


async def test_streams_start_in_the_order_of_their_subscriptions(
    connections: RedisConnections,
) -> None:
    async with no_leaks():
        limiter, gate = RedisLimiter(connections, "x", requests=6000, burst=0.01), Gate()
        gate.opened.set()
        asked = [start(gate.stream(number), ops.limit(limiter)) for number in range(20)]
        await asyncio.gather(*asked)
        assert gate.order == list(range(20))
        assert limiter.waiting == 0


async def test_tokens_are_counted_as_expected_and_corrected_at_the_end(
    server: RedisServer, connections: RedisConnections
) -> None:
    """2,000 at once and 1,000 a second; 1,000 are expected of the first stream."""
    limiter = RedisLimiter(connections, "x", tokens=60_000, burst=2.0)
    answer = said(Start("r", "m"), Token("a"), Usage(90, 10), End("stop"))
    begun = time.monotonic()
    await start(answer, ops.limit(limiter))
    now = server.client.time()
    ahead = float(server.client.hget(KEY, "tokens") or 0) / 1e6 - now[0] - now[1] / 1e6
    assert 0.1 - (time.monotonic() - begun) <= ahead <= 0.1  # of 100 tokens
    await asyncio.gather(*[start(answer, ops.limit(limiter)) for _ in range(5)])
    assert time.monotonic() - begun < 2


async def test_more_tokens_than_may_be_used_at_once_are_permitted_when_all_have_come_back(
    connections: RedisConnections,
) -> None:
    limiter = RedisLimiter(connections, "x", tokens=120_000, burst=0.1)
    begun = time.monotonic()
    await start(HELLO, ops.limit(limiter))
    assert time.monotonic() - begun < 0.4
    await start(HELLO, ops.limit(limiter))
    assert 0.4 < time.monotonic() - begun < 1.5


@pytest.mark.parametrize(
    "answer",
    [
        ScriptedModel([RateLimitError("slow down", retry_after=0.5)]).stream("Hi"),
        said(
            Start("r", "m", rate_limits=RateLimits(RateLimit(0, 10, 0.5))),
            Token("a"),
            End("stop"),
        ),
    ],
    ids=["refusal", "headers"],
)
async def test_a_pause_that_the_provider_asks_for_holds_all_processes(
    server: RedisServer, connections: RedisConnections, answer: Stream[Chunk]
) -> None:
    limiter = RedisLimiter(connections, "x", requests=6000)
    begun = time.monotonic()
    await asyncio.gather(start(answer, ops.limit(limiter)), return_exceptions=True)
    await eventually(lambda: server.client.hexists(KEY, "until"))
    async with RedisConnections(server.url) as others:
        await start(HELLO, ops.limit(RedisLimiter(others, "x", requests=6000)))
        assert 0.5 <= time.monotonic() - begun < 1.5


async def test_a_pause_without_a_time_doubles_with_each_refusal(
    server: RedisServer, connections: RedisConnections
) -> None:
    limiter = RedisLimiter(connections, "x", requests=6000, wait=1.0)
    refusing = ScriptedModel([RateLimitError("slow down")])
    with pytest.raises(RateLimitError):
        await start(refusing.stream("Hi"), ops.limit(limiter))
    assert 1500 < server.client.pttl(KEY) <= 2000
    server.client.delete(KEY)
    with pytest.raises(RateLimitError):
        await start(refusing.stream("Hi"), ops.limit(limiter))
    assert 2500 < server.client.pttl(KEY) <= 3000


async def test_a_stream_waits_only_so_long(connections: RedisConnections) -> None:
    async with no_leaks():
        limiter = slow(connections, burst=1.0, wait=0.1)
        await start(HELLO, ops.limit(limiter))
        with pytest.raises(PoolFullError, match=r"permitted no request within 0\.1 s"):
            await start(HELLO, ops.limit(limiter))
        assert limiter.waiting == 0


async def test_a_stream_that_is_disposed_while_it_waits_uses_nothing(
    server: RedisServer, connections: RedisConnections
) -> None:
    async with no_leaks():
        limiter, gate = slow(connections), Gate()
        gate.opened.set()
        asked = [start(gate.stream(number), ops.limit(limiter)) for number in range(5)]
        await eventually(lambda: limiter.waiting == 3)
        used = server.client.hget(KEY, "requests")
        asked[2].cancel()
        asked[4].cancel()
        await eventually(lambda: limiter.waiting == 1)
        assert server.client.hget(KEY, "requests") == used
        await asyncio.gather(asked[0], asked[1], asked[3])
        assert gate.order == [0, 1, 3]


async def test_in_the_slots_of_a_pool(connections: RedisConnections) -> None:
    limiter = RedisLimiter(connections, "x", requests=6000, burst=0.01)
    slots = RedisPool(connections, "x", 2, limiter=limiter)
    asked = [start(HELLO, ops.limit_concurrency(slots)) for _ in range(5)]
    assert [each.text for each in await asyncio.gather(*asked)] == ["a"] * 5


async def test_every_key_expires_and_none_holds_text(
    server: RedisServer, connections: RedisConnections
) -> None:
    await start(ScriptedModel("sesame seed").stream("open sesame"), ops.limit(slow(connections)))
    assert server.all_keys() == {KEY}
    assert 0 < server.client.pttl(KEY) <= 2000
    assert b"sesame" not in server.content()


async def test_while_redis_is_away_each_process_keeps_to_the_rate_by_itself(
    own_server: RedisServer,
) -> None:
    async with RedisConnections(own_server.url) as connections, no_leaks():
        limiter = slow(connections)
        await start(HELLO, ops.limit(limiter))
        own_server.stop()
        begun = time.monotonic()
        await start(HELLO, ops.limit(limiter))
        assert time.monotonic() - begun < 0.5
        await start(HELLO, ops.limit(limiter))
        assert 0.5 < time.monotonic() - begun < 2
        own_server.start()
        await start(HELLO, ops.limit(limiter))
        assert own_server.all_keys() == {KEY}


async def test_a_redis_that_hangs_costs_one_timeout(own_server: RedisServer) -> None:
    async with RedisConnections(own_server.url, timeout=0.3) as connections:
        limiter = RedisLimiter(connections, "x", requests=6000)
        await start(HELLO, ops.limit(limiter))
        own_server.hang()
        begun = time.monotonic()
        await asyncio.gather(*[start(HELLO, ops.limit(limiter)) for _ in range(20)])
        assert 0.3 <= time.monotonic() - begun < 1
        own_server.go_on()


async def test_cancelled_at_random_times_nothing_stays(server: RedisServer) -> None:
    chance = random.Random(1)
    connections = RedisConnections(server.url)
    limiter = RedisLimiter(connections, "x", requests=60_000, burst=0.01)
    async with no_leaks():
        asked = [start(HELLO, ops.limit(limiter)) for _ in range(100)]
        for _each in asked:
            await asyncio.sleep(chance.uniform(0, 0.001))
            chance.choice(asked).cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert limiter.waiting == 0
        async with asyncio.timeout(5):
            await connections.close()


def test_without_an_event_loop_the_error_says_so(marbles: Marbles) -> None:
    limiter = RedisLimiter("redis://127.0.0.1", "x", requests=60)
    ((_, error),) = marbles.run(marbles.cold("a|").pipe(ops.limit(limiter)))
    assert isinstance(error, NoEventLoopError)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"requests": None}, TypeError, "give requests, tokens or both"),
        ({"requests": 0}, ValueError, "requests"),
        ({"tokens": -1}, ValueError, "tokens"),
        ({"burst": 0}, ValueError, "burst"),
        ({"wait": 0}, ValueError, "wait"),
        ({"name": ""}, ValueError, "name must not be empty"),
    ],
)
def test_bad_arguments(bad: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"server": "redis://127.0.0.1", "name": "x", "requests": 60, **bad}
    with pytest.raises(error, match=message):
        RedisLimiter(**arguments)


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 500)), max_size=60),
    st.sampled_from([0.1, 1.0, 3.0]),
)
def test_an_allowance_alone_keeps_to_the_rate(asked: list[tuple[float, int]], burst: float) -> None:
    """Of 60 requests and 6,000 tokens a minute."""
    allowance, now = Allowance((60.0, 6000.0), burst), 100.0
    used: list[tuple[float, int]] = []
    for gap, tokens in asked:
        now += gap
        wait = allowance.take(tokens, now)
        if wait == 0:
            used.append((now, tokens))
        else:
            assert allowance.take(tokens, now + wait * 0.99) > 0
    for at, (begin, _) in enumerate(used):
        later = used[at:]
        for end, (time_of, _) in enumerate(later):
            passed = time_of - begin + 1e-6
            assert end + 1 <= max(1, burst + passed) + (burst < 1)
            largest = max(each for _, each in later[: end + 1])
            tokens = sum(each for _, each in later[: end + 1])
            assert tokens <= 100 * (burst + passed) + largest
