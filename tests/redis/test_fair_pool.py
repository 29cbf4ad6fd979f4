"""The queue of a `RedisPool` is as fair among clients as that of a `Pool`."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rxllm.errors import PoolFullError
from rxllm.operators import Pool
from rxllm.redis import RedisConnections
from rxllm.redis.pool_scripts import ENTER, LEAVE, RENEW
from rxllm.redis.scripts import Script
from tests.redis.server import RedisServer
from tests.redis.streams import Gate, eventually
from tests.redis.test_pool import QUEUE, pool, start

KEYS = ["rx:{pool:p}", *(f"rx:{{pool:p}}:{each}" for each in "qwnc")]


class Waiting:
    """A stream of a pool."""

    is_stranded = False

    def __init__(self, number: int, client: str) -> None:
        self.id = f"node/{number}/{client}"
        self.client = client
        self.has_slot = False

    def admit(self) -> None:
        self.has_slot = True

    def refuse(self, error: Exception) -> None:
        raise AssertionError from error


class Scripts:
    """The scripts of a `RedisPool`."""

    def __init__(self, server: RedisServer, limit: int) -> None:
        self.client: Any = server.client
        self.limit = limit

    def run(self, script: Script, *arguments: str | int) -> Any:
        return self.client.eval(script.source, 5, *KEYS, self.limit, 3_600_000, *arguments)

    def places(self, streams: list[Waiting]) -> list[int]:
        held = [each.id for each in streams if each.has_slot]
        waiting = [each.id for each in streams if not each.has_slot]
        answered = dict(
            zip(held + waiting, self.run(RENEW, len(held), *held, *waiting), strict=True)
        )
        return [answered[each.id] for each in streams]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(1, 4),
    longest=st.integers(0, 6) | st.just(1000),
    steps=st.lists(st.sampled_from("aaabc") | st.integers(0, 50), max_size=60),
)
@example(limit=1, longest=3, steps=["a"] * 44 + [3, "b"])  # streams that were refused don't count
def test_slots_and_places_are_those_of_a_pool_in_memory(
    server: RedisServer, limit: int, longest: int, steps: list[str | int]
) -> None:
    server.client.flushall()
    memory, scripts = Pool(limit, queue=longest), Scripts(server, limit)
    streams: list[Waiting] = []
    for number, step in enumerate(steps):
        if isinstance(step, str):
            stream = Waiting(number, step)
            entered = scripts.run(ENTER, stream.id, longest)
            try:
                stream.has_slot = memory.enter(stream)
            except PoolFullError:
                assert entered == -1
                continue
            streams.append(stream)
            assert (entered == 0) is stream.has_slot
        elif streams:
            left = streams.pop(step % len(streams))
            memory.leave(left)
            scripts.run(LEAVE, left.id)
        assert {each.id.encode() for each in streams if each.has_slot} == set(
            server.client.zrange(KEYS[0], 0, -1)
        )
        if streams:
            assert scripts.places(streams) == [memory.place(each) or 0 for each in streams]


async def test_one_with_many_streams_in_one_process_does_not_hold_up_another_elsewhere(
    server: RedisServer, connections: RedisConnections
) -> None:
    async with RedisConnections(server.url) as others:
        pools = pool(connections, limit=2), pool(others, limit=2)
        first, second, gate = Gate(), Gate(), Gate()
        asked = [start(each.stream(), pools[0], client=("key", 1)) for each in (first, second)]
        await eventually(lambda: first.running and second.running)
        for name, client in [("a1", 1), ("a2", 1), ("b1", 2)]:
            own = pools[len(asked) % 2]
            asked.append(start(gate.stream(name), own, client=("key", client)))
            await eventually(lambda: server.client.zcard(QUEUE) == len(asked) - 2)
        first.opened.set()
        await eventually(lambda: gate.order)
        assert gate.order == ["b1"]
        assert b"key" not in server.content()
        for each in (second, gate):
            each.opened.set()
        await asyncio.gather(*asked)
