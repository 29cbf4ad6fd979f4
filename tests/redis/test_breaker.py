"""`RedisBreaker`: a circuit that opens and closes in all processes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

import rxllm
from rxllm import operators as ops
from rxllm.errors import CircuitOpenError, NoEventLoopError, ServerError
from rxllm.models.scripted import ScriptedModel
from rxllm.redis import RedisBreaker, RedisConnections
from rxllm.requests import ModelInfo
from rxllm.testing import Marbles, no_leaks
from tests.redis.server import RedisServer
from tests.redis.streams import Gate, eventually, start

KEY, FAILURES = "rx:{breaker:x}", "rx:{breaker:x}:f"
DOWN, UP = ScriptedModel([ServerError("sesame")]), ScriptedModel("Hello")

Two = tuple[RedisBreaker, RedisBreaker]


async def fail(breaker: RedisBreaker) -> None:
    with pytest.raises(ServerError):
        await start(DOWN.stream("Hi"), ops.circuit_breaker(breaker))


async def succeed(breaker: RedisBreaker) -> None:
    result = await start(UP.stream("Hi"), ops.circuit_breaker(breaker))
    assert result.text == "Hello"


async def is_refused(breaker: RedisBreaker) -> None:
    with pytest.raises(CircuitOpenError):
        await start(UP.stream("Hi"), ops.circuit_breaker(breaker))


def listening(server: RedisServer, key: str = KEY) -> Callable[[], int]:
    return lambda: int(server.client.pubsub_numsub(key)[0][1])


@pytest.fixture
async def two(server: RedisServer, connections: RedisConnections) -> AsyncIterator[Two]:
    """Two processes that have used their breakers: two failures open, and 0.5 s close."""
    async with RedisConnections(server.url) as others:
        both = [RedisBreaker(each, "x", 2, reset_after=0.5) for each in (connections, others)]
        for each in both:
            await succeed(each)
        await eventually(lambda: listening(server)() == 2)
        yield both[0], both[1]


async def test_failures_of_two_processes_open_the_circuit_of_both(two: Two) -> None:
    await fail(two[0])
    await fail(two[1])
    await eventually(lambda: two[0].state == two[1].state == "open")
    await is_refused(two[0])
    await is_refused(two[1])


async def test_it_opens_elsewhere_at_once(two: Two) -> None:
    await fail(two[0])
    await fail(two[0])
    begun = time.monotonic()
    await eventually(lambda: two[1].state == "open")
    assert time.monotonic() - begun < 0.3
    now = asyncio.get_running_loop().time()
    assert 0.2 < two[1].wait(now) <= 0.5


async def test_a_success_in_any_process_ends_the_row_of_failures(
    server: RedisServer, two: Two
) -> None:
    await fail(two[0])
    await eventually(lambda: two[1]._have_failed)
    await succeed(two[1])
    await eventually(lambda: not two[0]._have_failed)
    assert not server.all_keys()
    await fail(two[0])
    assert two[0].state == two[1].state == "closed"


async def test_failures_further_apart_than_the_window_do_not_count(
    connections: RedisConnections,
) -> None:
    breaker = RedisBreaker(connections, "x", 2, window=0.1)
    for _ in range(2):
        await fail(breaker)
        await asyncio.sleep(0.15)
    assert breaker.state == "closed"


async def test_the_success_of_a_probe_closes_the_circuit_of_both(two: Two) -> None:
    await fail(two[0])
    await fail(two[1])
    await eventually(lambda: two[0].state == two[1].state == "open")
    await asyncio.sleep(0.6)
    await succeed(two[0])
    await eventually(lambda: two[0].state == two[1].state == "closed")
    await succeed(two[1])


async def test_the_failure_of_a_probe_opens_it_again_in_both(server: RedisServer, two: Two) -> None:
    await fail(two[0])
    await fail(two[1])
    await eventually(lambda: two[0].state == two[1].state == "open")
    await asyncio.sleep(0.6)
    await fail(two[0])
    await eventually(lambda: server.client.exists(KEY))
    await eventually(lambda: two[1].wait(asyncio.get_running_loop().time()) > 0.2)
    await is_refused(two[1])


async def test_a_new_process_learns_that_the_circuit_is_open(server: RedisServer, two: Two) -> None:
    await fail(two[0])
    await fail(two[1])
    async with RedisConnections(server.url) as third:
        breaker = RedisBreaker(third, "x", 2, reset_after=60)
        await succeed(breaker)  # it doesn't wait for Redis
        await eventually(lambda: breaker.state == "open")


async def test_two_breakers_of_one_name_share_connections(connections: RedisConnections) -> None:
    breakers = [RedisBreaker(connections, "x", 2) for _ in range(2)]
    for each in breakers:
        await succeed(each)
    for each in breakers:
        await fail(each)
    await eventually(lambda: breakers[0].state == breakers[1].state == "open")


async def test_every_key_expires_and_none_holds_text(server: RedisServer, two: Two) -> None:
    await fail(two[0])
    await eventually(server.all_keys)
    assert server.all_keys() == {FAILURES}
    assert 0 < server.client.pttl(FAILURES) <= 61_000
    assert b"sesame" not in server.content()
    await fail(two[0])
    await eventually(lambda: server.all_keys() == {KEY})
    assert server.client.pttl(KEY) <= 500
    assert not server.keys_without_expiry()
    assert b"sesame" not in server.content()


async def test_while_redis_is_away_a_process_goes_by_its_own_failures(
    own_server: RedisServer,
) -> None:
    async with (
        RedisConnections(own_server.url) as connections,
        RedisConnections(own_server.url) as others,
    ):
        mine, theirs = (RedisBreaker(each, "x", 2) for each in (connections, others))
        await succeed(mine)
        await succeed(theirs)
        own_server.stop()
        await fail(mine)
        await succeed(theirs)
        await fail(mine)
        assert (mine.state, theirs.state) == ("open", "closed")
        await is_refused(mine)
        own_server.start()
        await eventually(lambda: listening(own_server)() == 2)
        for _ in range(2):
            await fail(theirs)
        await eventually(lambda: own_server.client.exists(KEY))


async def test_what_others_have_found_while_a_process_was_cut_off_is_taken_over(
    server: RedisServer, two: Two
) -> None:
    long = [RedisBreaker(each._connections, "y", 2, reset_after=60) for each in two]
    for each in long:
        await succeed(each)
    key = "rx:{breaker:y}"
    await eventually(lambda: listening(server, key)() == 2)
    for client in server.client.client_list(_type="pubsub"):
        server.client.client_kill_filter(_id=client["id"])
    await fail(long[0])
    await fail(long[0])
    await eventually(lambda: long[1].state == "open")


async def test_a_redis_that_hangs_delays_no_stream(own_server: RedisServer) -> None:
    async with RedisConnections(own_server.url) as connections:
        breaker = RedisBreaker(connections, "x", 2)
        await succeed(breaker)
        own_server.hang()
        begun = time.monotonic()
        await fail(breaker)
        await fail(breaker)
        await is_refused(breaker)
        assert time.monotonic() - begun < 1
        own_server.go_on()


async def test_a_probe_that_is_disposed_makes_room_for_the_next(two: Two) -> None:
    await fail(two[0])
    await fail(two[0])
    await asyncio.sleep(0.6)
    gate = Gate()
    probe = start(ScriptedModel(["a"], delay=60).stream("Hi"), ops.circuit_breaker(two[0]))
    await asyncio.sleep(0)
    await eventually(lambda: two[0].state == "half_open")
    await is_refused(two[0])
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    gate.opened.set()
    await succeed(two[0])


async def test_routers_of_two_processes_share_the_circuit_of_each_model(
    server: RedisServer, connections: RedisConnections
) -> None:
    large = ScriptedModel("Hello", [ServerError("down")], "Hello", name="large")
    small = ScriptedModel("Hello", name="small")
    breakers: list[RedisBreaker] = []

    def breaker_of(info: ModelInfo, connections: RedisConnections) -> RedisBreaker:
        breakers.append(RedisBreaker(connections, info.id, failures=1, reset_after=60))
        return breakers[-1]

    async with RedisConnections(server.url) as others:
        mine, theirs = (
            rxllm.Router(
                [large, small],
                "quality",
                settings=rxllm.Settings(attempts=1),
                breaker_of=partial(breaker_of, connections=each),
            )
            for each in (connections, others)
        )
        assert (await start(theirs.stream("Hi"))).model == "large"
        assert (await start(mine.stream("Hi"))).model == "small"
        await eventually(lambda: [each.state for each in breakers] == ["open", "closed"] * 2)
        assert (await start(theirs.stream("Hi"))).model == "small"
        assert [len(large.requests), len(small.requests)] == [2, 2]


async def test_close_ends_all_that_was_started(server: RedisServer) -> None:
    async with no_leaks():
        breaker = RedisBreaker(server.url, "x", 1)
        await fail(breaker)
        await eventually(lambda: listening(server)() == 1)
        await breaker.close()
        await breaker.close()
    async with no_leaks(), RedisConnections(server.url) as connections:
        breaker = RedisBreaker(connections, "x", 1)
        await fail(breaker)
        await breaker.close()
    await eventually(lambda: listening(server)() == 0)


async def test_cancelled_at_random_times_nothing_stays(server: RedisServer) -> None:
    chance = random.Random(1)
    async with no_leaks():
        breaker = RedisBreaker(server.url, "x", 3)
        gated = ops.circuit_breaker(breaker)
        asked = [start(chance.choice([UP, DOWN]).stream("Hi"), gated) for _ in range(60)]
        for _each in asked:
            await asyncio.sleep(chance.uniform(0, 0.001))
            chance.choice(asked).cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        async with asyncio.timeout(5):
            await breaker.close()


def test_without_an_event_loop_the_error_says_so(marbles: Marbles) -> None:
    breaker = RedisBreaker("redis://127.0.0.1", "x")
    ((_, error),) = marbles.run(marbles.cold("a|").pipe(ops.circuit_breaker(breaker)))
    assert isinstance(error, NoEventLoopError)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"failures": 0}, ValueError, "failures"),
        ({"window": 0}, ValueError, "window"),
        ({"reset_after": 0}, ValueError, "reset_after"),
        ({"name": "}"}, ValueError, "name must not be empty or contain a brace"),
        ({"server": None}, TypeError, "server must be a URL"),
    ],
)
def test_bad_arguments(bad: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"server": "redis://127.0.0.1", "name": "x", **bad}
    with pytest.raises(error, match=message):
        RedisBreaker(**arguments)
