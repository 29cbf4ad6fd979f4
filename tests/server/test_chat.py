"""The chat of a WebSocket connection."""

from __future__ import annotations

from typing import Any

import pytest

from rxllm.chunks import End, Start, Token
from rxllm.errors import ContextLengthError, ServerError
from rxllm.models.scripted import ScriptedModel
from rxllm.server import Limits, Persona, create_app
from tests.server.serving import Stepwise, serving, until
from tests.server.websocket_client import Client, Said, talking


def sent(model: ScriptedModel) -> list[list[tuple[str, str]]]:
    """Return the conversation of each request to the model."""
    return [[(turn.role, turn.text) for turn in asked.messages] for asked in model.requests]


async def chat(client: Client, text: str, message_id: str = "m") -> Said:
    await client.send("chat", id=message_id, text=text)
    return await client.until("chat_message", id=message_id)


async def test_an_answer_is_a_stream_with_the_id_of_the_message_and_then_a_chat_message() -> None:
    app = create_app({"tiny": ScriptedModel("Hello there", by="word")})
    async with serving(app) as session, talking(session) as client:
        assert await chat(client, "Hi", "a") == {
            "type": "chat_message",
            "id": "a",
            "text": "Hello there",
            "history": 1,
        }
        assert client.text("a") == "Hello there"
        assert [message["type"] for message in client.got[-2:]] == ["complete", "chat_message"]
        assert {message["id"] for message in client.got} == {"a"}


async def test_each_connection_has_its_own_history() -> None:
    model = ScriptedModel("one", "two", "three")
    async with serving(create_app({"tiny": model})) as session:
        async with talking(session) as client, talking(session) as other:
            await chat(client, "first")
            assert (await chat(client, "second"))["history"] == 2
            assert (await chat(other, "mine"))["history"] == 1
        async with talking(session) as client:
            assert (await chat(client, "again"))["history"] == 1
    assert sent(model)[1:] == [
        [("user", "first"), ("assistant", "one"), ("user", "second")],
        [("user", "mine")],
        [("user", "again")],
    ]


async def test_the_last_exchanges_are_kept() -> None:
    model = ScriptedModel("answer")
    app = create_app({"tiny": model}, limits=Limits(history_exchanges=2))
    async with serving(app) as session, talking(session) as client:
        kept = [(await chat(client, text))["history"] for text in "abcd"]
    assert kept == [1, 2, 2, 2]
    assert [text for role, text in sent(model)[-1] if role == "user"] == ["b", "c", "d"]


async def test_the_history_is_also_bounded_by_its_characters() -> None:
    model = ScriptedModel("x" * 50)
    app = create_app({"tiny": model}, limits=Limits(history_characters=120))
    async with serving(app) as session, talking(session) as client:
        kept = [(await chat(client, "y" * 5))["history"] for _ in range(4)]
    assert kept == [1, 2, 2, 2]


async def test_two_messages_at_once_are_answered_one_after_the_other() -> None:
    model = Stepwise(Start("r", "m"), Token("hm"), End("stop"))
    async with serving(create_app({"tiny": model})) as session, talking(session) as client:
        await client.send("chat", id="a", text="one")
        await client.send("chat", id="b", text="two")
        await client.quiet()
        assert model.active == 1
        model.let()
        assert (await client.until("chat_message"))["id"] == "a"
        assert not client.of("chunk", id="b")
        assert await client.until("chat_message") == {
            "type": "chat_message",
            "id": "b",
            "text": "hm",
            "history": 2,
        }


async def test_too_many_waiting_messages_are_refused() -> None:
    model = Stepwise(Start("r", "m"), Token("hm"), End("stop"))
    async with serving(create_app({"tiny": model})) as session, talking(session) as client:
        for number in range(5):
            await client.send("chat", id=f"{number}", text="Hi")
        error = await client.ask("chat", id="5", text="Hi")
        assert (error["code"], error["id"], error["retryable"]) == ("chat_busy", "5", True)
        model.let()
        for number in range(5):
            await client.until("chat_message", id=f"{number}")


@pytest.mark.parametrize("script", [["half of ", ServerError("no")], [ServerError("no")], [""]])
async def test_a_failed_exchange_is_dropped_with_its_question(script: Any) -> None:
    model = ScriptedModel("one", script, "three")
    async with serving(create_app({"tiny": model})) as session, talking(session) as client:
        await chat(client, "first")
        await client.send("chat", id="b", text="second")
        if script == [""]:
            assert (await client.until("chat_message"))["history"] == 1
        else:
            assert (await client.until("error", id="b"))["code"] == "server"
        assert (await chat(client, "third"))["history"] == 2
    assert sent(model)[-1] == [("user", "first"), ("assistant", "one"), ("user", "third")]


async def test_what_was_said_before_a_stop_is_kept() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as session, talking(session) as client:
        await client.send("chat", id="a", text="Hi")
        model.let(3)
        await client.until("chunk", position=3)
        await client.send("stop", id="a")
        answer = await client.until("chat_message")
        assert (answer["text"], answer["history"]) == ("ab", 1)


async def test_a_stopped_waiting_message_is_never_answered() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as session, talking(session) as client:
        await client.send("chat", id="a", text="Hi")
        await client.send("chat", id="b", text="Hi")
        assert (await client.ask("chat", id="b", text="Hi"))["field"] == "id"
        assert (await client.ask("start", id="b", prompt="Hi"))["field"] == "id"
        await client.send("stop", id="b")
        assert (await client.until("complete", id="b"))["finishReason"] == "cancelled"
        assert (await client.until("chat_message", id="b"))["history"] == 0
        assert (await client.ask("stop", id="b"))["status"] == "cancelled"
        model.let()
        assert (await client.until("chat_message"))["id"] == "a"
        assert not client.of("chunk", id="b")


async def test_a_waiting_message_is_validated_on_arrival() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as session, talking(session) as client:
        await client.send("chat", id="a", text="Hi")
        error = await client.ask("chat", id="b", text="Hi", options={"model": "nope"})
        assert (error["code"], error["id"]) == ("model_not_found", "b")
        model.let()
        await client.until("chat_message", id="a")


@pytest.mark.parametrize("text", ["", " \n"])
async def test_a_blank_message_is_refused(text: str) -> None:
    model = ScriptedModel("well")
    async with serving(create_app({"tiny": model})) as session, talking(session) as client:
        error = await client.ask("chat", id="m", text=text)
        assert (error["code"], error["id"]) == ("invalid_message", "m")
        assert error["field"] == "text"
        assert not model.requests


async def test_waiting_messages_are_dropped_when_the_client_leaves() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model}, limits=Limits(grace=0))) as session:
        async with talking(session) as client:
            await client.send("chat", id="a", text="Hi")
            await client.send("chat", id="b", text="Hi")
            await until(lambda: model.active == 1)
        await until(lambda: model.active == 0)
        assert model.said == 0


class Forgetful(ScriptedModel):
    """Accepts at most three messages."""

    def stream(self, prompt: Any, **options: Any) -> Any:
        if len(prompt.messages) > 3:
            return ScriptedModel([ContextLengthError("too much")]).stream(prompt, **options)
        return super().stream(prompt, **options)


async def test_as_much_history_is_sent_as_the_model_can_take() -> None:
    model = Forgetful("fine")
    async with serving(create_app({"tiny": model})) as session, talking(session) as client:
        for number in range(5):
            assert (await chat(client, f"{number}"))["text"] == "fine"
    assert sent(model)[-1] == [("user", "3"), ("assistant", "fine"), ("user", "4")]


async def test_a_chat_has_a_system_prompt_and_options() -> None:
    model = ScriptedModel("Arr.", "Aye.", "No.")
    persona = Persona(system="Talk like a pirate.", model="pirate", max_tokens=50, stop=("END",))
    app = create_app({"tiny": ScriptedModel("no"), "pirate": model}, chat=persona)
    async with serving(app) as session, talking(session) as client:
        await chat(client, "Hi", "a")
        options = {"maxTokens": 9, "stop": "."}
        await client.send("chat", id="b", text="Why?", system="Be brief.", options=options)
        await client.until("chat_message", id="b")
        await client.send("chat", id="c", text="So?", system="")
        await client.until("chat_message", id="c")
    first, second, third = sent(model)
    assert first == [("system", "Talk like a pirate."), ("user", "Hi")]
    assert second[0] == ("system", "Be brief.")
    assert third[0] == ("user", "Hi")
    given = [(each.max_tokens, each.stop) for each in model.requests]
    assert given == [(50, ("END",)), (9, (".",)), (50, ("END",))]
