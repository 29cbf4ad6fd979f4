"""What every `StreamStore` does: the one in memory, a node on Redis, and another node of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import inf
from typing import Any, NamedTuple

import pytest

from rxllm.chunks import (
    Chunk,
    End,
    Json,
    Notice,
    Progress,
    Reasoning,
    Start,
    Token,
    TokenLogprob,
    ToolCall,
    Usage,
)
from rxllm.errors import PoolFullError, RateLimitError, StreamStateError
from rxllm.testing import no_leaks
from rxllm.web.encoding import to_json
from rxllm.web.failures import DrainingError, StreamNotFoundError
from rxllm.web.stream_messages import Complete, StreamFailed
from tests.redis.fleet import Fleet, MemoryNode, Node, Reader, Source
from tests.redis.server import RedisServer


class Stores(NamedTuple):
    """The node that runs the streams, and the one where they are read and controlled."""

    own: MemoryNode
    other: MemoryNode


@pytest.fixture(params=["memory", "redis", "redis, another node"])
async def stores(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[Stores]:
    async with no_leaks():
        if request.param == "memory":
            node = MemoryNode()
            await node.store.start()
            yield Stores(node, node)
            await node.store.close()
            return
        async with Fleet(server.url) as fleet:
            own = await fleet.node()
            yield Stores(own, own if request.param == "redis" else await fleet.node())


async def test_a_reader_gets_what_was_said_and_what_comes(stores: Stores) -> None:
    source = await stores.own.begin()
    source.say("a", "b")
    reader = await stores.other.read()
    await reader.until_said("ab")
    source.say("c")
    await reader.until_said("abc")
    source.end()
    last = await reader.until_done()
    assert isinstance(last, Complete)
    assert (last.text, last.finish_reason, last.position) == ("abc", "stop", 6)
    assert reader.chunks[0] == Start("r", "m")
    late = await stores.other.read()
    assert await late.until_done() == last
    assert late.text == "abc"


async def test_every_kind_of_chunk_arrives_as_it_was(stores: Stores) -> None:
    source = await stores.own.begin()
    said: list[Chunk] = [
        Token("a", confidence=0.5, tokens=2),
        Token("b", logprobs=(TokenLogprob("b", -0.5, (TokenLogprob("c", -inf),)),)),
        Token("\ud83d"),
        Reasoning("why"),
        ToolCall("c", "f", '{"a"'),
        ToolCall("c", "f", '{"a": 1}', complete=True),
        Json({"a": 1}, complete=True),
        Notice("retry", attempt=2),
        Progress(tokens=3, elapsed=1.0),
        Usage(1, 2),
        Token("über", source="x"),
        End("stop"),
    ]
    reader = await stores.other.read(exact=True)
    source.say(*said)
    source._chunks.on_completed()
    await reader.until_done()
    got = reader.chunks[1:]
    assert [type(each) for each in got] == [type(each) for each in said]
    assert [to_json(each) for each in got] == [to_json(each) for each in said]
    assert got[1] == said[1]  # JSON has no infinite numbers
    assert isinstance(got[0], Token)
    assert got[0].tokens == 2
    times = [each.message.timestamp for each in reader.frames[:-1]]  # type: ignore[union-attr]
    assert times == sorted(times)


async def test_a_reader_resumes_after_any_position(stores: Stores) -> None:
    source = await stores.own.begin()
    source.say("a", "b", Progress(tokens=1, elapsed=1.0), "c", Progress(tokens=2, elapsed=1.0), "d")
    whole = await stores.other.read(exact=True)
    await whole.until_said("abcd")
    source.end()
    await whole.until_done()
    positions = [0, *[each.position for each in whole.frames]]
    for index, after in enumerate([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]):
        reader = await stores.other.read(after=after)
        await reader.until_done()
        rest = "".join("abcd"[i] for i, at in enumerate([2, 3, 5, 7]) if at > after)
        assert (reader.text, reader.restarts) == (rest, 0), (index, positions)


async def test_a_reader_from_nowhere_starts_over(stores: Stores) -> None:
    source = await stores.own.begin()
    source.say("a")
    await (await stores.other.read()).until_said("a")
    reader = await stores.other.read(after=77)
    await reader.until(lambda: reader.text == "a" and reader.restarts == 1)
    assert reader.frames[0].position == 0


async def test_a_call_is_told_as_it_grows(stores: Stores) -> None:
    source = await stores.own.begin()
    arguments = '{"text": "' + "x" * 200 + '"}'
    live = await stores.other.read(exact=True)
    for end in range(1, len(arguments) + 1, 3):
        source.say(ToolCall("c", "f", arguments[:end]))
        if end % 30 == 1:
            await live.until(lambda end=end: _arguments(live)[-1:] == [arguments[:end]])  # type: ignore[misc]
    source.say(ToolCall("c", "f", arguments, complete=True))
    source.end()
    await live.until_done()
    late = await stores.other.read(exact=True)
    await late.until_done()
    assert _arguments(late) == _arguments(live)
    brief = await stores.other.read()
    await brief.until_done()
    assert _arguments(brief)[-1] == arguments


def _arguments(reader: Reader) -> list[str]:
    return [each.arguments for each in reader.chunks if isinstance(each, ToolCall)]


async def test_what_a_restart_invalidates_isnt_read_late(stores: Stores) -> None:
    source = await stores.own.begin()
    reader = await stores.other.read()
    source.say("wrong")
    await reader.until_said("wrong")
    source.say(Notice("restart"), Start("r2", "m"), "right")
    await reader.until_said("right")
    late = await stores.other.read()
    await late.until_said("right")
    assert "wrong" not in [getattr(each, "text", "") for each in late.chunks]


async def test_a_failure_ends_the_stream_for_all(stores: Stores) -> None:
    source = await stores.own.begin()
    source.say("a")
    reader = await stores.other.read()
    await reader.until_said("a")
    source.fail(RateLimitError("slow down", retry_after=3.0))
    last = await reader.until_done()
    assert isinstance(last, StreamFailed)
    assert (last.code, last.partial, last.retry_after) == ("rate_limit", "a", 3.0)
    assert (await stores.other.store.describe("s")).status == "failed"


async def test_a_repeated_request_joins(stores: Stores) -> None:
    def full() -> Any:
        raise PoolFullError("too many streams")

    source = await stores.own.begin(key="question")
    source.say("a")
    handle = await stores.other.store.begin(full, "s", key="question")
    first = await handle.first()
    assert first.position == 1
    reader = await stores.other.read_handle(handle)
    await reader.until_said("a")
    with pytest.raises(PoolFullError):
        await stores.other.store.begin(full, "t", key="question")
    with pytest.raises(StreamNotFoundError):
        await stores.other.store.describe("t")


@pytest.mark.parametrize("key", [None, "another question"])
async def test_another_request_cant_have_the_id(stores: Stores, key: str | None) -> None:
    await stores.own.begin(key="question")
    with pytest.raises(StreamStateError, match="choose another id"):
        await stores.other.begin(key=key)


async def test_a_repeated_request_whose_stream_has_failed_asks_again(stores: Stores) -> None:
    source = await stores.own.begin(key="question")
    reader = await stores.other.read()
    source.fail(RateLimitError("slow down"))
    await reader.until_done()
    again = await stores.other.begin(key="question")
    again.say("b")
    second = await stores.own.read()
    await second.until_said("b")
    if isinstance(stores.own, Node):  # a position names one event for ever
        third = await stores.other.read(after=reader.position)
        await third.until_said("b")
        assert third.restarts == 1


async def test_pausing_resuming_and_cancelling(stores: Stores) -> None:
    source = await stores.own.begin()
    reader = await stores.other.read()
    source.say("a")
    await reader.until_said("a")
    await stores.other.store.pause("s")
    assert (await stores.own.store.describe("s")).status == "paused"
    assert (await stores.other.store.describe("s")).status == "paused"
    await stores.other.store.resume("s")
    assert (await stores.own.store.describe("s")).status == "running"
    source.say("b")
    await reader.until_said("ab")
    await stores.other.store.cancel("s")
    last = await reader.until_done()
    assert isinstance(last, Complete)
    assert (last.finish_reason, source.subscribed) == ("cancelled", 0)
    await stores.other.store.cancel("s")
    for act in (stores.other.store.pause, stores.other.store.resume):
        with pytest.raises(StreamStateError):
            await act("s")


async def test_listing(stores: Stores) -> None:
    store = stores.other.store
    assert await store.list() == []
    for stream_id in ("chat-a-1", "chat-a-2", "chat-b-1", "x{y}"):
        await stores.own.begin(stream_id, model="m", owner="me", asked=b"?")
    assert [each.id for each in await store.list()] == ["chat-a-1", "chat-a-2", "chat-b-1", "x{y}"]
    assert {each.id for each in await store.list("chat-a-")} == {"chat-a-1", "chat-a-2"}
    assert await store.list("none") == []
    reader = await stores.other.read("x{y}")
    await reader.until(lambda: reader.frames)
    summary = await store.describe("x{y}")
    assert (summary.model, summary.owner, summary.status) == ("m", "me", "running")
    assert summary.position == 1
    assert await store.asked("x{y}") == b"?"


async def test_a_stream_that_is_forgotten_as_soon_as_it_has_ended_isnt_there(
    server: RedisServer,
) -> None:
    """Also if its end isn't in Redis yet."""
    async with no_leaks(), Fleet(server.url) as fleet:
        node = await fleet.node(flush=60, ended_streams=1)
        for source in [await node.begin(each) for each in "st"]:
            source.end()
        assert [each.id for each in await node.store.list()] == ["t"]
        store = node.store
        calls = store.describe, store.read, store.cancel, store.pause, store.resume, store.asked
        for asked in calls:
            with pytest.raises(StreamNotFoundError):
                await asked("s")
        again = await node.begin("s", key="another request")
        again.say("a")
        await (await node.read("s")).until_said("a")


async def test_what_isnt_there(stores: Stores) -> None:
    store = stores.other.store
    calls = (store.read, store.pause, store.resume, store.cancel, store.describe, store.asked)
    for call in calls:
        with pytest.raises(StreamNotFoundError, match="'s'"):
            await call("s")


async def test_no_stream_begins_during_shutdown(stores: Stores) -> None:
    await stores.own.registry.shutdown(0.0)
    with pytest.raises(DrainingError):
        await stores.own.begin()


async def test_a_creator_that_leaves_ends_its_stream_unless_it_is_read(stores: Stores) -> None:
    source = stores.own.source()
    await stores.own.store.begin(source.ask, "s", key="k")
    source.begin()
    reader = await stores.own.read()
    handle = await stores.other.store.begin(source.ask, "s", key="k")
    handle.cancel_if_unread()
    source.say("a")
    await reader.until_said("a")
    reader.leave()
    handle.cancel_if_unread()
    last = await (await stores.other.read_handle(handle)).until_done()
    assert isinstance(last, Complete)
    assert last.finish_reason == "cancelled"


async def test_all_slow_readers_hold_the_stream(stores: Stores) -> None:
    if isinstance(stores.own, Node):
        source = await stores.own.begin()
        reader = await stores.other.read()
        await reader.until(lambda: reader.frames)
        reader.valve.close()
        said = 0
        while source.valve is not None and source.valve.is_open and said < 1000:
            source.say("x")
            said += 1
            if said % 16 == 0:
                await _a_moment(stores)
        assert said <= 400  # a buffer of 64 here and there, and what is on its way
        reader.valve.open()
        await reader.until(lambda: len(reader.text) == said)
        await _until_open(source, reader)


async def _until_open(source: Source, reader: Reader) -> None:
    await reader.until(lambda: source.valve is not None)
    valve = source.valve
    assert valve is not None
    await valve.wait_open()


async def _a_moment(stores: Stores) -> None:
    """Let what is on its way arrive: a round trip to the other node and back."""
    await stores.other.store.list()
    await stores.own.store.list()
