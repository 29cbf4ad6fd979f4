"""What readers see when a node dies, or is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import reactivex
from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Notice, Start, Token
from rxllm.errors import NodeLostError, StreamStateError
from rxllm.testing import no_leaks
from rxllm.web.failures import status_of_message
from rxllm.web.stream_messages import Complete, StreamFailed
from tests.redis.fleet import LEASE, Fleet, Node, Source, texts
from tests.redis.proxy import Proxy
from tests.redis.server import RedisServer
from tests.redis.streams import eventually


class Resumed:
    """Continues streams with a source of the node that takes them over.

    Attributes:
        asked: what was given for each.
        said: what had been said.
        source: of the last one.
    """

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.said: list[str] = []
        self.source: Source

    def on(self, node: Node) -> Resumed:
        self._registry = node.registry
        return self

    def __call__(self, stream_id: str, asked: bytes, said: Sequence[Chunk]) -> Observable[Chunk]:
        self.asked.append(asked)
        self.said.append(texts(said))
        self.source = Source(self._registry, stream_id)
        return self.source.ask()


async def test_readers_elsewhere_are_told_that_the_node_is_lost(server: RedisServer) -> None:
    async with no_leaks(), Fleet(server.url) as fleet:
        own, other, third = await fleet.nodes(3)
        source = await own.begin()
        reader = await other.read()
        source.say("a", "b")
        await reader.until_said("ab")
        begun = asyncio.get_running_loop().time()
        await fleet.kill(own)
        last = await reader.until_done()
        assert LEASE / 2 < asyncio.get_running_loop().time() - begun < 3 * LEASE + 1
        assert isinstance(last, StreamFailed)
        assert (last.code, last.partial, last.retryable) == ("node_lost", "ab", True)
        assert status_of_message(last) == 502
        # Whoever comes later gets the same, and then the same again.
        for node in (other, third):
            late = await node.read()
            assert (await late.until_done()).code == "node_lost"  # type: ignore[union-attr]
            assert late.text == "ab"
            assert (await node.store.describe("s")).status == "failed"
            assert [each.status for each in await node.store.list()] == ["failed"]
        again = await other.read(after=last.position or 0)
        await again.until_done()
        assert (again.restarts, again.frames) == (0, [])  # it has had that


async def test_no_listing_lacks_a_stream_that_is_taken_over(server: RedisServer) -> None:
    resumed = Resumed()
    ids = [f"ws-{number:02}" for number in range(30)]
    async with no_leaks(), Fleet(server.url, resumed) as fleet:
        own, other = await fleet.nodes(2)
        resumed.on(other)
        for each in ids:
            await own.begin(each, key=each, asked=b"?", is_resumable=True)
            await other.read(each)
        await fleet.kill(own)
        while len(resumed.asked) < len(ids):
            listed = await other.store.list("ws-")
            assert [each.id for each in sorted(listed, key=lambda each: each.id)] == ids


async def test_a_resumable_stream_goes_on_to_its_last_word(server: RedisServer) -> None:
    resumed = Resumed()
    async with no_leaks(), Fleet(server.url, resumed) as fleet:
        own, other, third = await fleet.nodes(3)
        resumed.on(other)
        source = await own.begin(
            asked=b"?", is_resumable=True, model="m", owner="me", key="question"
        )
        reader = await other.read()
        source.say("a", "b")
        await reader.until_said("ab")
        await fleet.kill(own)
        await eventually(lambda: resumed.asked)
        assert (resumed.asked, resumed.said) == ([b"?"], ["ab"])
        said = "ab"
        for number in range(100):  # also while some are written, which only other nodes read
            resumed.source.say(f"{number},")
            said += f"{number},"
            await third.store.list("x")
        await reader.until_said(said)
        assert reader.position > 1_000_000  # of another epoch
        far = await third.read()
        await far.until_said(said)
        assert (await third.store.describe("s")).owner == "me"
        # It is like any other stream now.
        await third.store.pause("s")
        assert (await other.store.describe("s")).status == "paused"
        await third.store.resume("s")
        repeated = await third.store.begin(source.ask, "s", key="question")
        resumed.source.end()
        for each in (reader, far, await third.read_handle(repeated)):
            last = await each.until_done()
            assert isinstance(last, Complete)
            assert (each.text, last.text, each.restarts) == (said, said, 0)


async def test_of_several_nodes_one_takes_over(server: RedisServer) -> None:
    taken = [Resumed(), Resumed(), Resumed()]
    async with no_leaks(), Fleet(server.url) as fleet:
        own = await fleet.node()
        others = [await fleet.node(each) for each in taken]
        for each, node in zip(taken, others, strict=True):
            each.on(node)
        source = await own.begin(asked=b"?", is_resumable=True)
        readers = [await each.read() for each in others]
        source.say("a")
        for reader in readers:
            await reader.until_said("a")
        await fleet.kill(own)
        await eventually(lambda: any(each.asked for each in taken))
        (winner,) = [each for each in taken if each.asked]
        winner.source.say("b")
        for reader in readers:
            await reader.until_said("ab")
        assert sum(len(each.asked) for each in taken) == 1
        # Its readers elsewhere count: the stream goes on when those of its node have left.
        readers[taken.index(winner)].leave()
        node = others[taken.index(winner)]
        await eventually(lambda: len(node.redis._memory.running["s"].followers) == 2)
        winner.source.end()
        for reader in readers:
            if reader is not readers[taken.index(winner)]:
                await reader.until_done()


async def test_an_orphan_without_readers_waits_for_one(server: RedisServer) -> None:
    resumed = Resumed()
    async with no_leaks(), Fleet(server.url, resumed) as fleet:
        own, other = await fleet.nodes(2)
        resumed.on(other)
        source = await own.begin(asked=b"?", is_resumable=True)
        source.say("a")
        await eventually(lambda: server.client.hget("rx:{streams:s}", "last") == b"2")
        await fleet.kill(own)
        await eventually(lambda: not server.client.exists(f"rx:{{streams}}:node:{own.name}"))
        assert not resumed.asked
        reader = await other.read()
        await eventually(lambda: resumed.asked)
        resumed.source.say("b")
        await reader.until_said("ab")
        resumed.source.end()
        await reader.until_done()


async def test_a_repeated_request_for_a_lost_stream_asks_again(server: RedisServer) -> None:
    async with no_leaks(), Fleet(server.url) as fleet:
        own, other = await fleet.nodes(2)
        source = await own.begin(key="question")
        reader = await other.read()
        source.say("a")
        await reader.until_said("a")
        await fleet.kill(own)
        await reader.until_done()
        again = await other.begin(key="question")
        again.say("b")
        second = await other.read()
        await second.until_said("b")
        third = await other.read(after=2)
        await third.until_said("b")
        assert third.restarts == 1


async def test_a_stream_that_cant_be_continued_is_lost_for_all(server: RedisServer) -> None:
    def refuse(*_: object) -> Observable[Chunk]:
        raise ValueError("no such model")

    async with no_leaks(), Fleet(server.url, refuse) as fleet:
        own, other, third = await fleet.nodes(3)
        source = await own.begin(asked=b"?", is_resumable=True)
        readers = [await other.read(), await third.read()]
        source.say("a")
        for reader in readers:
            await reader.until_said("a")
        await fleet.kill(own)
        for reader in readers:
            last = await reader.until_done()
            assert isinstance(last, StreamFailed)
            assert (last.code, last.partial) == ("node_lost", "a")


async def test_a_node_that_shuts_down_takes_over_nothing(server: RedisServer) -> None:
    resumed = Resumed()
    async with no_leaks(), Fleet(server.url, resumed) as fleet:
        own, other = await fleet.nodes(2)
        source = await own.begin(asked=b"?", is_resumable=True)
        reader = await other.read()
        source.say("a")
        await reader.until_said("a")
        await other.registry.shutdown(0.0)
        await fleet.kill(own)
        assert (await reader.until_done()).code == "node_lost"  # type: ignore[union-attr]
        assert not resumed.asked


async def test_a_silent_stream_is_cancelled_elsewhere_within_a_tenth_of_a_second(
    server: RedisServer,
) -> None:
    async with no_leaks(), Fleet(server.url) as fleet:
        own, other = await fleet.nodes(2)
        loop, taken = asyncio.get_running_loop(), []
        for number in range(21):
            source = await own.begin(f"s{number}")
            await (await own.read(f"s{number}")).until(lambda: True)
            begun = loop.time()
            await other.store.cancel(f"s{number}")  # returns once the model was stopped
            taken.append(loop.time() - begun)
            assert not source.subscribed
        assert sorted(taken)[10] < 0.1


async def test_commands_to_a_dead_node(server: RedisServer) -> None:
    async with no_leaks(), Fleet(server.url) as fleet:
        own, other = await fleet.nodes(2)
        await own.begin()
        reader = await other.read()
        await reader.until(lambda: reader.frames)
        await fleet.kill(own)
        await reader.until_done()
        with pytest.raises(NodeLostError):
            await other.store.cancel("s")


@pytest.mark.parametrize("is_resumable", [False, True])
async def test_only_the_writer_is_cut_off(server: RedisServer, is_resumable: bool) -> None:
    """Its own readers notice nothing; those elsewhere are told, or the stream is taken over."""
    resumed = Resumed()
    async with no_leaks(), Proxy(server.port) as proxy, Fleet(server.url, resumed) as fleet:
        other = await fleet.node()
        resumed.on(other)
        fleet.url = proxy.url
        own = await fleet.node()
        source = await own.begin(asked=b"?", is_resumable=is_resumable)
        near, far = await own.read(), await other.read()
        source.say("a")
        await near.until_said("a")
        await far.until_said("a")
        proxy.cut()
        source.say("b")
        await near.until_said("ab")
        if not is_resumable:
            assert (await far.until_done()).code == "node_lost"  # type: ignore[union-attr]
            proxy.mend()
            source.say("c")
            back = await other.read()
            await back.until_said("abc")  # the node is back, and its stream is healthy
            source.end()
            for reader in (near, back):
                await reader.until_done()
                assert (reader.text, reader.restarts) == ("abc", 0)
            return
        await eventually(lambda: resumed.asked)
        resumed.source.say("C")
        await far.until_said("aC")
        assert source.subscribed == 1
        proxy.mend()
        # The writer learns that it was replaced: it stops its model, and follows.
        await near.until(lambda: near.restarts == 1 and near.text == "aC")
        assert source.subscribed == 0
        resumed.source.end()
        for reader in (near, far):
            assert isinstance(await reader.until_done(), Complete)
            assert reader.text == "aC"


async def test_a_node_that_was_replaced_writes_nothing(server: RedisServer) -> None:
    resumed = Resumed()
    async with no_leaks(), Proxy(server.port) as proxy, Fleet(server.url, resumed) as fleet:
        other = await fleet.node()
        resumed.on(other)
        fleet.url = proxy.url
        own = await fleet.node()
        source = await own.begin(asked=b"?", is_resumable=True)
        far = await other.read()
        source.say("a")
        await far.until_said("a")
        proxy.cut()
        await eventually(lambda: resumed.asked)
        source.say("never")
        source.end()  # it has ended there
        resumed.source.say("b")
        await far.until_said("ab")
        proxy.mend()
        await eventually(lambda: "s" not in own.redis._owned._journals)
        resumed.source.end()
        last = await far.until_done()
        assert isinstance(last, Complete)
        assert (last.text, far.text) == ("ab", "ab")
        assert b"never" not in server.content()


async def test_a_follower_that_is_cut_off_waits_and_goes_on(server: RedisServer) -> None:
    async with no_leaks(), Proxy(server.port) as proxy, Fleet(server.url) as fleet:
        own = await fleet.node()
        fleet.url = proxy.url
        other = await fleet.node()
        source = await own.begin()
        reader = await other.read()
        source.say("a")
        await reader.until_said("a")
        proxy.cut()
        source.say("b")
        await eventually(lambda: not own.redis._memory.running["s"].followers)
        proxy.mend()
        source.say("c")
        await reader.until_said("abc")
        await eventually(lambda: own.redis._memory.running["s"].followers)
        source.end()
        await reader.until_done()
        assert reader.restarts == 0


async def test_the_grace_of_a_stream_counts_readers_elsewhere(server: RedisServer) -> None:
    async with no_leaks(), Fleet(server.url) as fleet:
        own, other = await fleet.nodes(2, grace=1.0)
        source = await own.begin(grace=1.0)
        reader = await other.read()
        source.say("a")
        await reader.until_said("a")
        kept = own.redis._memory.running["s"]
        assert kept._timer is None
        reader.leave()
        await eventually(lambda: kept._timer is not None)
        await eventually(lambda: not source.subscribed)
        await eventually(lambda: server.client.hget("rx:{streams:s}", "status") == b"cancelled")


async def test_a_position_ahead_of_the_node_is_waited_for(server: RedisServer) -> None:
    """A client that moves from one node to another has often seen more than the other one has."""
    async with no_leaks(), Fleet(server.url) as fleet:
        own, *others = await fleet.nodes(3)
        source = await own.begin()
        text, near = "", await own.read()
        for hop in range(60):
            source.say(f"{hop},")
            text += f"{hop},"
            await near.until_said(text)
            reader = await others[hop % 2].read(after=near.position)
            source.say("x,")
            text += "x,"
            await reader.until(lambda reader=reader: reader.frames)  # type: ignore[misc]
            assert (reader.restarts, reader.text) == (0, "x,"), hop
            reader.leave()
        source.end()
        await near.until_done()


async def test_two_nodes_asked_the_same_at_once_ask_the_model_once(server: RedisServer) -> None:
    async with no_leaks(), Fleet(server.url) as fleet:
        nodes = await fleet.nodes(2)
        for attempt in range(20):
            stream_id = f"s{attempt}"
            sources = [each.source(stream_id) for each in nodes]
            handles = await asyncio.gather(
                *[
                    node.store.begin(source.ask, stream_id, key="question")
                    for node, source in zip(nodes, sources, strict=True)
                ]
            )
            assert sorted(each.begun for each in sources) == [0, 1]
            (source,) = [each for each in sources if each.begun]
            source.begin()
            source.say("a")
            for node, handle in zip(nodes, handles, strict=True):
                reader = await node.read_handle(handle)
                await reader.until_said("a")
            source.end()


async def test_two_nodes_that_begin_one_id_apart_agree_later(server: RedisServer) -> None:
    """One yields, and its reader starts over with the text of the other."""
    async with no_leaks(), Proxy(server.port) as proxy, Fleet(proxy.url) as fleet:
        nodes = await fleet.nodes(2)
        proxy.cut()
        sources = [each.source() for each in nodes]
        handles = await asyncio.gather(
            *[
                node.store.begin(source.ask, "s", key="question")
                for node, source in zip(nodes, sources, strict=True)
            ]
        )
        readers = []
        for index, (node, handle) in enumerate(zip(nodes, handles, strict=True)):
            sources[index].begin()
            sources[index].say(f"{index}")
            readers.append(await node.read_handle(handle))
            await readers[index].until_said(f"{index}")
        proxy.mend()
        await eventually(lambda: sum(each.subscribed for each in sources) == 1)
        (winner,) = [index for index, each in enumerate(sources) if each.subscribed]
        await readers[1 - winner].until_said(f"{winner}")
        sources[winner].say("!")
        for reader in readers:
            await reader.until_said(f"{winner}!")
        assert [each.restarts for each in readers] == [int(i != winner) for i in (0, 1)]
        sources[winner].end()
        for reader in readers:
            await reader.until_done()


async def test_a_stream_that_ends_at_once_is_the_same_everywhere(server: RedisServer) -> None:
    said: list[Chunk] = [Start("r", "m"), Token("a"), Notice("restart"), Token("b"), End("stop")]
    async with no_leaks(), Fleet(server.url) as fleet:
        own, other = await fleet.nodes(2)
        stream = reactivex.of(*said)
        await own.store.begin(lambda: stream.pipe(ops.track(own.registry, "s")), "s")
        readers = [await own.read(), await other.read()]
        for reader in readers:
            await reader.until_done()
            assert reader.text == "b"


async def test_a_state_that_has_ended_cant_be_paused(server: RedisServer) -> None:
    async with no_leaks(), Fleet(server.url) as fleet:
        own, other = await fleet.nodes(2)
        source = await own.begin()
        source.end()
        reader = await other.read()
        await reader.until_done()
        with pytest.raises(StreamStateError, match="has ended"):
            await other.store.pause("s")
