"""A lost WebSocket connection whose client comes back to another server that shares the streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rxllm.chunks import End, Start, Token
from rxllm.server.app_keys import STREAMS
from rxllm.server.asked import AskedStream
from rxllm.server.keys import Key
from rxllm.server.websocket.endpoint import CONNECTIONS
from tests.redis.apps import ServerNode, serving_all
from tests.redis.proxy import Proxy
from tests.redis.server import RedisServer
from tests.redis.streams import eventually
from tests.server.test_reconnect import LETTERS, lose
from tests.server.websocket_client import Client, Said, talking


@asynccontextmanager
async def nodes(url: str, count: int = 2) -> AsyncIterator[list[ServerNode]]:
    """Servers that share streams. They forget who is connected when all connections have ended."""
    started = [ServerNode(url) for _ in range(count)]
    async with serving_all(*started):
        yield started
        for node in started:
            node.app[CONNECTIONS].sessions.close()
            assert not node.app[CONNECTIONS].sessions._latest


@asynccontextmanager
async def back(node: ServerNode, session: str, **positions: int) -> AsyncIterator[Client]:
    """A client that continues a session on a server."""
    async with talking(node.session) as client:
        await client.send("reconnect", session=session, positions=positions)
        await client.until("reconnected")
        yield client


async def refusal(node: ServerNode, session: str) -> Said:
    async with talking(node.session) as client:
        return await client.ask("reconnect", session=session)


@pytest.mark.parametrize("read", [0, 3, len(LETTERS)])
async def test_a_stream_continues_on_another_server_with_no_gap_and_no_repeat(
    server: RedisServer, read: int
) -> None:
    async with nodes(server.url) as (one, two):
        lost = await lose(one.session, one.model, read)
        secret = lost.connected["session"]
        async with back(two, secret, s=read + 1) as client:
            assert client.got[0] == {"type": "reconnected", "session": secret}
            one.model.let()
            await client.until("complete", id="s", finishReason="stop")
    assert lost.text("s") + client.text("s") == LETTERS
    assert two.model.requests == []


async def test_it_is_paused_and_stopped_there_under_its_id(server: RedisServer) -> None:
    async with nodes(server.url) as (one, two):
        lost = await lose(one.session, one.model, 1)
        async with back(two, lost.connected["session"], s=2) as client:
            await client.send("pause", id="s")
            await client.until("state", id="s", status="paused")
            await client.send("resume", id="s")
            await client.until("state", id="s", status="running")
            error = await client.ask("start", id="s", prompt="Hi")
            assert (error["code"], error["field"]) == ("invalid_message", "id")
            await client.send("stop", id="s")
            await client.until("complete", id="s", finishReason="cancelled")
            await eventually(lambda: one.model.active == 0)


async def test_an_ended_stream_is_sent_to_its_end(server: RedisServer) -> None:
    async with nodes(server.url) as (one, two):
        lost = await lose(one.session, one.model, 2)
        one.model.let()
        await eventually(lambda: one.model.active == 0)
        async with back(two, lost.connected["session"], s=3) as client:
            await client.until("complete", id="s", finishReason="stop")
            await client.send("stop", id="s")  # which crosses with the last message
            await client.until("state", id="s", status="completed")
    assert lost.text("s") + client.text("s") == LETTERS


async def test_what_was_begun_anywhere_is_found_after_every_loss(server: RedisServer) -> None:
    async with nodes(server.url, 3) as (one, two, three):
        lost = await lose(one.session, one.model, 1)
        session = lost.connected["session"]
        async with back(two, session, s=2) as client:
            assert client.got[0]["session"] == session
            await client.send("start", id="t", prompt="Hi")
            two.model.let(2)
            await client.until("chunk", id="t", position=2)
        async with back(three, session, s=2, t=2) as client:
            one.model.let(1)
            await client.until("chunk", id="s", position=3)
        async with back(one, session, s=3, t=2) as last:  # it knows `s` itself
            one.model.let()
            two.model.let()
            await last.until("complete", id="s", finishReason="stop")
            if not last.of("complete", id="t"):
                await last.until("complete", id="t", finishReason="stop")
    texts = [each.text("s") for each in (lost, client, last)]
    assert texts == ["a", "b", "cdef"]
    assert last.text("t") == LETTERS[1:]


async def test_the_server_that_was_come_back_to_knows_either_secret(server: RedisServer) -> None:
    """A client may keep that of `connected`, as where there is one server."""
    async with nodes(server.url) as (one, two):
        lost = await lose(one.session, one.model, 1)
        async with back(two, lost.connected["session"], s=2) as client:
            pass
        async with back(two, client.connected["session"], s=2) as client:
            assert client.got[0]["session"] == lost.connected["session"]
        async with back(two, lost.connected["session"], s=2) as client:
            one.model.let()
            await client.until("complete", id="s")
        assert lost.text("s") + client.text("s") == LETTERS
        # Nothing begins with a hash of this one.
        assert (await refusal(one, client.connected["session"]))["code"] == "session_not_found"


async def test_a_server_that_has_not_noticed_the_loss_is_not_in_the_way(
    server: RedisServer,
) -> None:
    async with nodes(server.url) as (one, two), talking(one.session) as old:
        await old.send("start", id="s", prompt="Hi")
        one.model.let(2)
        await old.until("chunk", id="s", position=2)
        async with back(two, old.connected["session"], s=2) as client:
            one.model.let()
            await client.until("complete", id="s")
        assert client.text("s") == LETTERS[1:]


async def test_a_session_without_streams_is_not_found(server: RedisServer) -> None:
    async with nodes(server.url) as (one, two):
        async with talking(one.session) as idle:
            await idle.quiet()
        for secret in (idle.connected["session"], "unknown", "caf\u00e9 *"):
            error = await refusal(two, secret)
            assert (error["code"], error.get("id")) == ("session_not_found", None)


async def test_a_stream_that_is_no_longer_there_ends_with_an_error(server: RedisServer) -> None:
    async with nodes(server.url) as (one, two):
        lost = await lose(one.session, one.model, 1)
        async with back(two, lost.connected["session"], s=2, gone=7) as client:
            assert (await client.until("error", id="gone"))["code"] == "stream_not_found"
            one.model.let()
            await client.until("complete", id="s")


async def test_an_answer_of_the_chat_continues_and_its_history_stays(server: RedisServer) -> None:
    async with nodes(server.url) as (one, two):
        one.model.chunks = (Start("r", "m"), Token("Hello"), Token(" you"), End("stop"))
        async with talking(one.session) as lost:
            await lost.send("chat", id="first", text="1")
            one.model.let(4)
            await lost.until("chat_message", id="first", history=1)
            await lost.send("chat", id="second", text="2")
            one.model.let(2)
            await lost.until("chunk", id="second", position=2)
        session = lost.connected["session"]
        async with back(two, session, second=2) as client:
            assert "history" not in client.got[0]
            one.model.let()
            await client.until("complete", id="second")
            assert client.text("second") == " you"
        async with back(one, session, second=2) as client:
            assert client.got[0]["history"] >= 1


async def test_the_streams_of_another_key_are_not_found(server: RedisServer) -> None:
    keys = [Key(name="ann", key="1"), Key(name="bob", key="2")]
    one, two = (ServerNode(server.url, keys=keys) for _ in range(2))
    ann, bob = {"X-API-Key": "1"}, {"X-API-Key": "2"}
    async with serving_all(one, two):
        async with talking(one.session, headers=ann) as lost:
            await lost.send("start", id="s", prompt="Hi")
            one.model.let(2)
            await lost.until("chunk", id="s", position=2)
        session = lost.connected["session"]
        async with talking(two.session, headers=bob) as other:
            error = await other.ask("reconnect", session=session)
            assert error["code"] == "session_not_found"
        async with talking(two.session, headers=ann) as client:
            await client.send("reconnect", session=session, positions={"s": 2})
            one.model.let()
            await client.until("complete", id="s")


async def test_a_stream_whose_server_dies_is_continued_by_the_one_of_its_client(
    server: RedisServer,
) -> None:
    async with Proxy(server.port) as proxy:
        one, two = ServerNode(proxy.url), ServerNode(server.url)
        two.model.chunks = (Start("r", "m"), Token("cdef"), End("stop"))
        async with serving_all(one, two):
            lost = await lose(one.session, one.model, 2)
            (listed,) = [each.id for each in await two.app[STREAMS].list()]
            await eventually(lambda: b"last" in server.client.hgetall(f"rx:{{streams:{listed}}}"))
            async with back(two, lost.connected["session"], s=3) as client:
                proxy.cut()
                two.model.let()
                await client.until("complete", id="s", finishReason="stop")
            proxy.mend()
            await eventually(lambda: one.model.active == 0)
    assert lost.text("s") + client.text("s") == LETTERS
    assert two.model.requests[0].messages[0].text == "Hi"


async def test_while_redis_is_away_sessions_continue_on_their_server(
    own_server: RedisServer,
) -> None:
    async with nodes(own_server.url) as (one, two):
        lost = await lose(one.session, one.model, 2)
        session = lost.connected["session"]
        own_server.stop()
        error = await refusal(two, session)
        assert (error["code"], error["retryable"]) == ("store_unavailable", True)
        async with back(one, session, s=3) as client:
            one.model.let()
            await client.until("complete", id="s")
    assert lost.text("s") + client.text("s") == LETTERS


async def test_the_store_holds_what_others_need_and_no_secret(server: RedisServer) -> None:
    async with nodes(server.url) as (one, two), talking(one.session) as client:
        await client.send("start", id="s", prompt="Hi")
        await client.send("chat", id="c", text="Ho")
        one.model.let(2)
        await client.until("chunk", id="s")
        store = two.app[STREAMS]
        records = {}
        for each in await store.list():
            record = AskedStream.decode(await store.asked(each.id))
            records[record.client_id] = record
            assert each.id[:3] == "ws-"
        assert not any(client.connected["session"] in each for each in server.all_keys())
        request = records["s"].request
        assert request is not None
        assert request.messages[0].text == "Hi"
        assert records["c"].request is None  # the rest of a chat is on its server
        one.model.let()
        await client.until("complete", id="c")
