"""`RedisPool`: at most N streams at once in all processes, first come, first served."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Progress, Token
from rxllm.errors import NoEventLoopError, PoolFullError, StoreUnavailableError, classify_error
from rxllm.models.scripted import ScriptedModel
from rxllm.redis import RedisConnections, RedisPool
from rxllm.stream import Stream
from rxllm.testing import Marbles, no_leaks
from tests.redis import pool_worker
from tests.redis.server import RedisServer
from tests.redis.streams import Gate, eventually

HOLDERS, QUEUE = "rx:{pool:x}", "rx:{pool:x}:q"


def pool(connections: RedisConnections, limit: int = 1, **options: Any) -> RedisPool:
    return RedisPool(connections, "x", limit, **{"lease": 0.6, **options})


def start(stream: Stream[Any], pool: RedisPool, **options: Any) -> asyncio.Task[Any]:
    async def ask() -> Any:
        return await stream.pipe(ops.limit_concurrency(pool, **options))

    return asyncio.create_task(ask())


async def test_a_stream_runs_in_a_slot_and_leaves_nothing(
    server: RedisServer, connections: RedisConnections
) -> None:
    async with no_leaks():
        gate, slots = Gate(), pool(connections)
        asked = start(gate.stream(), slots)
        await eventually(lambda: gate.running)
        assert server.client.zcard(HOLDERS) == slots.active == 1
        gate.opened.set()
        assert (await asked).text == "a"
        # The sink has waited for it.
        assert server.client.zcard(HOLDERS) == slots.active == 0


async def test_a_slot_passes_from_one_process_to_another(
    server: RedisServer, connections: RedisConnections
) -> None:
    async with RedisConnections(server.url) as others:
        mine, theirs = pool(connections, lease=60), pool(others, lease=60)
        first, second = Gate(), Gate()
        asked = start(first.stream(), mine)
        await eventually(lambda: first.running)
        waiting = start(second.stream(), theirs)
        await eventually(lambda: server.client.zcard(QUEUE))
        assert (mine.active, theirs.waiting, second.begun) == (1, 1, 0)
        first.opened.set()
        second.opened.set()
        begun = time.monotonic()
        await asyncio.gather(asked, waiting)
        assert time.monotonic() - begun < 5  # by a message, not by a renewal after 20 s


async def test_streams_are_first_come_first_served_among_processes(
    server: RedisServer, connections: RedisConnections
) -> None:
    async with RedisConnections(server.url) as others:
        pools = [pool(connections), pool(others)]
        gate, holder = Gate(), Gate()
        gate.opened.set()
        held = start(holder.stream(), pools[0])
        await eventually(lambda: holder.running)
        asked = []
        for number in range(10):
            asked.append(start(gate.stream(number), pools[number * 7 % 3 % 2]))
            await eventually(lambda: server.client.zcard(QUEUE) == len(asked))
        holder.opened.set()
        await asyncio.gather(held, *asked)
        assert gate.order == list(range(10))


async def worker(server: RedisServer, *arguments: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", pool_worker.__name__, server.url, *arguments]
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)


async def test_never_above_the_limit_in_three_processes_of_which_one_is_killed(
    server: RedisServer,
) -> None:
    workers = [await worker(server, str(each), "3", "8") for each in range(3)]
    await eventually(lambda: all(server.client.hexists("live", str(each)) for each in range(3)), 30)
    await asyncio.sleep(0.5)
    workers[0].kill()
    await workers[0].communicate()
    server.client.hdel("live", "0")  # its streams run no longer
    done = [await each.communicate() for each in workers[1:]]
    for output, _ in done:
        streams, over = map(int, output.split())
        assert over == 0
        assert streams > 50
    await eventually(lambda: not server.client.zcard("rx:{pool:shared}"))


async def test_slots_and_places_of_a_killed_process_are_free_after_the_lease(
    server: RedisServer, connections: RedisConnections
) -> None:
    process = await worker(server, "0", "60", "9")
    slots = RedisPool(connections, "shared", pool_worker.LIMIT, lease=pool_worker.LEASE)
    await eventually(lambda: server.client.zcard("rx:{pool:shared}:q"), 30)
    process.kill()
    await process.communicate()
    begun = time.monotonic()
    gate = Gate()
    gate.opened.set()
    assert (await start(gate.stream(), slots)).text == "a"
    assert time.monotonic() - begun < pool_worker.LEASE * 4 / 3 + 0.5


async def test_a_full_queue_refuses(server: RedisServer, connections: RedisConnections) -> None:
    slots, gate = pool(connections, queue=1), Gate()
    asked = [start(gate.stream(), slots)]
    await eventually(lambda: gate.running)
    asked.append(start(gate.stream(), slots))
    await eventually(lambda: slots.waiting == 1)
    with pytest.raises(PoolFullError, match="all 1 slots are taken and 1 streams wait"):
        await start(gate.stream(), slots)
    assert server.client.zcard(QUEUE) == 1
    gate.opened.set()
    await asyncio.gather(*asked)


async def test_a_pool_without_a_queue(connections: RedisConnections) -> None:
    slots, gate = pool(connections, queue=0), Gate()
    asked = start(gate.stream(), slots)
    await eventually(lambda: gate.running)
    with pytest.raises(PoolFullError):
        await start(gate.stream(), slots)
    gate.opened.set()
    await asked


async def test_a_stream_waits_for_its_slot_only_so_long(
    server: RedisServer, connections: RedisConnections
) -> None:
    slots, gate = pool(connections, wait=0.1), Gate()
    asked = start(gate.stream(), slots)
    await eventually(lambda: gate.running)
    with pytest.raises(PoolFullError, match=r"within 0\.1 s"):
        await start(gate.stream(), slots)
    assert server.client.zcard(QUEUE) == 0
    gate.opened.set()
    await asked


async def test_a_stream_that_is_disposed_while_it_waits_leaves_the_queue(
    server: RedisServer, connections: RedisConnections
) -> None:
    async with no_leaks():
        slots, gate = pool(connections), Gate()
        asked = [start(gate.stream(number), slots) for number in range(3)]
        await eventually(lambda: gate.running and slots.waiting == 2)
        asked[1].cancel()
        await eventually(lambda: server.client.zcard(QUEUE) == 1)
        gate.opened.set()
        await asyncio.gather(asked[0], asked[2])
        assert gate.order == [0, 2]


@pytest.mark.parametrize("error", [ValueError("broken")])
async def test_an_error_releases_the_slot(
    server: RedisServer, connections: RedisConnections, error: Exception
) -> None:
    with pytest.raises(ValueError, match="broken"):
        await start(ScriptedModel([error]).stream("Hi"), pool(connections))
    assert server.client.zcard(HOLDERS) == 0


async def test_a_slot_is_held_for_longer_than_its_lease(
    server: RedisServer, connections: RedisConnections
) -> None:
    slots, gate = pool(connections, lease=0.3), Gate()
    asked = [start(gate.stream(), slots) for _ in range(2)]
    await asyncio.sleep(1)
    assert (gate.running, slots.waiting, server.client.zcard(QUEUE)) == (1, 1, 1)
    gate.opened.set()
    await asyncio.gather(*asked)


async def test_a_waiting_stream_reports_its_place_and_its_wait(
    connections: RedisConnections,
) -> None:
    slots, gate = pool(connections, lease=0.3), Gate()
    waited: list[float] = []
    asked = start(gate.stream(), slots)
    await eventually(lambda: gate.running)
    chunks: list[Any] = []
    waiting = gate.stream().pipe(
        ops.limit_concurrency(slots, progress=True, on_admit=waited.append)
    )
    waiting.subscribe(chunks.append)
    await eventually(lambda: chunks)
    assert (chunks[0].stage, chunks[0].place) == ("queue", 1)
    gate.opened.set()
    await asked
    await eventually(lambda: Token("a") in chunks)
    assert [each.place for each in chunks if isinstance(each, Progress)] == [1, 0]
    assert waited[0] > 0.4


async def test_a_wait_for_a_slot_does_not_count_as_the_models(
    connections: RedisConnections,
) -> None:
    slots, gate = pool(connections), Gate()
    asked = start(gate.stream(), slots)
    await eventually(lambda: gate.running)
    later = Gate()
    later.opened.set()
    limited = later.stream().pipe(ops.limit_concurrency(slots), ops.timeouts(first=0.2))
    waiting = asyncio.create_task(_collect(limited))
    await asyncio.sleep(0.4)
    gate.opened.set()
    await asked
    assert (await waiting).text == "a"


async def _collect(stream: Stream[Any]) -> Any:
    return await stream


async def test_a_lost_message_costs_a_third_of_a_lease(
    server: RedisServer, connections: RedisConnections
) -> None:
    slots, gate = pool(connections), Gate()
    asked = [start(gate.stream(), slots) for _ in range(2)]
    await eventually(lambda: server.client.pubsub_channels("rx:{pool:x}:*"))
    server.client.publish(server.client.pubsub_channels()[0], "a/0")  # of nobody
    for client in server.client.client_list(_type="pubsub"):
        server.client.client_kill_filter(_id=client["id"])
    gate.opened.set()
    await asyncio.gather(*asked)


async def test_every_key_expires_and_none_holds_text(
    server: RedisServer, connections: RedisConnections
) -> None:
    slots, model = pool(connections), ScriptedModel(["sesame", " seed"], delay=0.3)
    asked = [start(model.stream("open sesame"), slots) for _ in range(2)]
    await eventually(lambda: server.client.zcard(QUEUE))
    assert len(server.all_keys()) == 5
    assert all(server.client.pttl(key) <= 61_000 for key in server.all_keys())
    assert not server.keys_without_expiry()
    assert b"sesame" not in server.content()
    await asyncio.gather(*asked)


async def test_after_a_restart_of_redis_running_streams_hold_their_slots_again(
    own_server: RedisServer,
) -> None:
    async with RedisConnections(own_server.url) as connections:
        slots, gate = pool(connections), Gate()
        asked = [start(gate.stream(), slots) for _ in range(3)]
        await eventually(lambda: gate.running and own_server.client.zcard(QUEUE) == 2)
        own_server.stop()
        own_server.start()
        await eventually(
            lambda: own_server.client.zcard(HOLDERS) == 1 and own_server.client.zcard(QUEUE) == 2
        )
        assert gate.begun == 1
        gate.opened.set()
        await asyncio.gather(*asked)
        await eventually(lambda: not own_server.client.zcard(HOLDERS))


async def test_while_redis_is_down_new_streams_fail_and_running_ones_go_on(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisConnections(own_server.url) as connections, no_leaks():
        slots, gate = pool(connections), Gate()
        asked = start(gate.stream(), slots)
        await eventually(lambda: gate.running)
        own_server.stop()
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="Redis can't be reached") as caught:
                await start(gate.stream(), slots)
            assert classify_error(caught.value) == "retry"
        gate.opened.set()
        assert (await asked).text == "a"
        own_server.start()
        assert (await start(gate.stream(), slots)).text == "a"
        messages = [record.getMessage() for record in caplog.records]
        assert [message.split(" is ")[1].split(" (")[0] for message in messages] == [
            "unavailable",
            "available again",
        ]


async def test_a_redis_that_hangs_fails_new_streams_after_the_timeout(
    own_server: RedisServer,
) -> None:
    async with RedisConnections(own_server.url, timeout=0.3) as connections, no_leaks():
        slots, gate = pool(connections), Gate()
        gate.opened.set()
        await start(gate.stream(), slots)
        own_server.hang()
        begun = time.monotonic()
        with pytest.raises(StoreUnavailableError, match=r"didn't answer in 0\.3 s"):
            await start(gate.stream(), slots)
        assert time.monotonic() - begun < 1.5
        with pytest.raises(StoreUnavailableError):
            await start(gate.stream(), slots)
        assert time.monotonic() - begun < 1.5  # it isn't asked again for a moment
        own_server.go_on()
        await asyncio.sleep(0.5)
        assert (await start(gate.stream(), slots)).text == "a"
        await eventually(lambda: not own_server.client.zcard(HOLDERS))


@pytest.mark.parametrize("seed", range(3))
async def test_cancelled_at_random_times_no_slot_stays_taken_and_close_returns(
    server: RedisServer, seed: int
) -> None:
    chance = random.Random(seed)
    connections = RedisConnections(server.url)
    slots = pool(connections, limit=3, lease=60)
    async with no_leaks():
        for _ in range(5):
            model = ScriptedModel(["a", "b"], delay=0.003)
            asked = [start(model.stream("Hi"), slots) for _ in range(20)]
            for _each in asked:
                await asyncio.sleep(chance.uniform(0, 0.003))
                if chance.random() < 0.8:
                    chance.choice(asked).cancel()
            for each in asked[::2]:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        await eventually(lambda: not server.client.zcard(HOLDERS), 5)
        assert server.client.zcard(QUEUE) == slots.active == slots.waiting == 0
        async with asyncio.timeout(5):
            await connections.close()


async def test_close_returns_while_redis_hangs_and_streams_wait(own_server: RedisServer) -> None:
    async with no_leaks():
        slots = RedisPool(own_server.url, "x", 1, lease=0.3)
        gate = Gate()
        asked = [start(gate.stream(), slots) for _ in range(3)]
        await eventually(lambda: gate.running and slots.waiting == 2)
        own_server.hang()
        asked.append(start(gate.stream(), slots))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await slots.close()
        with pytest.raises(StoreUnavailableError, match="the connections were closed"):
            await asked[-1]
        for each in asked[1:3]:
            with pytest.raises(StoreUnavailableError, match="the connections were closed"):
                await each
        gate.opened.set()
        assert (await asked[0]).text == "a"
        own_server.go_on()


def test_one_pool_serves_streams_of_many_loops(server: RedisServer) -> None:
    slots, most = RedisPool(server.url, "x", 3), 0

    def look(_: object) -> None:
        nonlocal most
        most = max(most, slots.active)

    def ask(_: int) -> str:
        model = ScriptedModel(["a", "b", "c"], delay=0.001)
        measured = ops.measure(look)
        return rxllm.run(model.stream("Hi").pipe(ops.limit_concurrency(slots), measured)).text

    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(ask, range(40))) == ["abc"] * 40
    assert (slots.active, slots.waiting, server.client.zcard(HOLDERS)) == (0, 0, 0)
    assert most <= 3


async def test_prompts_in_parallel(connections: RedisConnections) -> None:
    model = ScriptedModel(["a"], delay=0.01)
    answered = await ops.parallel(["p", "q", "r"], model, pool(connections, limit=2))
    assert sorted(answered.text) == ["a", "a", "a"]


def test_without_an_event_loop_the_error_says_so(marbles: Marbles, server: RedisServer) -> None:
    slots = RedisPool(server.url, "x", 1)
    ((_, error),) = marbles.run(marbles.cold("a|").pipe(ops.limit_concurrency(slots)))
    assert isinstance(error, NoEventLoopError)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"limit": 0}, ValueError, "limit"),
        ({"queue": -1}, ValueError, "queue"),
        ({"wait": 0}, ValueError, "wait"),
        ({"lease": 0}, ValueError, "lease"),
        ({"limiter": 5}, TypeError, "limiter must be a RateLimiter or None, got int"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"name": "a{b}"}, ValueError, "name must not be empty or contain a brace"),
        ({"name": "\ud800"}, ValueError, "name must be valid Unicode"),
        ({"name": 5}, TypeError, "name must be a string, got 5"),
        ({"server": "http://nowhere"}, ValueError, "Redis URL"),
        ({"server": 5}, TypeError, "server must be a URL or a redis.asyncio.Redis, got int"),
    ],
)
def test_bad_arguments(bad: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"server": "redis://127.0.0.1", "name": "x", "limit": 1, **bad}
    with pytest.raises(error, match=message):
        RedisPool(**arguments)
