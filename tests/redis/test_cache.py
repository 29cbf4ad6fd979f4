"""`RedisCache`: one process asks, and the others get its answer."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rxllm import Token, from_async
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Start
from rxllm.errors import NoEventLoopError, ServerError
from rxllm.models.scripted import ScriptedModel
from rxllm.redis import RedisCache, RedisConnections
from rxllm.testing import Marbles, no_leaks
from rxllm.valve import StreamScheduler, Valve
from tests.redis import cache_worker
from tests.redis.server import RedisServer
from tests.redis.streams import Gate, eventually, start

ANSWER = "rx:{cache:x:" + hashlib.sha256(b"key").hexdigest() + "}"
ASKED = ANSWER + ":a"


@pytest.fixture
def mine(connections: RedisConnections) -> RedisCache:
    return RedisCache(connections, "x", lease=0.6)


@pytest.fixture
async def theirs(server: RedisServer) -> AsyncIterator[RedisCache]:
    """The cache of another process."""
    async with RedisConnections(server.url) as others:
        yield RedisCache(others, "x", lease=0.6)


async def test_an_answer_is_stored_and_replayed_in_another_process(
    server: RedisServer, mine: RedisCache, theirs: RedisCache
) -> None:
    async with no_leaks():
        model = ScriptedModel(["a", "b"], delay=0.01)
        first = await start(model.stream("Hi"), ops.cache(mine, "key"))
        # The sink has waited for it.
        assert server.all_keys() == {ANSWER}
        second = await start(model.stream("Hi"), ops.cache(theirs, "key"))
        assert (first.text, second.text, len(model.requests)) == ("ab", "ab", 1)
        assert (first.model, first.finish_reason) == (second.model, second.finish_reason)
        assert (mine.misses, theirs.hits, mine.under_way, mine.lookups) == (1, 1, {}, {})


async def test_at_once_in_two_processes_one_asks(mine: RedisCache, theirs: RedisCache) -> None:
    model = ScriptedModel(["a", "b", "c"], delay=0.05)
    asked = [
        start(model.stream("Hi"), ops.cache(store, "key"))
        for store in (mine, theirs, mine, theirs, theirs)
    ]
    assert [each.text for each in await asyncio.gather(*asked)] == ["abc"] * 5
    assert len(model.requests) == 1


async def test_streams_of_the_process_that_asks_get_the_answer_as_it_comes(
    mine: RedisCache,
) -> None:
    gate = Gate()
    chunks: list[Chunk] = []
    first = start(gate.stream(), ops.cache(mine, "key"))
    await eventually(lambda: gate.running)
    gate.stream().pipe(ops.cache(mine, "key")).subscribe(chunks.append)
    await eventually(lambda: len(chunks) == 2)
    assert gate.begun == 1
    gate.opened.set()
    await first
    await eventually(lambda: chunks[-1] == End("stop"))


async def test_if_the_call_fails_another_process_asks_at_once(
    mine: RedisCache, theirs: RedisCache
) -> None:
    async def failing() -> AsyncIterator[Chunk]:
        yield Start("r", "m")
        await asyncio.sleep(0.1)
        raise ServerError("down")

    begun = time.monotonic()
    asked = start(from_async(failing), ops.cache(mine, "key"))
    await asyncio.sleep(0.05)
    waiting = start(ScriptedModel("Hello").stream("Hi"), ops.cache(theirs, "key"))
    with pytest.raises(ServerError):
        await asked
    assert (await waiting).text == "Hello"
    assert time.monotonic() - begun < 0.5


async def test_if_the_call_is_stopped_another_process_asks_at_once(
    mine: RedisCache, theirs: RedisCache
) -> None:
    async with no_leaks():
        gate, begun = Gate(), time.monotonic()
        asked = start(gate.stream(), ops.cache(mine, "key"))
        await eventually(lambda: gate.running)
        waiting = start(ScriptedModel("Hello").stream("Hi"), ops.cache(theirs, "key"))
        await eventually(lambda: theirs.lookups)
        asked.cancel()
        assert (await waiting).text == "Hello"
        assert time.monotonic() - begun < 0.5
        await asyncio.gather(asked, return_exceptions=True)


async def test_if_the_process_that_asks_dies_another_one_asks_after_the_lease(
    server: RedisServer, theirs: RedisCache
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", cache_worker.__name__, server.url
    )
    await eventually(lambda: server.client.exists(ASKED), 30)
    waiting = start(ScriptedModel("Hello").stream("Hi"), ops.cache(theirs, "key"))
    await asyncio.sleep(1.5)
    assert not waiting.done()  # the lease is renewed
    process.kill()
    await process.wait()
    begun = time.monotonic()
    assert (await waiting).text == "Hello"
    assert time.monotonic() - begun < 1.5
    assert server.all_keys() == {ANSWER}


async def test_a_stream_waits_only_so_long_and_then_asks(
    server: RedisServer, mine: RedisCache
) -> None:
    gate = Gate()
    asked = start(gate.stream(), ops.cache(mine, "key"))
    await eventually(lambda: gate.running)
    async with RedisConnections(server.url) as others:
        store = RedisCache(others, "x", wait=0.2)
        answered = await start(ScriptedModel("Hello").stream("Hi"), ops.cache(store, "key"))
        assert answered.text == "Hello"
    gate.opened.set()
    assert (await asked).text == "a"


async def test_a_wait_for_another_process_does_not_count_as_the_models(
    mine: RedisCache, theirs: RedisCache
) -> None:
    gate = Gate()
    asked = start(gate.stream(), ops.cache(mine, "key"))
    await eventually(lambda: gate.running)
    waiting = start(gate.stream(), ops.cache(theirs, "key"), ops.timeouts(first=0.1))
    await asyncio.sleep(0.3)
    gate.opened.set()
    assert (await waiting).text == "a"
    await asked


async def test_a_replay_waits_for_the_valve(mine: RedisCache) -> None:
    await start(ScriptedModel(["a", "b"]).stream("Hi"), ops.cache(mine, "key"))
    valve = Valve()
    chunks: list[Chunk] = []
    valve.close()
    scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
    stream = Gate().stream().pipe(ops.cache(mine, "key"))
    stream.subscribe(chunks.append, scheduler=scheduler)
    await eventually(lambda: mine.hits)
    await asyncio.sleep(0.02)
    assert not chunks
    valve.open()
    assert Token("a") in chunks


async def test_a_stream_that_leaves_while_it_looks_leaves_nothing(
    own_server: RedisServer,
) -> None:
    async with RedisConnections(own_server.url) as connections, no_leaks():
        store, gate = RedisCache(connections, "x"), Gate()
        await start(ScriptedModel("Hello").stream("Hi"), ops.cache(store, "other"))
        own_server.hang()
        asked = [start(gate.stream(), ops.cache(store, "key")) for _ in range(2)]
        await asyncio.sleep(0.05)
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        own_server.go_on()
        await eventually(lambda: not own_server.client.exists(ASKED))
        assert (gate.begun, store.lookups) == (0, {})


async def test_every_key_expires_and_none_holds_the_prompt(
    server: RedisServer, mine: RedisCache, theirs: RedisCache
) -> None:
    model = ScriptedModel(["seed"], delay=0.1)
    key = ops.cache_key(model, "open sesame")
    asked = start(model.stream("open sesame"), ops.cache(mine, lambda: f"open sesame {key}", 60))
    await eventually(server.all_keys)
    (flight,) = server.all_keys()
    assert server.client.pttl(flight) <= 600
    assert not server.keys_without_expiry()
    await asked
    (answer,) = server.all_keys()
    assert 59_000 < server.client.pttl(answer) <= 60_000
    assert b"sesame" not in server.content()
    assert b"seed" in server.content()
    await start(model.stream("Hi"), ops.cache(theirs, "key", None))
    assert 6 * 86_400_000 < server.client.pttl(ANSWER) <= 7 * 86_400_000


async def test_answers_expire(mine: RedisCache, theirs: RedisCache) -> None:
    model = ScriptedModel("Hello")
    await start(model.stream("Hi"), ops.cache(mine, "key", 0.1))
    await asyncio.sleep(0.15)
    await start(model.stream("Hi"), ops.cache(theirs, "key", 0.1))
    assert len(model.requests) == 2


async def test_an_answer_that_can_not_be_decoded_is_a_miss(
    server: RedisServer, mine: RedisCache, theirs: RedisCache
) -> None:
    server.client.set(ANSWER, b"of another version")
    model = ScriptedModel("Hello")
    for store in (mine, theirs):
        assert (await start(model.stream("Hi"), ops.cache(store, "key"))).text == "Hello"
    assert len(model.requests) == 1


async def test_while_redis_is_down_each_process_asks(own_server: RedisServer) -> None:
    async with RedisConnections(own_server.url) as connections, no_leaks():
        store, model = RedisCache(connections, "x"), ScriptedModel("Hello")
        await start(model.stream("Hi"), ops.cache(store, "key"))
        own_server.stop()
        for _ in range(2):
            assert (await start(model.stream("Hi"), ops.cache(store, "key"))).text == "Hello"
        own_server.start()
        for _ in range(2):
            assert (await start(model.stream("Hi"), ops.cache(store, "key"))).text == "Hello"
        assert len(model.requests) == 4


async def test_a_restart_while_one_asks_and_others_wait(own_server: RedisServer) -> None:
    async with (
        RedisConnections(own_server.url) as connections,
        RedisConnections(own_server.url) as others,
    ):
        mine, theirs = (RedisCache(each, "x", lease=0.6) for each in (connections, others))
        gate = Gate()
        asked = start(gate.stream(), ops.cache(mine, "key"))
        await eventually(lambda: gate.running)
        waiting = start(gate.stream(), ops.cache(theirs, "key"))
        await eventually(lambda: own_server.client.pubsub_channels())
        own_server.stop()
        own_server.start()
        await asyncio.sleep(0.5)
        gate.opened.set()
        assert {(await asked).text, (await waiting).text} == {"a"}
        assert gate.begun <= 2  # the waiting process may have asked while nothing was known


async def test_a_redis_that_hangs_costs_one_timeout(own_server: RedisServer) -> None:
    async with RedisConnections(own_server.url, timeout=0.3) as connections:
        store, model = RedisCache(connections, "x"), ScriptedModel("Hello")
        await start(model.stream("Hi"), ops.cache(store, "key"))
        own_server.hang()
        begun = time.monotonic()
        for _ in range(3):
            assert (await start(model.stream("Hi"), ops.cache(store, "key"))).text == "Hello"
        assert time.monotonic() - begun < 1
        own_server.go_on()


async def test_cancelled_at_random_times_nobody_asks_in_the_end(
    server: RedisServer, mine: RedisCache, theirs: RedisCache
) -> None:
    chance = random.Random(1)
    async with no_leaks():
        for turn in range(20):
            model = ScriptedModel(["a", "b"], delay=0.002)
            asked = [
                start(model.stream("Hi"), ops.cache(store, str(turn)))
                for store in (mine, theirs, mine, theirs)
            ]
            for each in asked:
                await asyncio.sleep(chance.uniform(0, 0.003))
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        await eventually(lambda: not [key for key in server.all_keys() if key.endswith(":a")], 0.4)
        for store in (mine, theirs):
            assert (store.under_way, store.lookups) == ({}, {})


class Failing(ops.AsyncCacheStore):
    """A store of one's own that fails."""

    async def get(self, key: str) -> bytes | None:
        if key == "get":
            raise ConnectionError("no store")
        return None

    async def put(self, key: str, answer: bytes, *, ttl: float | None) -> None:
        raise ConnectionError("no store")

    async def release(self, key: str) -> None:
        raise ConnectionError("no store")


async def test_a_store_that_can_not_be_read_is_the_error_of_all_that_look() -> None:
    store, gate = Failing(), Gate()
    asked = [start(gate.stream(), ops.cache(store, "get")) for _ in range(2)]
    first, second = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, ConnectionError)
    assert isinstance(second, ConnectionError)
    assert first is not second


async def test_a_store_that_can_not_be_written_is_reported_to_the_loop() -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    answered = await start(ScriptedModel("Hello").stream("Hi"), ops.cache(Failing(), "key"))
    assert answered.text == "Hello"
    assert [each["message"] for each in reports] == ["an answer could not be cached"]


def test_without_an_event_loop_the_error_says_so(marbles: Marbles) -> None:
    store = RedisCache("redis://127.0.0.1", "x")
    ((_, error),) = marbles.run(marbles.cold("a|").pipe(ops.cache(store, "key")))
    assert isinstance(error, NoEventLoopError)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"wait": 0}, ValueError, "wait"),
        ({"lease": -1}, ValueError, "lease"),
        ({"longest": 0}, ValueError, "longest"),
        ({"name": "{"}, ValueError, "name must not be empty or contain a brace"),
    ],
)
def test_bad_arguments(bad: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"server": "redis://127.0.0.1", "name": "x", **bad}
    with pytest.raises(error, match=message):
        RedisCache(**arguments)
