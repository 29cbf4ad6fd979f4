"""What must hold whoever reads, begins and leaves, at whatever moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rxllm.redis import replica
from rxllm.testing import no_leaks
from rxllm.web.stream_messages import Complete, StreamFailed
from tests.redis.fleet import Fleet, Source
from tests.redis.proxy import Proxy
from tests.redis.server import RedisServer
from tests.redis.streams import eventually


@pytest.fixture
async def fleet(server: RedisServer) -> AsyncIterator[Fleet]:
    async with no_leaks(), Fleet(server.url) as fleet:
        yield fleet


async def test_two_equal_requests_at_one_node_ask_the_model_once(fleet: Fleet) -> None:
    own, other = await fleet.nodes(2)
    sources = own.source(), own.source()
    handles = await asyncio.gather(
        *[own.store.begin(each.ask, "s", key="question") for each in sources]
    )
    assert [each.begun for each in sources] == [1, 0]
    readers = [await own.read_handle(each) for each in handles] + [await other.read()]
    sources[0].say("a", "b")
    for reader in readers:
        await reader.until_said("ab")
        assert reader.restarts == 0
    sources[0].end()
    for reader in readers:
        await reader.until_done()


async def test_the_first_event_is_waited_for_elsewhere(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "_LINGER", 0.05)
    own, other = await fleet.nodes(2)
    source = own.source()
    await own.store.begin(source.ask, "s", key="question")
    handle = await other.store.begin(source.ask, "s", key="question")
    first = asyncio.create_task(handle.first())
    await asyncio.sleep(0.3)  # longer than a replica without readers is kept
    source.begin()
    assert (await asyncio.wait_for(first, 10)).position == 1
    reader = await other.read_handle(handle)
    source.say("a")
    await reader.until_said("a")
    source.end()
    await reader.until_done()


async def test_a_late_subscriber_and_a_later_reader_get_the_same(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "_LINGER", 0.05)
    own, other = await fleet.nodes(2)
    source = await own.begin()
    source.say("a")
    handle = await other.redis._followed.follow("s")
    await eventually(lambda: not other.redis._followed._replicas)
    second = await other.read()
    first = await other.read_handle(handle)
    source.say("b")
    for reader in (first, second):
        await reader.until_said("ab")
    second.leave()
    await eventually(lambda: len(list(other.redis._followed.replicas)) == 1)
    source.say("c")
    await first.until_said("abc")
    source.end()
    await first.until_done()


async def _begun_blindly(fleet: Fleet, server: RedisServer, **request: Any) -> None:
    """Begin an id at a node that can't reach Redis, where another node has a healthy stream."""
    own, third = await fleet.nodes(2)
    async with Proxy(server.port) as proxy:
        fleet.url = proxy.url
        blind = await fleet.node()
        source = await own.begin(key="question", owner="ann")
        readers = [await own.read(), await third.read()]
        source.say("a")
        for reader in readers:
            await reader.until_said("a")
        proxy.cut()
        intruder = await blind.begin(**request)
        intruder.say("secret")
        other = await blind.read()
        await other.until_said("secret")
        proxy.mend()
        await eventually(lambda: not intruder.subscribed)
        source.say("b")
        for reader in readers:
            await reader.until_said("ab")
            assert reader.restarts == 0
        if request == {"key": "question", "owner": "ann"}:
            await other.until_said("ab")
            assert other.restarts == 1
        else:
            last = await other.until_done()
            assert isinstance(last, StreamFailed)
            assert "another stream has the id" in last.message
        source.end()
        for reader in readers:
            await reader.until_done()
        for node in list(fleet.open):
            await node.store.close()
        fleet.open.clear()


async def test_a_stream_that_was_begun_blindly_yields_to_a_healthy_one(
    fleet: Fleet, server: RedisServer
) -> None:
    await _begun_blindly(fleet, server, key="question", owner="ann")


@pytest.mark.parametrize(
    "request_", [{"key": "question", "owner": "bob"}, {"key": "else", "owner": "ann"}, {}]
)
async def test_the_clients_of_two_streams_with_one_id_are_never_mixed(
    fleet: Fleet, server: RedisServer, request_: dict[str, Any]
) -> None:
    await _begun_blindly(fleet, server, **request_)


async def test_a_request_that_is_repeated_after_its_stream_was_lost_restarts_readers(
    fleet: Fleet, server: RedisServer
) -> None:
    """The positions of both begin at 1."""
    own, other, third = await fleet.nodes(3)
    source = await own.begin(key="question")
    reader = await other.read()
    source.say("one", "two")
    await reader.until_said("onetwo")
    server.client.flushall()
    await fleet.kill(own)
    again = await third.begin(key="question")
    for word in ("eins", "zwei", "drei", "vier"):
        again.say(word)
    await reader.until_said("einszweidreivier")
    assert reader.restarts == 1
    again.end()
    assert isinstance(await reader.until_done(), Complete)


async def _hold(source: Source, reader: Any) -> None:
    """Let a reader fall behind, until the stream waits for it."""
    reader.valve.close()
    valve = source.valve
    assert valve is not None
    for _ in range(1000):
        if not valve.is_open:
            return
        source.say(".")
        await asyncio.sleep(0.001)
    raise AssertionError("the stream doesn't wait")


async def test_readers_that_leave_or_catch_up_during_an_outage_are_known_after_it(
    own_server: RedisServer,
) -> None:
    async with no_leaks(), Fleet(own_server.url) as fleet:
        own, other = await fleet.nodes(2, grace=1.0)
        left, held = await own.begin("left", grace=1.0), await own.begin("held", grace=1.0)
        leaver, slow = await other.read("left"), await other.read("held")
        await leaver.until(lambda: leaver.frames)
        await slow.until(lambda: slow.frames)
        await _hold(held, slow)
        own_server.stop()
        leaver.leave()
        slow.valve.open()
        own_server.start()
        await eventually(lambda: not left.subscribed, 20)
        await eventually(lambda: held.valve is not None and held.valve.is_open, 20)
        held.end()
        await slow.until_done()


async def test_followers_that_were_taken_for_dead_count_again(fleet: Fleet) -> None:
    own, other = await fleet.nodes(2)
    sources = [await own.begin(f"s{number}") for number in range(30)]
    readers = [await other.read(f"s{number}") for number in range(30)]
    running = own.redis._memory.running
    await eventually(lambda: all(each.followers for each in running.values()))
    own.redis._on_dead({other.name})
    assert not any(each.followers for each in running.values())
    await eventually(lambda: all(each.followers for each in running.values()))
    for source, reader in zip(sources, readers, strict=True):
        source.end()
        await reader.until_done()


async def test_an_entry_that_cant_be_read_stops_only_its_stream(
    fleet: Fleet, server: RedisServer
) -> None:
    own, other = await fleet.nodes(2)
    good, bad = await own.begin("good"), await own.begin("bad")
    readers = await other.read("good"), await other.read("bad")
    for reader in readers:
        await reader.until(lambda reader=reader: reader.frames)  # type: ignore[misc]
    server.client.xadd("rx:{streams:bad}:l", {"dx": b"?"}, id="9-9")
    last = await readers[1].until_done()
    assert isinstance(last, StreamFailed)
    good.say("a")
    await readers[0].until_said("a")
    good.end()
    bad.end()
    await readers[0].until_done()


async def test_a_node_with_many_ended_streams_closes(fleet: Fleet) -> None:
    node = await fleet.node(ended_streams=5)
    for number in range(30):
        (await node.begin(f"s{number}")).say("a")
    await node.store.close()
    fleet.open.clear()


async def test_a_stream_that_redis_lost_is_written_again_for_its_readers_elsewhere(
    fleet: Fleet, server: RedisServer
) -> None:
    own, other = await fleet.nodes(2)
    source = await own.begin()
    source.say("a")
    reader = await other.read()
    await reader.until_said("a")
    server.client.delete("rx:{streams:s}", "rx:{streams:s}:l")
    await eventually(lambda: server.client.exists("rx:{streams:s}"))
    source.say("b")
    await reader.until_said("ab")
    source.end()
    await reader.until_done()
    assert reader.restarts == 0


async def test_an_id_that_has_passed_to_another_client_is_read_from_its_new_stream(
    fleet: Fleet, server: RedisServer
) -> None:
    own, other, third = await fleet.nodes(3)
    source = await own.begin(key="question", owner="ann")
    hers = await other.read()
    source.say("hers")
    await hers.until_said("hers")
    server.client.flushall()
    await fleet.kill(own)
    begun = await third.begin(key="else", owner="bob")
    begun.say("his")
    await eventually(lambda: server.client.hget("rx:{streams:s}", "last"))
    his = await other.read()
    await his.until_said("his")
    last = await hers.until_done()
    assert isinstance(last, StreamFailed)
    assert (hers.text, his.restarts) == ("hers", 0)
    begun.end()
    await his.until_done()
