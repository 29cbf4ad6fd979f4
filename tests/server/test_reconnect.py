"""A lost WebSocket connection: its streams and its chat continue on another one."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rxllm.chunks import End, Start, Token
from rxllm.errors import RateLimitError
from rxllm.models.scripted import ScriptedModel
from rxllm.server import Limits, create_app
from rxllm.server.app_keys import MODELS, STREAMS
from rxllm.server.asked import AskedStream
from rxllm.server.persona import Persona
from rxllm.server.websocket.endpoint import CONNECTIONS
from rxllm.server.websocket.session import Session
from rxllm.server.websocket.sessions import Sessions
from rxllm.settings import Settings
from rxllm.testing import run_virtual
from rxllm.web.failures import RefusedError
from rxllm.web.memory_store import MemoryStreams
from rxllm.web.stream_store import StreamHandle
from tests.server.serving import Stepwise, serving, until
from tests.server.websocket_client import Client, Talker, silent, talking

LETTERS = "abcdef"


def stepwise(*chunks: Any, **limits: Any) -> tuple[Stepwise, web.Application]:
    model = Stepwise(*chunks)
    return model, create_app({"tiny": model}, limits=Limits(**limits))


async def lose(session: aiohttp.ClientSession, model: Stepwise, tokens: int) -> Client:
    """A client that has read the `Start` and some tokens of the stream `s`, then left."""
    async with talking(session) as client:
        await client.send("start", id="s", prompt="Hi")
        for position in range(1, tokens + 2):
            model.let(1)
            await client.until("chunk", id="s", position=position)
    return client


@pytest.mark.memory_store
@pytest.mark.parametrize("read", range(len(LETTERS) + 1))
async def test_a_stream_continues_after_the_last_message_with_no_gap_and_no_repeat(
    read: int,
) -> None:
    model, app = stepwise()
    async with serving(app) as session:
        lost = await lose(session, model, read)
        model.let()
        async with talking(session) as client:
            await client.send(
                "reconnect", session=lost.connected["session"], positions={"s": read + 1}
            )
            await client.until("complete", id="s", finishReason="stop")
    assert client.got[0] == {"type": "reconnected"}
    assert lost.text("s") + client.text("s") == LETTERS


async def test_a_stream_that_ended_meanwhile_is_sent_to_its_end() -> None:
    model, app = stepwise()
    async with serving(app) as session:
        lost = await lose(session, model, 2)
        model.let()
        await until(lambda: model.active == 0)
        async with talking(session) as client:
            await client.send("reconnect", session=lost.connected["session"], positions={"s": 3})
            await client.until("complete", id="s")
    assert lost.text("s") + client.text("s") == LETTERS


async def test_the_end_of_a_stream_is_sent_again_to_a_client_that_missed_it() -> None:
    """The server can't know whether what it wrote has arrived."""
    model, app = stepwise()
    async with serving(app) as session:
        async with talking(session) as lost:
            await lost.send("start", id="s", prompt="Hi")
            model.let()
            ending = await lost.until("complete", id="s")
        async with talking(session) as client:
            await client.send(
                "reconnect",
                session=lost.connected["session"],
                positions={"s": ending["position"] - 1},
            )
            assert await client.until("complete", id="s") == ending
            assert not client.of("chunk")


async def test_a_live_stream_without_a_position_is_sent_from_its_beginning() -> None:
    model, app = stepwise()
    async with serving(app) as session:
        lost = await lose(session, model, 2)
        async with talking(session) as client:
            await client.send("reconnect", session=lost.connected["session"])
            model.let()
            await client.until("complete", id="s")
    assert client.text("s") == LETTERS


async def test_an_unknown_position_sends_a_restart_and_then_everything() -> None:
    model, app = stepwise()
    async with serving(app) as session:
        lost = await lose(session, model, 2)
        async with talking(session) as client:
            await client.send("reconnect", session=lost.connected["session"], positions={"s": 99})
            restart = await client.until("chunk", id="s")
            model.let()
            await client.until("complete", id="s")
    assert (restart["position"], restart["chunk"]) == (0, {"type": "notice", "kind": "restart"})
    assert client.text("s") == LETTERS


async def test_a_continued_stream_is_paused_and_stopped_under_its_id() -> None:
    model, app = stepwise()
    async with serving(app) as session:
        lost = await lose(session, model, 1)
        async with talking(session) as client:
            await client.send("reconnect", session=lost.connected["session"], positions={"s": 2})
            await client.send("pause", id="s")
            await client.until("state", id="s", status="paused")
            assert (await client.ask("start", id="s", prompt="Hi"))["code"] == "invalid_message"
            await client.send("stop", id="s")
            await client.until("complete", id="s", finishReason="cancelled")
        assert model.active == 0


@pytest.mark.memory_store
async def test_a_stream_that_is_no_longer_kept_ends_with_an_error() -> None:
    model, app = stepwise(ended_streams=0)
    async with serving(app) as session:
        lost = await lose(session, model, 1)
        model.let()
        await until(lambda: model.active == 0)
        async with talking(session) as client:
            await client.send(
                "reconnect", session=lost.connected["session"], positions={"s": 2, "other": 5}
            )
            for stream_id in ("s", "other"):
                error = await client.until("error", id=stream_id)
                assert error["code"] == "stream_not_found"
            await client.send("start", id="s", prompt="again")
            await client.until("complete", id="s")


@pytest.mark.memory_store
async def test_a_session_continues_only_once_and_within_the_grace_period() -> None:
    model, app = stepwise(grace=0)
    async with serving(app) as session:
        lost = await lose(session, model, 1)
        secret = lost.connected["session"]
        async with talking(session) as client:
            await client.send("reconnect", session=secret, positions={"s": 2})
            await client.until("reconnected")
        async with talking(session) as other:
            error = await other.ask("reconnect", session=secret)
            assert (error["code"], error.get("id")) == ("session_not_found", None)
        await until(lambda: model.active == 0)  # a second after its last reader
        async with talking(session) as late:
            error = await late.ask("reconnect", session=client.connected["session"])
            assert error["code"] == "session_not_found"


async def test_a_connection_that_is_still_open_is_replaced_and_closed() -> None:
    """A client that has changed its network notices the loss before the server does."""
    model, app = stepwise()
    async with serving(app) as session, talking(session) as old:
        await old.send("start", id="s", prompt="Hi")
        model.let(2)
        await old.until("chunk", id="s", position=2)
        async with talking(session) as client:
            await client.send("reconnect", session=old.connected["session"], positions={"s": 2})
            assert (await old.socket.receive(timeout=8)).type in (
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            )
            model.let()
            await client.until("complete", id="s")
    assert old.text("s") + client.text("s") == LETTERS


@pytest.mark.parametrize("case", ["its own", "too late", "unknown"])
async def test_a_session_that_cannot_continue_is_refused(case: str) -> None:
    model, app = stepwise()
    async with serving(app) as session, talking(session) as client:
        secret = client.connected["session"] if case == "its own" else "none"
        if case == "too late":
            await client.send("start", id="s", prompt="Hi")
        error = await client.ask("reconnect", session=secret)
        codes = {"unknown": "session_not_found"}
        assert error["code"] == codes.get(case, "invalid_message")
        assert len(app[MODELS].registry.active) == (case == "too late")
        model.let()


@pytest.mark.memory_store
async def test_a_chat_continues_with_its_history_and_its_waiting_messages() -> None:
    model, app = stepwise(Start("r", "m"), Token("Hello"), Token(" you"), End("stop"))
    async with serving(app) as session:
        async with talking(session) as lost:
            await lost.send("chat", id="one", text="1")
            model.let(4)
            await lost.until("chat_message", id="one")
            await lost.send("chat", id="two", text="2")
            await lost.send("chat", id="three", text="3")
            model.let(2)
            await lost.until("chunk", id="two", position=2)
        async with talking(session) as client:
            await client.send("reconnect", session=lost.connected["session"], positions={"two": 2})
            assert (await client.receive()) == {"type": "reconnected", "history": 1}
            model.let()
            await client.until("chat_message", id="three")
            assert [each["history"] for each in client.of("chat_message")] == [2, 3]
            assert client.of("chat_message")[0]["text"] == "Hello you"
            assert client.text("two") == " you"
            await client.send("chat", id="four", text="4")
            assert (await client.until("chat_message", id="four"))["history"] == 4


async def test_a_lost_chat_message_is_sent_again_and_kept_once() -> None:
    model = ScriptedModel("Hello")
    async with serving(create_app({"tiny": model})) as session:
        async with talking(session) as lost:
            await lost.send("chat", id="one", text="1")
            await lost.until("chat_message", id="one")
        async with talking(session) as client:
            await client.send("reconnect", session=lost.connected["session"], positions={"one": 1})
            message = await client.until("chat_message", id="one")
            assert (message["text"], message["history"]) == ("Hello", 1)


async def test_a_chat_continues_with_the_next_message_after_a_failure_while_disconnected() -> None:
    model, app = stepwise(Start("r", "m"), Token("a"), RateLimitError("slow down"))
    async with serving(app) as session:
        async with talking(session) as lost:
            await lost.send("chat", id="one", text="1")
            await lost.send("chat", id="two", text="2")
            model.let(2)
            await lost.until("chunk", id="one", position=2)
        model.let(1)
        await until(lambda: model.active == 0)
        async with talking(session) as client:
            await client.send("reconnect", session=lost.connected["session"], positions={"one": 2})
            await client.until("error", id="one", code="rate_limit")
            model.let()
            await client.until("error", id="two", code="rate_limit")


async def test_others_can_read_a_stream_of_a_websocket_over_http() -> None:
    model, app = stepwise()
    async with serving(app) as session, talking(session) as client:
        await client.send("start", id="s", prompt="Hi")
        model.let(2)
        await client.until("chunk", id="s", position=2)
        async with session.get("/streams") as response:
            (listed,) = (await response.json())["streams"]
        assert (listed["status"], listed["position"]) == ("running", 2)
        async with session.get(f"/stream/{listed['id']}") as response:
            model.let()
            body = await response.text()
        await client.until("complete", id="s")
    assert body.count("event: complete") == 1
    assert client.connected["session"] not in listed["id"]


async def test_a_waiting_chat_message_is_answered_once_whoever_names_it() -> None:
    """The browser client names every stream it has started, also those that wait."""
    model, app = stepwise(Start("r", "m"), Token("Hello"), End("stop"))
    async with serving(app) as session:
        for ends_first in (False, True):
            async with talking(session) as lost:
                await lost.send("chat", id="one", text="1")
                await lost.send("chat", id="two", text="2")
                await lost.quiet()
                if ends_first:
                    await lost.send("ping")
            if ends_first:
                model.let(3)
                await until(lambda: model.active == 0)
            async with talking(session) as client:
                await client.send(
                    "reconnect",
                    session=lost.connected["session"],
                    positions={"one": 0, "two": 0},
                )
                model.let(6)
                await client.until("chat_message", id="two")
                assert not client.of("error")
                assert client.text("two") == "Hello"
                assert len(client.of("chat_message")) == len(client.of("complete")) == 2


async def test_an_earlier_session_is_taken_up_when_the_later_one_was_never_used() -> None:
    """A client tries its newest session first; the server may not have noticed that it is lost."""
    model, app = stepwise()
    async with serving(app) as session, talking(session) as unused:
        lost = await lose(session, model, 1)
        async with talking(session) as client:
            error = await client.ask("reconnect", session=unused.connected["session"])
            assert error["code"] == "session_not_found"
            await client.send("reconnect", session=lost.connected["session"], positions={"s": 2})
            model.let()
            await client.until("complete", id="s")
    assert lost.text("s") + client.text("s") == LETTERS


async def test_a_message_withdrawn_before_the_loss_ends_as_cancelled() -> None:
    model, app = stepwise()
    async with serving(app) as session:
        async with talking(session) as lost:
            await lost.send("chat", id="one", text="1")
            await lost.send("chat", id="two", text="2")
            await lost.send("stop", id="two")
            await lost.until("chat_message", id="two")
        async with talking(session) as client:
            await client.send(
                "reconnect", session=lost.connected["session"], positions={"one": 0, "two": 0}
            )
            await client.until("complete", id="two", finishReason="cancelled")
            assert not client.of("error")
            model.let()


async def test_a_client_that_leaves_at_once_leaves_no_session() -> None:
    _, app = stepwise()
    async with serving(app):
        connections = app[CONNECTIONS]
        session = Session(
            *(app[MODELS], app[STREAMS], connections.rooms, connections.sessions, Persona())
        )
        session.greet()  # nobody has subscribed to its outbox
        with pytest.raises(RefusedError):
            connections.sessions.take(session.secret)


class Slow(MemoryStreams):
    """A store that awaits before it does what it is asked for, or fails."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.waiting = 0

    async def begin(self, *arguments: Any, **options: Any) -> StreamHandle:
        await self._wait()
        return await super().begin(*arguments, **options)

    async def read(self, stream_id: str, after: int = 0, *, exact: bool = False) -> Any:
        await self._wait()
        if self.failure is not None:
            raise self.failure
        return await super().read(stream_id, after)

    async def _wait(self) -> None:
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1


def slow(*chunks: Any) -> tuple[Stepwise, web.Application, Slow]:
    model = Stepwise(*chunks)
    app = create_app({"tiny": model}, store=Slow)
    store = app[STREAMS]
    assert isinstance(store, Slow)
    return model, app, store


@pytest.mark.parametrize("cancels", [True, False])
async def test_a_stream_that_is_starting_is_sent_once_to_the_connection_that_takes_over(
    cancels: bool,
) -> None:
    """Or fails there, if its start was cancelled together with the handler of the first."""
    model, app, store = slow()
    async with (
        serving(app, cancels=cancels) as session,
        talking(session) as old,
        talking(session) as client,
    ):
        await old.send("start", id="s", prompt="Hi")
        model.let()
        await old.until("complete", id="s")
        store.gate.clear()
        await old.send("start", id="t", prompt="Hi")
        await until(lambda: store.waiting == 1)
        await client.send("reconnect", session=old.connected["session"], positions={"t": 0})
        await client.until("reconnected")
        await until(lambda: store.waiting == (0 if cancels else 1))
        store.gate.set()
        model.let()
        if cancels:
            assert (await client.until("error", id="t"))["code"] == "stream_cancelled"
        else:
            await client.until("complete", id="t")
            assert client.text("t") == LETTERS


async def test_a_take_over_during_a_take_over_sends_everything_once() -> None:
    model, app, store = slow()
    async with serving(app, cancels=False) as session:
        lost = await lose(session, model, 2)
        store.gate.clear()
        async with talking(session) as first:
            await first.send("reconnect", session=lost.connected["session"], positions={"s": 3})
            await first.until("reconnected")
            async with talking(session) as second:
                await second.send(
                    "reconnect", session=first.connected["session"], positions={"s": 3}
                )
                await second.until("reconnected")
                store.gate.set()
                model.let()
                await second.until("complete", id="s")
    assert lost.text("s") + second.text("s") == LETTERS
    assert len(second.of("complete")) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_store_that_fails_ends_the_streams_and_the_chat_answers_again() -> None:
    model, app, store = slow()
    reported: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))
    async with serving(app) as session:
        async with talking(session) as lost:
            await lost.send("start", id="s", prompt="Hi")
            await lost.send("chat", id="one", text="1")
            await lost.send("chat", id="two", text="2")
            await lost.quiet()
        store.failure = ConnectionError("the store is away")
        async with talking(session) as client:
            await client.send("reconnect", session=lost.connected["session"])
            for stream_id in ("s", "one"):
                assert (await client.until("error", id=stream_id))["code"] == "internal"
            model.let()
            await client.until("chat_message", id="two")
    assert [type(each) for each in reported] == [ConnectionError, ConnectionError]


async def test_a_client_that_stalls_while_it_catches_up_loses_its_connection_not_its_stream() -> (
    None
):
    talker = Talker()
    limits = Limits(stream_characters=10**8, reader_stall=0.3)
    app = create_app({"tiny": talker}, limits=limits, settings=Settings(buffer_size=16))
    async with serving(app) as session, asyncio.timeout(20):
        async with silent(session, '{"type":"start","id":"a","prompt":"Hi"}'):
            await talker.endless.held.wait()
            await until(lambda: not len(app[CONNECTIONS]))
        async with session.get("/streams") as response:
            (listed,) = (await response.json())["streams"]
        assert (listed["status"], listed["readers"]) == ("running", 0)


class Kept:
    """A session that only notes that it was released."""

    def __init__(self, secret: str, *, is_empty: bool = False) -> None:
        self.secret = self.first_secret = secret
        self.is_empty = is_empty
        self.is_released = False

    def release(self) -> Any:
        self.is_released = True


def is_kept(sessions: Sessions, session: Kept) -> bool:
    try:
        return sessions.take(session.secret) is session
    except RefusedError:
        return False


def test_sessions_are_kept_for_the_grace_and_the_oldest_are_dropped_first() -> None:
    async def main() -> None:
        sessions = Sessions(10.0, 2)
        kept = [Kept(str(number)) for number in range(5)]
        for each in kept:
            sessions.add(each)
        for each in kept[:3]:
            sessions.detach(each)
        assert not is_kept(sessions, kept[0])
        assert is_kept(sessions, kept[2])
        assert not is_kept(sessions, kept[2])
        sessions.detach(kept[3])
        await asyncio.sleep(9.9)
        assert is_kept(sessions, kept[1])
        await asyncio.sleep(0.2)
        assert not is_kept(sessions, kept[3])
        sessions.close()
        sessions.detach(kept[4])
        assert not is_kept(sessions, kept[4])

    run_virtual(main())


def test_a_session_is_kept_for_a_second_at_least() -> None:
    async def main() -> None:
        sessions, kept = Sessions(0.0, 2), [Kept("a"), Kept("b")]
        for each in kept:
            sessions.add(each)
            sessions.detach(each)
        await asyncio.sleep(0.9)
        assert is_kept(sessions, kept[0])
        await asyncio.sleep(0.2)
        assert not is_kept(sessions, kept[1])

    run_virtual(main())


def test_a_session_that_another_connection_has_taken_is_not_kept() -> None:
    async def main() -> None:
        sessions, session = Sessions(10.0, 2), Kept("a")
        sessions.add(session)
        assert sessions.take("a") is session
        sessions.detach(session)
        with pytest.raises(RefusedError, match="session is unknown or has expired") as caught:
            sessions.take("a")
        assert str(caught.value).startswith("the session")
        assert (caught.value.code, caught.value.status) == ("session_not_found", 404)

    run_virtual(main())


def test_an_empty_session_is_not_kept_and_not_taken() -> None:
    async def main() -> None:
        sessions = Sessions(10.0, 2)
        empty, open_ = Kept("empty", is_empty=True), Kept("open", is_empty=True)
        sessions.add(empty)
        sessions.add(open_)
        sessions.detach(empty)
        assert not is_kept(sessions, empty)
        assert not is_kept(sessions, open_)
        assert (empty.is_released, open_.is_released) == (False, True)

    run_virtual(main())


def test_a_session_is_found_by_its_first_secret_too_if_it_is_added_with_it() -> None:
    """Where several servers share streams."""

    async def main() -> None:
        sessions = Sessions(10.0, 2)
        for secret in ("first", "own"):
            session = Kept("own")
            session.first_secret = "first"
            sessions.add(session)
            assert sessions.take(secret) is session
            for used in ("first", "own"):
                with pytest.raises(RefusedError):
                    sessions.take(used)
            sessions.add(session)
            sessions.detach(session)
            assert sessions.take("first") is session
            sessions.add(session)
            sessions.detach(session)
            await asyncio.sleep(10.1)
            assert not sessions._latest
        empty = Kept("own", is_empty=True)
        empty.first_secret = "first"
        sessions.add(empty)
        sessions.detach(empty)
        assert not sessions._latest

    run_virtual(main())


async def test_a_stream_is_kept_with_its_request_under_the_id_of_its_client() -> None:
    model, app = stepwise()
    async with serving(app) as session:
        await lose(session, model, 1)
        store = app[STREAMS]
        (summary,) = await store.list("ws-")
        record = AskedStream.decode(await store.asked(summary.id))
        assert record.request is not None
        assert (record.client_id, record.request.messages[0].text) == ("s", "Hi")
