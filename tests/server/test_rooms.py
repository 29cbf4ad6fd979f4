"""Rooms of several people and a model."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from reactivex.disposable import SerialDisposable

from rxllm.chunks import End, Start, Token
from rxllm.errors import BadRequestError, ModelNotFoundError, ServerError
from rxllm.models.scripted import ScriptedModel
from rxllm.server import Limits, create_app
from rxllm.server.app_keys import MODELS, STREAMS
from rxllm.server.messages import Say
from rxllm.server.persona import Persona, RoomSettings
from rxllm.server.rooms.member import is_addressed
from rxllm.server.rooms.rooms import Rooms
from rxllm.server.websocket.endpoint import CONNECTIONS
from rxllm.server.websocket.outbox import Outbox
from rxllm.testing import run_virtual
from tests.server.serving import STORY, Stepwise, scripted, serving, turns, until
from tests.server.websocket_client import Talker, silent, talking


@pytest.mark.parametrize(
    "text",
    [
        "bot, tell me a story",
        "@bot hi",
        "AI!",
        "hey Assistant",
        "help",
        "Can somebody explain this",
        "what now?",
        'he asked "why?"',
        "really?!",
        "What?I thought so",
        "so...bot, what now",
        "the AI's turn",
        "read this (http://x.org/)?",
        "\u4eca\u4f55\u6642\u3067\u3059\u304b\uff1f",
    ],
)
def test_bot_assistant_help_explain_or_a_question_mark_ask_the_model(text: str) -> None:
    assert is_addressed(text)


@pytest.mark.parametrize(
    "text",
    [
        "she said so",
        "it rained in Spain",
        "the robots",
        "helpful",
        "unexplained",
        "my assistants",
        "see http://example.org/?page=2",
        "http://x.org/search?",
        "example.org/x?page=2",
        "see https://x.ai/blog",
        "J'ai dit oui",
        "j\u2019ai dit oui",
        "robot.ai is nice",
        "open the file bot.py",
        "write to help@example.org",
        "nothing",
    ],
)
def test_words_that_only_contain_them_do_not_ask_the_model(text: str) -> None:
    assert not is_addressed(text)


async def test_a_new_member_gets_participants_and_history_and_all_hear_who_leaves() -> None:
    async with serving(scripted()) as session, talking(session) as ann, talking(session) as bob:
        assert await ann.join("r", "Ann") == {
            "type": "joined",
            "room": "r",
            "name": "Ann",
            "participants": ["Ann"],
        }
        await ann.send("say", room="r", text="hello")
        said = await ann.until("room_message")
        assert (said["name"], said["text"]) == ("Ann", "hello")
        joined = await bob.join("r", "Bob")
        assert joined["participants"] == ["Ann", "Bob"]
        assert joined["history"] == [
            {key: value for key, value in said.items() if key != "type"} | {"type": "room_message"}
        ]
        assert "history" not in await ann.until("joined", name="Bob")
        await bob.send("leave", room="r")
        left = await ann.until("left")
        assert (left["name"], left["participants"]) == ("Bob", ["Ann"])
        assert (await bob.until("left"))["name"] == "Bob"
        await ann.send("say", room="r", text="alone")
        await ann.until("room_message", text="alone")
        assert await bob.quiet() == []


async def test_rooms_are_separate() -> None:
    async with serving(scripted()) as session, talking(session) as ann, talking(session) as bob:
        await ann.join("one", "Ann")
        await bob.join("two", "Bob")
        await ann.send("say", room="one", text="bot, hi")
        await ann.until("room_message", bot=True)
        assert await bob.quiet() == []


async def test_the_history_holds_the_last_50_messages() -> None:
    async with (
        serving(scripted(limits=Limits(messages_per_second=1000))) as session,
        talking(session) as ann,
        talking(session) as bob,
    ):
        await ann.join("r", "Ann")
        for number in range(60):
            await ann.send("say", room="r", text=f"{number}")
        await ann.until("room_message", text="59")
        history = (await bob.join("r", "Bob"))["history"]
    assert [message["text"] for message in history] == [f"{n}" for n in range(10, 60)]


async def test_all_members_receive_the_answer_under_one_id() -> None:
    async with serving(scripted()) as session, talking(session) as ann, talking(session) as bob:
        await ann.join("r", "Ann")
        await bob.join("r", "Bob")
        await ann.send("say", room="r", text="bot, a story")
        answers = [await client.until("room_message", bot=True) for client in (ann, bob)]
        assert answers[0] == answers[1]
        assert (answers[0]["name"], answers[0]["text"]) == ("assistant", STORY)
        for client in (ann, bob):
            assert client.text(answers[0]["id"]) == STORY
            assert {chunk["room"] for chunk in client.of("chunk")} == {"r"}
            kinds = [message["type"] for message in client.got[-2:]]
            assert kinds == ["complete", "room_message"]
            await client.until("typing", name="assistant", typing=False)


async def test_the_model_does_not_answer_unless_it_is_asked() -> None:
    async with serving(scripted()) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        await ann.send("say", room="r", text="she said so")
        await ann.until("room_message")
        assert await ann.quiet() == []


async def test_replies_come_one_at_a_time() -> None:
    model = Stepwise(Start("r", "m"), Token("hm"), End("stop"))
    async with serving(create_app({"tiny": model})) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        await ann.send("say", room="r", text="first?")
        await ann.send("say", room="r", text="second?")
        await until(lambda: model.active == 1)
        await ann.quiet()
        assert model.active == 1
        model.let()
        await ann.until("room_message", bot=True)
        await ann.until("room_message", bot=True)
        order = [m["id"] for m in ann.of("chunk")]
        assert order == sorted(order, key=order.index), "they are interleaved"
        assert len(set(order)) == 2
        typing = [message["typing"] for message in ann.of("typing")]
        assert typing == [True]
        await ann.until("typing", typing=False)


async def test_too_many_questions_are_sent_but_not_answered() -> None:
    model = Stepwise(Start("r", "m"), Token("hm"), End("stop"))
    async with serving(create_app({"tiny": model})) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        await ann.send("say", room="r", text="0?")
        await until(lambda: model.active == 1)
        for number in range(1, 7):
            await ann.send("say", room="r", text=f"{number}?")
        error = await ann.until("error")
        assert (error["code"], error["room"]) == ("bot_busy", "r")
        assert ann.of("room_message", text="6?")
        model.let()
        for _ in range(6):
            await ann.until("room_message", bot=True)
        await ann.until("typing", typing=False)


async def test_the_model_gets_the_conversation_with_names_if_there_are_several_people() -> None:
    model = ScriptedModel("fine")
    async with (
        serving(create_app({"tiny": model})) as session,
        talking(session) as ann,
        talking(session) as bob,
    ):
        await ann.join("r", "Ann")
        await bob.join("r", "Bob")
        await ann.send("say", room="r", text="bot, hi")
        await ann.until("typing", typing=False)
        await bob.until("typing", typing=False)
        await ann.send("say", room="r", text="it rains")
        await bob.until("room_message", text="it rains")
        await bob.send("say", room="r", text="where?")
        await bob.until("typing", typing=False)
    first, second = [[(m.role, m.text) for m in asked.messages] for asked in model.requests]
    persona = ("system", RoomSettings().system)
    assert first == [persona, ("user", "bot, hi")]
    assert second == [
        persona,
        ("user", "Ann: bot, hi"),
        ("assistant", "fine"),
        ("user", "Ann: it rains\nBob: where?"),
    ]


async def test_a_question_that_has_waited_comes_without_what_people_said_since() -> None:
    model = Stepwise(Start("r", "m"), Token("fine"), End("stop"))
    async with serving(create_app({"tiny": model})) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        for text in ("hello?", "me too, bot", "it rains", "help"):
            await ann.send("say", room="r", text=text)
            await ann.until("room_message", text=text)
        model.let()
        for _ in range(3):
            await ann.until("room_message", bot=True)
        await ann.until("typing", typing=False)
    asked = [[(m.role, m.text) for m in asked.messages[1:]] for asked in model.requests]
    assert asked == [
        [("user", "hello?")],
        [("user", "hello?"), ("assistant", "fine"), ("user", "me too, bot")],
        [
            ("user", "hello?\nme too, bot\nit rains"),
            ("assistant", "fine\nfine"),
            ("user", "help"),
        ],
    ]


PIRATE = RoomSettings(
    system="Talk like a pirate.",
    model="pirate",
    max_tokens=50,
    temperature=0.5,
    stop=("THE END",),
    messages=1,
)


async def test_the_model_in_a_room_has_a_persona() -> None:
    model = ScriptedModel("Arr.")
    app = create_app({"tiny": ScriptedModel("no"), "pirate": model}, rooms=PIRATE)
    async with serving(app) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        for text in ("it rains", "it snows", "bot, where?"):
            await ann.send("say", room="r", text=text)
        await ann.until("room_message", text="Arr.")
        await ann.send(
            *("say",),
            room="r",
            text="and bot, why?",
            system="Be brief.",
            options={"maxTokens": 9, "temperature": 0},
        )
        await ann.until("room_message", text="Arr.")
    first, second = model.requests
    assert [(each.role, each.text) for each in first.messages] == [
        ("system", "Talk like a pirate."),
        ("user", "it snows\nbot, where?"),
    ]
    assert (first.max_tokens, first.temperature, first.stop) == (50, 0.5, ("THE END",))
    assert second.messages[0].text == "Be brief."
    assert (second.max_tokens, second.temperature, second.stop) == (9, 0.0, ("THE END",))


@pytest.mark.parametrize(
    ("asked", "code", "field"),
    [
        ({"options": {"maxTokens": 10**6}}, "invalid_message", "options.maxTokens"),
        ({"options": {"temperature": 3}}, "invalid_message", "options.temperature"),
        ({"options": {"model": "big"}}, "model_not_found", "options.model"),
        ({"system": "x" * 200_000}, "too_large", "text"),
    ],
)
async def test_what_is_above_the_limits_is_refused_before_it_is_sent(
    asked: Any, code: str, field: str | None
) -> None:
    async with serving(scripted()) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        await ann.send("say", room="r", text="bot, why?", **asked)
        error = await ann.until("error")
        assert (error["code"], error.get("field"), error["room"]) == (code, field, "r")
        assert not ann.of("room_message")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": 3}, "temperature must be between 0 and 2"),
        ({"max_tokens": 0}, "max_tokens must be 1 or more"),
        ({"messages": -1}, "messages must be 0 or more"),
        ({"messages": 1.5}, "messages must be an integer"),
        ({"system": 3}, "system must be text, got 3"),
        ({"model": b"x"}, "model must be text, got b'x'"),
    ],
)
def test_invalid_settings_raise(settings: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RoomSettings(**settings)


def test_chat_rooms_limits_and_settings_must_have_their_class() -> None:
    model: Any = {"tiny": ScriptedModel("no")}
    with pytest.raises(TypeError, match="limits must be a Limits, got dict"):
        create_app(model, limits={"streams": 3})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="settings must be a Settings, got dict"):
        create_app(model, settings={"total": 3})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="chat must be a Persona, got dict"):
        create_app(model, chat={"system": "x"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="rooms must be a RoomSettings, got Persona"):
        create_app(model, rooms=Persona(system="x"))  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["rooms", "chat"])
def test_a_persona_must_be_within_the_limits_of_the_server(where: str) -> None:
    model = {"tiny": ScriptedModel("no")}
    with pytest.raises(BadRequestError, match="max_tokens must be at most"):
        create_app(model, **{where: RoomSettings(max_tokens=10**6)})  # type: ignore[arg-type]
    with pytest.raises(ModelNotFoundError, match="there is no model 'big'"):
        create_app(model, **{where: RoomSettings(model="big")})  # type: ignore[arg-type]


async def test_the_rooms_are_listed_with_their_members() -> None:
    async with (
        serving(scripted()) as session,
        talking(session) as ann,
        talking(session) as bob,
    ):
        await ann.send("rooms")
        assert (await ann.until("rooms"))["rooms"] == []
        await ann.join("quiet", "Ann")
        await ann.join("busy", "Ann")
        await bob.join("busy", "Bob")
        async with session.get("/rooms") as response:
            listed = (await response.json())["rooms"]
        assert [(room["name"], room["members"]) for room in listed] == [("busy", 2), ("quiet", 1)]
        await ann.send("say", room="quiet", text="it rains")
        await ann.until("room_message")
        await bob.send("rooms")
        names = [room["name"] for room in (await bob.until("rooms"))["rooms"]]
        assert names == ["quiet", "busy"]
        await ann.send("leave", room="quiet")
        await ann.until("left")
        async with session.get("/rooms") as response:
            assert [room["name"] for room in (await response.json())["rooms"]] == ["busy"]


@pytest.mark.parametrize("script", [["half ", ServerError("no")], [ServerError("no")]])
async def test_typing_ends_after_an_error(script: Any) -> None:
    model = ScriptedModel(script, "fine")
    async with serving(create_app({"tiny": model})) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        await ann.send("say", room="r", text="what?")
        await ann.until("typing", name="assistant", typing=True)
        error = await ann.until("error")
        assert (error["code"], error["room"]) == ("server", "r")
        await ann.until("typing", name="assistant", typing=False)
        await ann.send("say", room="r", text="again?")
        assert (await ann.until("room_message", bot=True))["text"] == "fine"
        await ann.until("typing", typing=False)


async def test_an_answer_that_fails_to_start_is_reported_and_typing_ends() -> None:
    app = scripted(limits=Limits(streams=1))
    async with serving(app) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        await app[MODELS].registry.shutdown(0)
        await ann.send("say", room="r", text="what?")
        error = await ann.until("error")
        assert (error["code"], error["room"]) == ("draining", "r")
        await ann.until("typing", name="assistant", typing=False)


@pytest.mark.parametrize("way", ["says", "leaves", "disconnects"])
async def test_typing_ends_when_a_member(way: str) -> None:
    async with serving(scripted()) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        async with talking(session) as bob:
            await bob.join("r", "Bob")
            await bob.send("typing", room="r", typing=True)
            await ann.until("typing", name="Bob", typing=True)
            assert not bob.of("typing")
            if way == "says":
                await bob.send("say", room="r", text="hello")
            elif way == "leaves":
                await bob.send("leave", room="r")
            else:
                await bob.socket.close()
            await ann.until("typing", name="Bob", typing=False)


async def test_a_late_member_is_notified_who_is_typing() -> None:
    async with serving(scripted()) as session, talking(session) as ann, talking(session) as bob:
        await ann.join("r", "Ann")
        await ann.send("typing", room="r", typing=True)
        await ann.quiet()
        await bob.join("r", "Bob")
        await bob.until("typing", name="Ann", typing=True)


async def test_a_member_that_joins_during_an_answer_receives_all_of_it() -> None:
    model = Stepwise()
    async with (
        serving(create_app({"tiny": model})) as session,
        talking(session) as ann,
        talking(session) as bob,
    ):
        await ann.join("r", "Ann")
        await ann.send("say", room="r", text="what?")
        model.let(4)
        await ann.until("chunk", position=4)
        await bob.join("r", "Bob")
        snapshot = await bob.until("chunk", position=4)
        assert snapshot["chunk"] == {"type": "token", "text": "abc"}
        assert bob.of("typing", name="assistant", typing=True)
        model.let()
        answer = await bob.until("room_message", bot=True)
        assert bob.text(answer["id"]) == answer["text"] == "abcdef"


async def test_the_partial_answer_is_kept_if_it_is_stopped_over_http() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        await ann.send("say", room="r", text="what?")
        model.let(3)
        reply = (await ann.until("chunk", position=3))["id"]
        assert (await ann.ask("stop", id=reply))["code"] == "stream_not_found"  # not its own
        async with session.delete(f"/streams/{reply}") as response:
            assert response.status == 200
        assert (await ann.until("complete"))["finishReason"] == "cancelled"
        assert (await ann.until("room_message", bot=True))["text"] == "ab"
        await ann.until("typing", typing=False)


async def test_an_empty_room_is_removed_and_its_answer_stopped() -> None:
    model = Stepwise()
    app = create_app({"tiny": model})
    async with serving(app) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        await ann.send("say", room="r", text="what?")
        await until(lambda: model.active == 1)
        await ann.send("leave", room="r")
        await until(lambda: model.active == 0)
        assert len(app[CONNECTIONS].rooms) == 0
        assert "history" not in await ann.join("r", "Ann")


async def test_a_room_ends_with_the_connection_of_its_last_member() -> None:
    model = Stepwise()
    app = create_app({"tiny": model})
    async with serving(app) as session:
        async with talking(session) as ann:
            await ann.join("r", "Ann")
            await ann.send("say", room="r", text="what?")
            await until(lambda: model.active == 1)
        await until(lambda: model.active == 0 and len(app[CONNECTIONS].rooms) == 0)


@pytest.mark.parametrize("name", ["Ann", "ANN", "\uff21nn"])
async def test_names_that_look_the_same_are_taken_in_a_room(name: str) -> None:
    async with serving(scripted()) as session, talking(session) as ann, talking(session) as bob:
        await ann.join("r", "Ann")
        error = await bob.ask("join", room="r", name=name)
        assert (error["code"], error["field"], error["room"]) == ("invalid_message", "name", "r")
        await bob.join("other", name)
        assert await ann.quiet() == []


UNSEEN = ["\u034f", "\u115f", "\u2800", "\u3164", "\ufe0f", "\uffa0", "\U000e0100"]


@pytest.mark.parametrize(
    "name",
    [" Ann", "A\nn", "A\u200bnn", "assistant", "AI", "", "assistant\ufe0f", "\u3164"]
    + [f"Ann{character}" for character in UNSEEN],
)
async def test_deceptive_names_are_refused(name: str) -> None:
    async with serving(scripted()) as session, talking(session) as ann:
        error = await ann.ask("join", room="r", name=name)
        assert (error["code"], error["field"]) == ("invalid_message", "name")


async def test_only_members_can_act_in_a_room() -> None:
    async with serving(scripted()) as session, talking(session) as ann, talking(session) as bob:
        await ann.join("r", "Ann")
        for kind, fields in (("say", {"text": "hi"}), ("typing", {"typing": True}), ("leave", {})):
            error = await bob.ask(kind, room="r", **fields)
            assert (error["code"], error["room"]) == ("not_in_room", "r")
        assert (await ann.ask("join", room="r", name="Eve"))["code"] == "already_joined"
        assert (await ann.ask("typing", room="r", typing=True, name="Bob"))["field"] == "name"
        assert (await ann.ask("say", room="r", text="   "))["field"] == "text"
        assert (await ann.ask("say", room="r", text="x" * 20_001))["code"] == "too_large"


async def test_rooms_and_their_members_are_limited() -> None:
    app = scripted(limits=Limits(rooms=1, room_members=1))
    async with serving(app) as session, talking(session) as ann, talking(session) as bob:
        await ann.join("r", "Ann")
        assert (await bob.ask("join", room="r", name="Bob"))["code"] == "room_full"
        assert (await bob.ask("join", room="s", name="Bob"))["code"] == "too_many_rooms"


async def test_a_client_can_join_at_most_eight_rooms() -> None:
    async with serving(scripted()) as session, talking(session) as ann:
        for number in range(8):
            await ann.join(f"{number}", "Ann")
        error = await ann.ask("join", room="8", name="Ann")
        assert (error["code"], error["room"]) == ("too_many_rooms", "8")
        assert (await ann.ask("join", room="0", name="Ann"))["code"] == "already_joined"
        await ann.send("leave", room="0")
        await ann.until("left")
        await ann.join("8", "Ann")


@pytest.mark.memory_store
def test_typing_ends_after_60_seconds_unless_it_is_repeated() -> None:
    async def main() -> list[tuple[float, bool]]:
        rooms = create_app({"tiny": ScriptedModel("fine")})[CONNECTIONS].rooms
        clock = asyncio.get_running_loop().time
        told: list[tuple[float, bool]] = []

        def on_frame(frame: bytes) -> None:
            message = json.loads(frame)
            if message["type"] == "typing":
                told.append((clock() - begun, message["typing"]))

        ann, bob = (Outbox(lambda: None) for _ in range(2))
        with ann.frames.subscribe(on_frame), bob.frames.subscribe(lambda _: None):
            await rooms.join(ann, "r", "Ann")
            await rooms.join(bob, "r", "Bob")
            begun = clock()
            rooms.type(bob, "r", True)
            await asyncio.sleep(50)
            rooms.type(bob, "r", True)
            await asyncio.sleep(200)
            rooms.leave_all(bob)
            rooms.leave_all(ann)
        return told

    assert run_virtual(main()) == [(0.0, True), (110.0, False)]


def entering(app: web.Application, evicted_at: bytes) -> tuple[Rooms, Outbox]:
    """A client whose connection is closed when it receives a message with this text."""
    rooms = app[CONNECTIONS].rooms
    outbox: Outbox = Outbox(lambda: rooms.leave_all(outbox))
    reading = SerialDisposable()

    def on_frame(frame: bytes) -> None:
        if evicted_at in frame:
            reading.dispose()

    reading.disposable = outbox.frames.subscribe(on_frame)
    return rooms, outbox


async def test_a_member_that_is_evicted_by_its_own_question_gets_no_answer() -> None:
    model = Stepwise()
    app = create_app({"tiny": model})
    async with serving(app):
        rooms, outbox = entering(app, evicted_at=b"room_message")
        await rooms.join(outbox, "r", "Ann")
        rooms.say(outbox, Say(room="r", text="bot, tell me a story"))
        await turns()  # in which the model would be asked
        assert (len(rooms), model.active) == (0, 0)


async def test_a_room_closes_once_if_a_broadcast_evicts_the_last_member() -> None:
    app = scripted()
    async with serving(app):
        rooms, ann = entering(app, evicted_at=b'"left"')
        _, bob = entering(app, evicted_at=b"nothing")
        await rooms.join(ann, "r", "Ann")
        await rooms.join(bob, "r", "Bob")
        rooms.leave(bob, "r")
        assert len(rooms) == 0


async def test_a_member_that_is_evicted_while_it_joins_reads_no_answer() -> None:
    model = Stepwise()
    app = create_app({"tiny": model})
    async with serving(app) as session, talking(session) as ann:
        await ann.join("r", "Ann")
        await ann.send("say", room="r", text="what?")
        model.let(1)
        await ann.until("chunk")
        rooms, late = entering(app, evicted_at=b"joined")
        await rooms.join(late, "r", "Late")
        assert (await ann.until("left"))["name"] == "Late"
        assert [each.readers for each in await app[STREAMS].list()] == [
            2
        ]  # Ann, and the room itself


async def test_a_slow_member_is_evicted_without_holding_up_others() -> None:
    talker = Talker("x" * 2000)
    app = create_app(
        {"tiny": talker}, limits=Limits(reader_stall=0.2, stream_characters=100_000_000)
    )
    join = '{"type":"join","room":"r","name":"Slow"}'
    async with (
        serving(app) as session,
        asyncio.timeout(20),
        talking(session) as ann,
        silent(session, join),
    ):
        await ann.join("r", "Ann")
        await ann.send("say", room="r", text="what?")
        while not ann.of("left"):
            await ann.receive()
            ann.got[:-1] = []
        assert ann.of("left", name="Slow")
        await ann.until("chunk")
        await ann.send("leave", room="r")
        await talker.endless.disposed.wait()
