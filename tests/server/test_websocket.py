"""`/ws`: many streams over one connection."""

from __future__ import annotations

import asyncio
from socket import SHUT_RDWR
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import WSMsgType, web

from rxllm.chunks import End, Start, Token
from rxllm.errors import RateLimitError
from rxllm.models.scripted import ScriptedModel
from rxllm.server import Limits, create_app
from rxllm.server.app_keys import MODELS, STREAMS
from rxllm.server.persona import Persona
from rxllm.server.websocket.endpoint import CONNECTIONS
from rxllm.server.websocket.session import Session
from rxllm.settings import Settings
from tests.server.serving import STORY, Stepwise, scripted, serving, turns, until
from tests.server.websocket_client import SECONDS, Talker, silent, talking


def stepwise(*chunks: Any, **limits: Any) -> tuple[Stepwise, web.Application]:
    model = Stepwise(*chunks)
    return model, create_app({"tiny": model}, limits=Limits(**limits))


async def test_the_first_message_is_a_welcome_with_capabilities_and_models() -> None:
    async with serving(scripted()) as session, talking(session) as client:
        assert client.connected["type"] == "connected"
        assert client.connected["defaultModel"] == "tiny"
        assert [model["id"] for model in client.connected["models"]] == ["tiny"]
        assert {"streams", "pause", "chat", "rooms"} <= set(client.connected["capabilities"])
        assert client.connected["welcome"]


async def test_a_stream_comes_as_chunks_and_complete() -> None:
    async with serving(scripted()) as session, talking(session) as client:
        await client.send("start", id="a", prompt="Tell me a story")
        complete = await client.until("complete", id="a")
        assert client.text("a") == STORY
        assert (complete["tokens"], complete["finishReason"]) == (12, "stop")
        positions = [message["position"] for message in client.got]
        assert positions == list(range(1, len(client.got) + 1))


async def test_progress_comes_every_10_tokens_with_the_remaining_time() -> None:
    async with serving(scripted("word " * 30)) as session, talking(session) as client:
        await client.send("start", id="a", prompt="Hi", options={"maxTokens": 25})
        await client.until("complete")
        told = [m["chunk"] for m in client.of("chunk") if m["chunk"]["type"] == "progress"]
        assert [(each["tokens"], each["percentage"]) for each in told] == [
            (10, 40.0),
            (20, 80.0),
            (25, 100.0),
        ]
        assert all(each["remaining"] >= 0 for each in told)


async def test_many_streams_run_at_once_on_one_connection() -> None:
    model, app = stepwise()
    async with serving(app) as session, talking(session) as client:
        for name in ("a", "b", "c"):
            await client.send("start", id=name, prompt="Hi")
        await until(lambda: model.active == 3)
        model.let()
        for _ in range(3):
            await client.until("complete")
        assert [client.text(name) for name in ("a", "b", "c")] == ["abcdef"] * 3


async def test_a_stream_is_paused_resumed_and_stopped() -> None:
    model, app = stepwise()
    async with serving(app) as session, talking(session) as client:
        await client.send("start", id="a", prompt="Hi")
        model.let(2)
        await client.until("chunk", position=2)
        assert await client.ask("pause", id="a") == {
            "type": "state",
            "id": "a",
            "status": "paused",
        }
        model.let(2)
        assert await client.quiet() == []
        assert (await client.ask("resume", id="a"))["status"] == "running"
        await client.until("chunk", position=4)
        assert (await client.ask("stop", id="a"))["status"] == "cancelled"
        complete = await client.until("complete", id="a")
        assert complete["finishReason"] == "cancelled"
        assert client.of("chunk")[-1]["chunk"] == {"type": "end", "finishReason": "cancelled"}
        await until(lambda: model.active == 0)


async def test_a_request_about_an_ended_stream_is_answered_with_its_outcome() -> None:
    model, app = stepwise()
    async with serving(app) as session, talking(session) as client:
        model.let()
        await client.send("start", id="done", prompt="Hi")
        await client.until("complete", id="done")
        for kind in ("pause", "resume", "stop"):
            assert await client.ask(kind, id="done") == {
                "type": "state",
                "id": "done",
                "status": "completed",
            }
        await client.send("start", id="stopped", prompt="Hi")
        await client.send("stop", id="stopped")
        await client.until("complete", id="stopped")
        assert (await client.ask("stop", id="stopped"))["status"] == "cancelled"
        assert (await client.ask("stop", id="never"))["code"] == "stream_not_found"


async def test_the_outcomes_of_the_last_100_streams_are_remembered() -> None:
    app = scripted([RateLimitError("no")], limits=Limits(messages_per_second=1000))
    async with serving(app) as session, talking(session) as client:
        for number in range(101):
            await client.send("start", id=f"{number}", prompt="Hi")
            await client.until("error", id=f"{number}")
        assert (await client.ask("pause", id="1"))["status"] == "failed"
        assert (await client.ask("pause", id="0"))["code"] == "stream_not_found"


async def test_models_are_listed_and_pings_answered() -> None:
    async with serving(scripted()) as session, talking(session) as client:
        models = await client.ask("models")
        assert (models["type"], models["defaultModel"]) == ("models", "tiny")
        assert await client.ask("ping") == {"type": "pong"}


async def test_a_client_cannot_stop_the_streams_of_another() -> None:
    model, app = stepwise()
    async with serving(app) as session, talking(session) as one, talking(session) as other:
        await one.send("start", id="same", prompt="Hi")
        await other.send("start", id="same", prompt="Hi")
        await until(lambda: model.active == 2)
        for kind in ("stop", "pause", "resume"):
            await one.send("start", id="mine", prompt="Hi")
            error = await other.ask(kind, id="mine")
            assert (error["code"], error["id"]) == ("stream_not_found", "mine")
            await one.quiet()
        await other.send("stop", id="same")
        await other.until("complete", id="same")
        model.let()
        assert (await one.until("complete", id="same"))["finishReason"] == "stop"


@pytest.mark.parametrize("way", ["closes", "vanishes"])
async def test_the_streams_of_a_client_that_leaves_end_after_the_grace_period(way: str) -> None:
    model, app = stepwise(grace=0)
    async with serving(app) as session, talking(session) as other:
        await other.send("start", id="a", prompt="Hi")
        async with talking(session) as client:
            await client.send("start", id="a", prompt="Hi")
            await client.send("start", id="b", prompt="Hi")
            await until(lambda: model.active == 3)
            if way == "vanishes":
                client.socket.get_extra_info("socket").shutdown(SHUT_RDWR)
        await until(lambda: model.active == 1)
        assert len(app[MODELS].registry.active) == 1
        await until(lambda: len(app[CONNECTIONS]) == 1)


WRONG = {
    "no JSON": ("{{{", "invalid_message", None),
    "nothing": ("", "invalid_message", None),
    "no object": ("[1]", "invalid_message", None),
    "no type": ("{}", "invalid_message", "type"),
    "no such type": ('{"type":"nope"}', "invalid_message", "type"),
    "unknown field": ('{"type":"ping","x":1}', "invalid_message", "x"),
    "missing field": ('{"type":"stop"}', "invalid_message", "id"),
    "empty id": ('{"type":"stop","id":""}', "invalid_message", "id"),
    "nested too deep": (
        '{"type":"start","id":"a","prompt":"x","options":{"responseFormat":{"a":' + "[" * 50_000,
        "invalid_message",
        None,
    ),
    "half a character": ('{"type":"chat","id":"a","text":"\\ud800"}', "invalid_message", None),
    "no prompt": ('{"type":"start","id":"a"}', "invalid_message", "prompt"),
    "two prompts": (
        '{"type":"start","id":"a","prompt":"x","messages":[]}',
        "invalid_message",
        "messages",
    ),
    "wrong option": (
        '{"type":"start","id":"a","prompt":"x","options":{"maxTokens":"many"}}',
        "invalid_message",
        "options.maxTokens",
    ),
    "misspelt option": (
        '{"type":"start","id":"a","prompt":"x","options":{"maxtokens":1}}',
        "invalid_message",
        "options.maxtokens",
    ),
    "option out of range": (
        '{"type":"start","id":"a","prompt":"x","options":{"temperature":9}}',
        "invalid_message",
        "options.temperature",
    ),
    "too many tokens": (
        '{"type":"start","id":"a","prompt":"x","options":{"maxTokens":100000}}',
        "invalid_message",
        "options.maxTokens",
    ),
    "empty stop sequences": (
        '{"type":"start","id":"a","prompt":"x","options":{"stop":["",""]}}',
        "invalid_message",
        "options.stop",
    ),
    "an option at the wrong place": (
        '{"type":"start","id":"a","prompt":"x","model":"tiny"}',
        "invalid_message",
        "model",
    ),
    "no messages": ('{"type":"start","id":"a","messages":[]}', "invalid_message", "messages"),
    "messages too long": (
        '{"type":"start","id":"a","messages":[{"role":"user","content":"' + "x" * 101_000 + '"}]}',
        "too_large",
        "messages",
    ),
    "a chat message too long": (
        '{"type":"chat","id":"a","text":"' + "x" * 101_000 + '"}',
        "too_large",
        "text",
    ),
    "no such model": (
        '{"type":"start","id":"a","prompt":"x","options":{"model":"/etc/passwd"}}',
        "model_not_found",
        "options.model",
    ),
    "too long": (
        '{"type":"start","id":"a","prompt":"' + "x" * 101_000 + '"}',
        "too_large",
        "prompt",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_an_invalid_message_is_reported_and_the_connection_stays_open(case: str) -> None:
    sent, code, field = WRONG[case]
    async with serving(scripted()) as session, talking(session) as client:
        await client.socket.send_str(sent)
        error = await client.receive()
        assert (error["type"], error["code"], error.get("field")) == ("error", code, field)
        assert error["message"]
        await client.send("start", id="b", prompt="Hi")
        await client.until("complete", id="b")


async def test_the_error_for_an_invalid_start_has_its_id() -> None:
    async with serving(scripted()) as session, talking(session) as client:
        error = await client.ask("start", id="a", prompt="Hi", options={"seed": "x"})
        assert (error["id"], error["field"]) == ("a", "options.seed")


@pytest.mark.parametrize(
    ("sent", "names"),
    [
        (r'{"type":"start","id":"a","prompt":"half \ud83d"}', ("a", None)),
        (r'{"type":"say","room":"r","text":"half \ud83d"}', (None, "r")),
        ('{"type":"start","id":"a","room":5,"prompt":"Hi"}', ("a", None)),
        ('{"type":"say","id":[],"room":"r","text":5}', (None, "r")),
        ('{"type":"start","id":"' + "a" * 101 + '"}', (None, None)),
        ("[" * 50_000, (None, None)),
    ],
)
async def test_an_error_has_the_id_and_the_room_if_they_can_be_found(
    sent: str, names: tuple[str | None, str | None]
) -> None:
    async with serving(scripted()) as session, talking(session) as client:
        await client.socket.send_str(sent)
        error = await client.receive()
        assert error["code"] == "invalid_message"
        assert (error.get("id"), error.get("room")) == names


async def test_the_error_for_too_many_messages_has_the_id_or_the_room() -> None:
    app = scripted(limits=Limits(messages_per_second=0.001))
    async with serving(app) as session, talking(session) as client:
        for _ in range(10):
            await client.ask("ping")
        error = await client.ask("start", id="a", prompt="Hi")
        assert (error["code"], error["id"]) == ("too_many_messages", "a")
        error = await client.ask("join", room="r", name="Ann")
        assert (error["code"], error["room"]) == ("too_many_messages", "r")


async def test_nothing_is_started_for_a_disconnected_client() -> None:
    """Messages may have been read before the connection broke."""
    model, app = stepwise()
    async with serving(app):
        connections = app[CONNECTIONS]
        session = Session(
            *(app[MODELS], app[STREAMS], connections.rooms, connections.sessions, Persona())
        )
        # Nobody reads its outbox.
        await session.receive('{"type":"start","id":"a","prompt":"Hi"}')
        await session.receive('{"type":"join","room":"r","name":"Ann"}')
        assert (model.active, len(app[CONNECTIONS].rooms)) == (0, 0)


async def test_a_binary_message_is_refused() -> None:
    async with serving(scripted()) as session, talking(session) as client:
        await client.socket.send_bytes(b'{"type":"ping"}')
        assert (await client.receive())["code"] == "invalid_message"


async def test_a_second_stream_with_the_same_id_is_refused_and_the_first_continues() -> None:
    model, app = stepwise()
    async with serving(app) as session, talking(session) as client:
        await client.send("start", id="a", prompt="Hi")
        error = await client.ask("start", id="a", prompt="Hi")
        assert (error["code"], error["field"]) == ("invalid_message", "id")
        assert "id" not in error, "an error with the id would end the first stream"
        model.let()
        await client.until("complete", id="a")
        await client.send("start", id="a", prompt="Hi")  # free again
        await client.until("complete", id="a")


async def test_a_failure_is_the_last_message_of_its_stream() -> None:
    script = ["Once ", RateLimitError("slow down", retry_after=3.0)]
    async with serving(scripted(script)) as session, talking(session) as client:
        await client.send("start", id="a", prompt="Hi")
        error = await client.until("error", id="a")
        assert (error["code"], error["partial"], error["retryAfter"]) == ("rate_limit", "Once ", 3)
        assert await client.quiet() == []


async def test_the_message_of_a_foreign_exception_is_reported_but_not_sent() -> None:
    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    app = scripted([ValueError("the password is 1234")])
    async with serving(app) as session, talking(session) as client:
        await client.send("start", id="a", prompt="Hi")
        error = await client.until("error", id="a")
        assert error["code"] == "internal"
        assert "1234" not in error["message"]
    assert [str(report["exception"]) for report in reports] == ["the password is 1234"]


async def test_too_many_streams_at_once_are_refused() -> None:
    model, app = stepwise(streams_per_connection=2)
    async with serving(app) as session, talking(session) as client:
        for name in ("a", "b"):
            await client.send("start", id=name, prompt="Hi")
        error = await client.ask("start", id="c", prompt="Hi")
        assert (error["code"], error["id"], error["retryable"]) == ("too_many_streams", "c", True)
        model.let()
        await client.until("complete")
        await client.until("complete")


async def test_too_many_messages_are_refused_and_in_the_end_closed_with_1008() -> None:
    app = scripted(limits=Limits(messages_per_second=0.001))
    async with serving(app) as session, talking(session) as client:
        for _ in range(21):
            await client.send("ping")
        answers = [await client.receive() for _ in range(20)]
        assert [answer["type"] for answer in answers] == ["pong"] * 10 + ["error"] * 10
        assert {answer["code"] for answer in answers[10:]} == {"too_many_messages"}
        closing = await client.socket.receive(timeout=SECONDS)
        assert closing.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED)
        assert client.socket.close_code == 1008


async def test_a_message_that_is_too_large_closes_the_connection_with_1009() -> None:
    app = scripted(limits=Limits(message_bytes=1000))
    async with serving(app) as session, talking(session) as client:
        await client.send("chat", id="a", text="x" * 2000)
        await client.socket.receive(timeout=SECONDS)
        assert client.socket.close_code == 1009
        await until(lambda: not len(app[CONNECTIONS]))


async def test_too_many_connections_are_refused_with_503() -> None:
    app = scripted(limits=Limits(connections=1))
    async with serving(app) as session, talking(session):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/ws")
        assert refused.value.status == 503


async def test_a_request_without_an_upgrade_is_400() -> None:
    async with serving(scripted()) as session, session.get("/ws") as response:
        assert response.status == 400


START = '{"type":"start","id":"a","prompt":"Hi"}'
ENDLESS = Limits(grace=0, stream_characters=10**8)
HELD = Settings(buffer_size=16)
"""For a model that never stops: it is soon held, and stopped a second after its reader leaves."""


async def test_a_client_that_reads_nothing_holds_only_its_own_model() -> None:
    talker = Talker()
    app = create_app(
        {"tiny": talker, "small": ScriptedModel("fine")}, limits=ENDLESS, settings=HELD
    )
    async with serving(app) as session, asyncio.timeout(20), silent(session, START) as slow:
        await talker.endless.held.wait()
        async with talking(session) as client:
            await client.send("start", id="b", prompt="Hi", options={"model": "small"})
            await client.until("complete", id="b")
        said = talker.endless.emitted
        await turns()  # nothing may happen meanwhile
        assert talker.endless.emitted == said
        while not talker.endless.resumed.is_set():
            await slow.read_frame()


async def test_a_client_that_stalls_for_too_long_is_disconnected() -> None:
    talker = Talker()
    limits = msgspec.structs.replace(ENDLESS, reader_stall=0.05)
    app = create_app({"tiny": talker}, limits=limits, settings=HELD)
    async with serving(app) as session, asyncio.timeout(20), silent(session, START):
        await talker.endless.disposed.wait()
        await until(lambda: len(app[CONNECTIONS]) == 0)
        assert app[MODELS].registry.active == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing handshakes and heartbeats take tenths of a second."""
    monkeypatch.setattr("rxllm.server.websocket.endpoint._CLOSING", 0.1)
    monkeypatch.setattr("rxllm.server.websocket.endpoint._HEARTBEAT", 0.2)


def sockets_of(app: web.Application) -> list[web.Request]:
    """Collect the WebSocket requests that are answered from now on."""
    requests: list[web.Request] = []

    async def note(request: web.Request, _: web.StreamResponse) -> None:
        requests.append(request)

    app.on_response_prepare.append(note)
    return requests


@pytest.mark.parametrize("why", ["silence", "too many messages", "close frame", "half-close"])
@pytest.mark.usefixtures("impatient")
async def test_a_client_that_reads_nothing_is_cut_off_when_closed_for(why: str) -> None:
    """The sent messages, the connection and its slot are all released."""
    talker = Talker()
    stall = 30.0 if why == "too many messages" else 0.5
    limits = msgspec.structs.replace(ENDLESS, reader_stall=stall)
    app = create_app({"tiny": talker}, limits=limits, settings=HELD)
    opened = sockets_of(app)
    async with serving(app) as session, asyncio.timeout(20), silent(session, START) as client:
        await talker.endless.held.wait()
        if why == "too many messages":
            for _ in range(100):
                client.send('{"type":"ping"}')
        elif why == "close frame":
            client.close()
        elif why == "half-close":
            client.leave()
        await until(lambda: not len(app[CONNECTIONS]))
        await until(lambda: opened[0].transport is None)
        await talker.endless.disposed.wait()


@pytest.mark.usefixtures("impatient")
async def test_a_shutdown_does_not_wait_for_a_client_that_reads_nothing() -> None:
    talker = Talker()
    app = create_app(
        {"tiny": talker}, limits=ENDLESS, settings=Settings(shutdown=0.05, buffer_size=16)
    )
    opened = sockets_of(app)
    async with serving(app) as session, silent(session, START):
        await talker.endless.held.wait()
        async with asyncio.timeout(20):  # `reader_stall` is 30 s
            await app.shutdown()
            await until(lambda: opened[0].transport is None)
            await until(lambda: not len(app[CONNECTIONS]))


async def test_a_shutdown_lets_streams_finish_and_then_closes_with_1001() -> None:
    model, app = stepwise(Start("r", "m"), Token("a"), End("stop"))
    async with serving(app) as session, talking(session) as client:
        await client.send("start", id="a", prompt="Hi")
        await until(lambda: model.active == 1)
        stopping = asyncio.ensure_future(app.shutdown())
        await until(lambda: app[MODELS].registry.refusing)
        error = await client.ask("start", id="b", prompt="Hi")
        assert (error["code"], error["id"], error["retryable"]) == ("draining", "b", True)
        model.let()
        assert (await client.until("complete", id="a"))["finishReason"] == "stop"
        await client.socket.receive(timeout=SECONDS)
        assert client.socket.close_code == 1001
        await stopping


async def test_streams_that_have_not_finished_at_the_deadline_are_cancelled() -> None:
    model = Stepwise()
    app = create_app({"tiny": model}, settings=Settings(shutdown=0.01))
    async with serving(app) as session, talking(session) as client:
        await client.send("start", id="a", prompt="Hi")
        await until(lambda: model.active == 1)
        stopping = asyncio.ensure_future(app.shutdown())
        assert (await client.until("complete", id="a"))["finishReason"] == "cancelled"
        await client.socket.receive(timeout=SECONDS)
        await stopping
        assert model.active == 0


async def test_the_streams_of_a_connection_are_listed_and_can_be_stopped_over_http() -> None:
    model, app = stepwise()
    async with serving(app) as session, talking(session) as client:
        await client.send("start", id="a", prompt="Hi")
        await until(lambda: model.active == 1)
        async with session.get("/streams") as response:
            (listed,) = (await response.json())["streams"]
        assert (listed["status"], listed["model"], listed["readers"]) == ("waiting", "tiny", 1)
        async with session.delete(f"/streams/{listed['id']}") as response:
            assert response.status == 200
        assert (await client.until("complete", id="a"))["finishReason"] == "cancelled"
