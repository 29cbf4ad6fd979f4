"""What readers see when Redis restarts, empty or not, is down, hangs, or is full."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from rxllm.errors import StoreUnavailableError
from rxllm.redis import owned_streams
from rxllm.testing import no_leaks
from rxllm.web.failures import StreamNotFoundError
from rxllm.web.stream_messages import StreamFailed
from tests.redis.fleet import LEASE, Fleet, Reader, Source
from tests.redis.server import RedisServer
from tests.redis.streams import eventually


class Story:
    """A stream with a reader on its node, and one on another, that goes on by itself.

    Attributes:
        text: what was said.
        longest_silence: of the near and of the far reader, in seconds.
    """

    def __init__(self, source: Source, near: Reader, far: Reader) -> None:
        self.source = source
        self.near = near
        self.far = far
        self.text = ""

    def say(self, words: int = 1) -> None:
        for _ in range(words):
            word = f"{len(self.text)} "
            self.text += word
            self.source.say(word)

    async def until_all_have_it(self) -> None:
        await self.near.until_said(self.text)
        await self.far.until_said(self.text)

    async def end(self) -> None:
        """End it, and check that nothing was lost, said twice or taken back."""
        self.source.end()
        for reader in (self.near, self.far):
            last = await reader.until_done()
            assert (reader.text, reader.restarts, reader.error) == (self.text, 0, None)
            assert last is not None
            assert getattr(last, "text", None) == self.text
        assert self.source.begun == 1


@pytest.fixture
async def fleet(own_server: RedisServer) -> AsyncIterator[Fleet]:
    async with no_leaks(), Fleet(own_server.url) as fleet:
        yield fleet


async def story(fleet: Fleet) -> Story:
    own, other = await fleet.nodes(2)
    source = await own.begin(key="question")
    told = Story(source, await own.read(), await other.read())
    told.say(10)
    await told.until_all_have_it()
    return told


async def test_it_restarts_empty(fleet: Fleet, own_server: RedisServer) -> None:
    told = await story(fleet)
    own_server.stop()
    told.say(10)
    await told.near.until_said(told.text)
    own_server.start()
    told.say(10)
    await told.until_all_have_it()
    # Whoever comes now gets everything, from either node.
    for node in fleet.open:
        late = await node.read()
        await late.until_said(told.text)
    await told.end()


async def test_streams_are_not_missing_from_a_list_by_prefix_after_it_restarts_empty(
    fleet: Fleet, own_server: RedisServer
) -> None:
    """What asks so, such as a session, would take them for lost."""
    own, other = await fleet.nodes(2)
    await own.begin("ws-s")
    await eventually(lambda: own_server.client.exists("rx:{streams:ws-s}:l"))
    own_server.stop()
    own_server.start()
    async with asyncio.timeout(10):
        while True:
            with suppress(StoreUnavailableError):
                assert [each.id for each in await other.store.list("ws-")] == ["ws-s"]
                break
            await asyncio.sleep(0)


async def test_a_silent_stream_is_known_again_after_it_restarts_empty(
    fleet: Fleet, own_server: RedisServer
) -> None:
    told = await story(fleet)
    own_server.stop()
    own_server.start()
    third = await fleet.node()
    reader = await _read_once_it_is_there(third)
    await reader.until_said(told.text)
    listed = await third.store.list()
    assert [each.id for each in listed] == ["s"]
    own = fleet.open[0].redis._memory.running["s"]
    await eventually(lambda: len(own.followers) == 2)
    await told.end()
    await reader.until_done()


async def _read_once_it_is_there(node: Any) -> Reader:
    async with asyncio.timeout(10):
        while True:
            with suppress(StreamNotFoundError, StoreUnavailableError):
                reader: Reader = await node.read()
                return reader
            await asyncio.sleep(0.02)


async def test_it_restarts_with_what_it_had(tmp_path_factory: pytest.TempPathFactory) -> None:
    with RedisServer(tmp_path_factory.mktemp("aof"), "--appendonly", "yes") as server:
        async with no_leaks(), Fleet(server.url) as fleet:
            told = await story(fleet)
            server.stop()
            told.say(10)
            server.start()
            told.say(10)
            await told.until_all_have_it()
            await told.end()


async def test_it_is_down_for_longer_than_a_lease(fleet: Fleet, own_server: RedisServer) -> None:
    told = await story(fleet)
    own, other = fleet.open
    own_server.stop()
    for _ in range(5):
        told.say()
        await told.near.until_said(told.text)  # readers there don't wait for it
        await asyncio.sleep(LEASE / 2)
    assert told.far.text != told.text
    # Streams begin, are read, paused and cancelled where they are; what needs another node fails.
    begun = await own.begin("t")
    begun.say("t")
    near = await own.read("t")
    await near.until_said("t")
    await own.store.pause("t")
    await own.store.resume("t")
    for call in (other.store.read, other.store.cancel, other.store.pause, other.store.describe):
        with pytest.raises(StoreUnavailableError) as failure:
            await call("t")
        assert failure.value.retry_after is not None
    with pytest.raises(StoreUnavailableError):
        await other.store.list("t")
    assert {each.id for each in await own.store.list()} == {"s", "t"}
    assert await other.store.list() == []
    own_server.start()
    await told.until_all_have_it()
    reader = await _read_once_it_is_there(_Named(other, "t"))
    await reader.until_said("t")
    begun.end()
    await reader.until_done()
    await near.until_done()
    await told.end()


class _Named:
    def __init__(self, node: Any, stream_id: str) -> None:
        self._node, self._id = node, stream_id

    async def read(self) -> Reader:
        reader: Reader = await self._node.read(self._id)
        return reader


async def test_it_hangs_for_longer_than_a_lease(fleet: Fleet, own_server: RedisServer) -> None:
    told = await story(fleet)
    own_server.hang()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while loop.time() - begun < 5:
        told.say()
        asked = loop.time()
        await told.near.until_said(told.text)
        assert loop.time() - asked < 0.5
        await asyncio.sleep(0.1)
    own_server.go_on()
    await told.until_all_have_it()
    await told.end()


async def test_a_stream_begins_while_it_hangs(fleet: Fleet, own_server: RedisServer) -> None:
    own, other = await fleet.nodes(2)
    own_server.hang()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    source = await own.begin("t", key="question")
    assert loop.time() - begun < 1.5
    source.say("a")
    near = await own.read("t")
    await near.until_said("a")
    own_server.go_on()
    reader = await _read_once_it_is_there(_Named(other, "t"))
    await reader.until_said("a")
    source.end()
    for each in (near, reader):
        await each.until_done()
        assert each.restarts == 0
    assert source.begun == 1


async def test_it_is_full(fleet: Fleet, own_server: RedisServer) -> None:
    told = await story(fleet)
    own_server.client.config_set("maxmemory", 1)
    told.say(10)
    await told.near.until_said(told.text)
    await asyncio.sleep(3 * LEASE)  # the lease is kept
    assert not told.far.last
    assert told.far.text != told.text
    own_server.client.config_set("maxmemory", 0)
    await told.until_all_have_it()
    await told.end()


async def test_what_it_has_lost_is_written_again(fleet: Fleet, own_server: RedisServer) -> None:
    """As after the failure of a primary whose replica was behind."""
    told = await story(fleet)
    own_server.client.delete("rx:{streams:s}:l")
    for _ in range(3):
        told.say(5)
        await told.until_all_have_it()
    ids: Any = own_server.client.xrange("rx:{streams:s}:l", "-", "+")
    own_server.client.xdel("rx:{streams:s}:l", ids[-1][0])
    own_server.client.hset("rx:{streams:s}", "last", ids[-2][0].split(b"-")[0])
    told.say(5)
    await told.until_all_have_it()
    late = await (await fleet.node()).read()
    await late.until_said(told.text)
    await told.end()
    await late.until_done()


async def test_close_returns_whenever_it_is_called(own_server: RedisServer) -> None:
    chance = random.Random(7)
    async with no_leaks():
        for attempt in range(100):
            async with Fleet(own_server.url) as fleet:
                own, other = await fleet.nodes(2)
                source = await own.begin(f"s{attempt}")
                reading = asyncio.create_task(_read_a_while(other, f"s{attempt}"))
                for _ in range(chance.randrange(10)):
                    source.say("x")
                    await asyncio.sleep(chance.random() / 200)
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading
                async with asyncio.timeout(5):
                    await own.store.close()
                    await other.store.close()
                fleet.open.clear()


async def _read_a_while(node: Any, stream_id: str) -> None:
    while True:
        reader = await node.read(stream_id)
        await reader.until(lambda reader=reader: reader.frames)
        reader.leave()
        await asyncio.sleep(0)


async def test_close_returns_while_it_is_away(own_server: RedisServer) -> None:
    async with no_leaks(), Fleet(own_server.url) as fleet:
        told = await story(fleet)
        own_server.stop()
        told.say(5)
        async with asyncio.timeout(10):
            for node in fleet.open:
                await node.store.close()
        fleet.open.clear()
        assert told.near.last is not None


async def test_a_node_starts_while_it_is_away(own_server: RedisServer) -> None:
    own_server.stop()
    async with no_leaks(), Fleet(own_server.url) as fleet:
        own = await fleet.node()
        source = await own.begin()
        source.say("a")
        near = await own.read()
        await near.until_said("a")
        own_server.start()
        other = await fleet.node()
        reader = await _read_once_it_is_there(other)
        await reader.until_said("a")
        source.end()
        await reader.until_done()


async def test_half_a_surrogate_pair_stops_nobody(fleet: Fleet) -> None:
    own, other = await fleet.nodes(2)
    half = "a\ud83d"
    source = await own.begin(half, model=half, owner=half)
    good = await own.begin("t")
    for each in (source, good):
        each.say("a", half)
    reader = await other.read("t")
    await reader.until_said("aa?")
    for node in (own, other):
        odd = await node.read(half)
        await odd.until(lambda odd=odd: len(odd.text) == 3)  # type: ignore[misc]
        assert (await node.store.describe(half)).model in (half, "a?")
    for each in (source, good):
        each.end()
    await reader.until_done()


async def test_readers_of_a_stream_whose_end_cant_be_written_are_told(
    fleet: Fleet, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned_streams, "_FORGOTTEN", 0.2)
    own, other = await fleet.nodes(2, ended_streams=0)
    source = await own.begin()
    reader = await other.read()
    source.say("a")
    await reader.until_said("a")
    own_server.client.config_set("maxmemory", 1)
    source.end()
    last = await reader.until_done()
    assert isinstance(last, StreamFailed)
    assert (last.code, last.partial) == ("node_lost", "a")
    own_server.client.config_set("maxmemory", 0)
    await eventually(lambda: not own_server.client.exists("rx:{streams:s}"))
    with pytest.raises(StreamNotFoundError):
        await other.store.describe("s")


async def test_a_stream_that_is_forgotten_while_it_is_down_is_forgotten_later(
    fleet: Fleet, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned_streams, "_FORGOTTEN", 0.2)
    with RedisServer(tmp_path_factory.mktemp("aof"), "--appendonly", "yes") as server:
        fleet.url = server.url
        own, other = await fleet.nodes(2, ended_streams=0)
        source = await own.begin()
        reader = await other.read()
        source.say("a")
        await reader.until_said("a")
        server.stop()
        source.end()
        await eventually(lambda: not own.redis._owned._journals)
        server.start()
        assert (await reader.until_done()).code == "node_lost"  # type: ignore[union-attr]
        await eventually(lambda: not server.client.exists("rx:{streams:s}"))
        for node in fleet.open:
            await node.store.close()
        fleet.open.clear()


async def test_nothing_is_written_of_a_stream_that_begins_while_it_is_full(
    fleet: Fleet, own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own, other = await fleet.nodes(2)
    own_server.client.config_set("maxmemory", 1)
    source = await own.begin(asked=b"a prompt")
    source.say("a")
    await asyncio.sleep(LEASE)
    assert b"a prompt" not in own_server.content()
    refusals = [each for each in caplog.records if "refused" in each.message]
    assert len(refusals) == 1  # once, and not for each token
    own_server.client.config_set("maxmemory", 0)
    reader = await _read_once_it_is_there(other)
    await reader.until_said("a")
    source.end()
    await reader.until_done()
