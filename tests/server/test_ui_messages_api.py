"""`/api/chat` as the AI SDK's transport asks it: resumed, stopped, with states and calls."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from rxllm.agents import Agent
from rxllm.agents._approvals import approval_token
from rxllm.chunks import End, ProviderState, Start, Token, ToolCall
from rxllm.errors import OverloadedError
from rxllm.messages import ImagePart, Message, ReasoningPart, TextPart
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from rxllm.web.carried_states import state_text
from tests.agents.runs import calling
from tests.server.agents import delete, deleted
from tests.server.serving import STORY, Stepwise, scripted, serving, until

STATE = ProviderState("p", "m", {"x": 1})
CARRIED = {"rxllm": {"state": state_text(STATE)}}


def user(text: str) -> dict[str, Any]:
    return {"id": "u", "role": "user", "parts": [{"type": "text", "text": text}]}


def body(*messages: Any, **more: Any) -> dict[str, Any]:
    asked = list(messages) or [user("Hi")]
    return {"id": "chat 1", "messages": asked, "trigger": "submit-message", **more}


async def parts_of(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    lines = (await response.text()).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def text_in(parts: list[dict[str, Any]]) -> str:
    return "".join(part["delta"] for part in parts if part["type"] == "text-delta")


async def test_an_answer_has_the_header_and_the_parts() -> None:
    model = ScriptedModel(STORY)
    asked = body(model="tiny", maxTokens=50, trigger="regenerate-message", messageId="m7")
    async with (
        serving(create_app({"tiny": model})) as client,
        client.post("/api/chat", json=asked) as response,
    ):
        parts = await parts_of(response)
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert response.content_type == "text/event-stream"
    assert text_in(parts) == STORY
    assert parts[0] == {
        "type": "start",
        "messageId": "m7",
        "messageMetadata": {"model": "tiny"},
    }
    assert parts[-1]["finishReason"] == "stop"
    assert model.requests[0].max_tokens == 50


async def test_a_chat_is_resumed_from_the_beginning_stopped_and_then_204() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        path = "/api/chat/chat%201/stream"
        async with client.get(path) as response:
            assert response.status == 204
        model.let(3)
        first = await client.post("/api/chat", json=body())
        assert b"start-step" in await first.content.readuntil(b"start-step")
        first.close()
        async with client.get(path) as again, client.delete(path) as stopped:
            assert stopped.status == 204
            parts = await parts_of(again)
        assert text_in(parts) == "ab"
        assert parts[-1]["type"] == "abort"
        async with client.get(path) as response:
            assert response.status == 204
        async with client.get("/api/chat/other/stream") as response:
            assert response.status == 204
        await until(lambda: model.active == 0)


async def test_an_edited_message_keeps_its_id_and_an_answer_that_goes_on_too() -> None:
    """The `messageId` of a submitted message is the user's own: the answer has another one."""
    answer = {"id": "a1", "role": "assistant", "parts": [{"type": "text", "text": "Once"}]}
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        for asked, expected in (
            (body(messageId="u"), None),
            (body(user("Hi"), answer), "a1"),
            (body(trigger="regenerate-message", messageId="m7"), "m7"),
        ):
            model.let(2)
            first = await client.post("/api/chat", json={**asked, "id": expected or "c"})
            line = await first.content.readuntil(b"\n\n")
            named = json.loads(line.removeprefix(b"data: "))["messageId"]
            assert named == (expected or first.headers["X-Stream-Id"])
            async with client.get(f"/api/chat/{expected or 'c'}/stream") as again:
                line = await again.content.readuntil(b"\n\n")
                assert json.loads(line.removeprefix(b"data: "))["messageId"] == named
            first.close()
            async with client.delete(f"/api/chat/{expected or 'c'}/stream"):
                pass
        await until(lambda: model.active == 0)


async def test_an_answer_comes_back_with_its_states_calls_and_results() -> None:
    answer = {
        "id": "a",
        "role": "assistant",
        "parts": [
            {"type": "step-start"},
            {"type": "reasoning", "text": "Hm.", "providerMetadata": CARRIED},
            {"type": "text", "text": "Wait.", "state": "done"},
            {
                "type": "tool-weather",
                "toolCallId": "c1",
                "state": "output-available",
                "input": {"city": "Oslo"},
                "output": {"sky": "snow"},
                "callProviderMetadata": CARRIED,
            },
            {
                "type": "dynamic-tool",
                "toolName": "time",
                "toolCallId": "c2",
                "state": "output-error",
                "input": {},
                "errorText": "no clock",
            },
            {"type": "data-notice", "data": {}},
            {"type": "step-start"},
            {"type": "text", "text": "Snow."},
            {"type": "tool-late", "toolCallId": "c3", "state": "input-streaming"},
            {"type": "tool-open", "toolCallId": "c4", "state": "input-available", "input": 1},
        ],
    }
    picture = {
        "id": "u2",
        "role": "user",
        "parts": [{"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,iVBO"}],
    }
    model = ScriptedModel("Hello")
    async with (
        serving(create_app({"tiny": model})) as client,
        client.post("/api/chat", json=body(user("Hi"), answer, picture)) as response,
    ):
        await parts_of(response)
    first, second, c1, c2, third, c4, image = model.requests[0].messages
    assert first == Message("user", "Hi")
    assert second.parts == (
        ReasoningPart("Hm.", STATE),
        TextPart("Wait."),
        ToolCall("c1", "weather", '{"city":"Oslo"}', complete=True, state=STATE),
        ToolCall("c2", "time", "{}", complete=True),
    )
    assert c1 == Message("tool", '{"sky":"snow"}', tool_call_id="c1")
    assert c2 == Message("tool", "no clock", tool_call_id="c2", is_error=True)
    assert [type(part).__name__ for part in third.parts] == ["TextPart", "ToolCall"]
    assert (c4.tool_call_id, c4.is_error) == ("c4", True)
    assert isinstance(image.parts[0], ImagePart)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (body(temperature="hot"), "temperature"),
        (body(model="no"), "no model 'no'"),
        (body({"role": "king", "parts": []}), "role"),
        (body({"role": "assistant", "parts": [{"type": "tool-x"}]}), "toolCallId"),
    ],
)
async def test_what_is_wrong_is_told_before_the_stream(asked: Any, field: str) -> None:
    async with (
        serving(scripted()) as client,
        client.post("/api/chat", json=asked) as response,
    ):
        assert response.status in (400, 404)
        assert field in await response.text()


async def test_a_failure_amid_the_stream_is_a_part() -> None:
    model = Stepwise(Start("r", "m"), Token("Half"), OverloadedError("busy"), End("stop"))
    model.let()
    async with (
        serving(create_app({"tiny": model})) as client,
        client.post("/api/chat", json=body()) as response,
    ):
        parts = await parts_of(response)
    assert parts[-1] == {"type": "error", "errorText": "busy"}


def call_part(call_id: str, state: str, **more: Any) -> dict[str, Any]:
    given = {"toolCallId": call_id, "state": state, "input": {"path": "/x"}, **more}
    return {"type": "tool-delete", **given}


def answer(*parts: Any) -> dict[str, Any]:
    return {"id": "a1", "role": "assistant", "parts": [{"type": "step-start"}, *parts]}


def token(call_id: str = "e") -> str:
    return approval_token(ToolCall(call_id, "delete", '{"path":"/x"}'), b"s")


def approval(decision: bool | None, reason: str | None = None, call_id: str = "e") -> Any:
    if decision is None:
        return {"id": token(call_id)}
    return {"id": token(call_id), "approved": decision, "reason": reason}


@pytest.mark.parametrize(
    ("decision", "reason", "kind", "told"),
    [
        (True, None, "tool-output-available", "deleted /x"),
        (False, None, "tool-output-denied", "DeniedError: the user has not allowed this"),
        (False, "no", "tool-output-denied", "DeniedError: the user has not allowed this: no"),
        (False, "run", "tool-output-denied", "DeniedError: the user has not allowed this: run"),
    ],
)
async def test_a_decision_continues_the_run_in_the_same_message(
    decision: bool, reason: str | None, kind: str, told: str
) -> None:
    deleted.clear()
    model = Stepwise(Start("r", "m"), Token("So."), End("stop"))
    said = answer(call_part("e", "approval-responded", approval=approval(decision, reason)))
    async with serving(create_app({"agent": Agent(model, [delete], secret=b"s")})) as client:
        response = await client.post("/api/chat", json=body(user("Hi"), said))
        await until(lambda: model.active)
        async with client.get("/api/chat/chat%201/stream") as again:
            model.let()
            resumed = await parts_of(again)
        parts = await parts_of(response)
    assert [part["type"] for part in parts] == [
        *("start", kind, "start-step", "text-start", "text-delta", "text-end"),
        *("finish-step", "finish"),
    ]
    assert parts[0]["messageId"] == "a1"
    assert [part["type"] for part in resumed] == [part["type"] for part in parts]
    assert model.requests[0].messages[-1].text == told
    assert deleted == (["/x"] if decision else [])


async def test_a_call_without_a_decision_is_asked_about_again_and_the_model_is_not_asked() -> None:
    deleted.clear()
    model = ScriptedModel("So.")
    said = answer(
        call_part("e", "approval-responded", approval=approval(True)),
        call_part("f", "approval-requested", approval=approval(None, call_id="f")),
    )
    async with (
        serving(create_app({"agent": Agent(model, [delete], secret=b"s")})) as client,
        client.post("/api/chat", json=body(user("Hi"), said)) as response,
    ):
        parts = await parts_of(response)
    assert [part["type"] for part in parts] == [
        *("start", "tool-output-available", "tool-approval-request", "finish"),
    ]
    assert parts[2]["approvalId"] == token("f")
    assert parts[3]["finishReason"] == "tool-calls"
    assert model.requests == []
    assert deleted == ["/x"]


async def test_an_approval_of_another_call_is_refused() -> None:
    other = {"id": token(), "approved": True}
    said = answer(call_part("e", "approval-responded", approval=other, input={"path": "/etc"}))
    for model, words in (
        (Agent(ScriptedModel("So."), [delete], secret=b"s"), "another one than was asked about"),
        (ScriptedModel("So."), "runs no tools"),
    ):
        async with (
            serving(create_app({"agent": model})) as client,
            client.post("/api/chat", json=body(user("Hi"), said)) as response,
        ):
            assert response.status == 400
            assert words in await response.text()


async def test_who_writes_instead_of_deciding_has_not_allowed_the_call() -> None:
    model = ScriptedModel("So.")
    steered = {"type": "steering-message", "id": "s", "parts": [{"type": "text", "text": "And?"}]}
    said = answer(
        {"type": "text", "text": "Wait."},
        call_part("d", "output-available", output=1, preliminary=True),
        steered,
        {"type": "step-start"},
        call_part("e", "approval-requested", approval=approval(None)),
        call_part("f", "output-denied", approval=approval(False, "no", "f")),
    )
    async with (
        serving(create_app({"agent": Agent(model, [delete], secret=b"s")})) as client,
        client.post("/api/chat", json=body(user("Hi"), said, user("Stop."))) as response,
    ):
        assert text_in(await parts_of(response)) == "So."
    messages = model.requests[0].messages
    assert [(each.role, each.text, each.is_error) for each in messages] == [
        ("user", "Hi", False),
        ("assistant", "Wait.", False),
        ("tool", "it is not known whether this was done", True),
        ("user", "And?", False),
        ("assistant", "", False),
        ("tool", "this was not done: the user has not decided about it", True),
        ("tool", "the user has not allowed this: no", True),
        ("user", "Stop.", False),
    ]


async def test_tools_of_the_client_are_called_by_it() -> None:
    script = calling(("e", "delete", '{"path": "/x"}'), ("w", "weather", "{}"))
    model = ScriptedModel(script, "So.")
    tools = {"weather": {"description": "The weather", "parameters": {"type": "object"}}}
    deciding = [call_part("e", "approval-responded", approval=approval(True))]
    outputs = [{**call_part("w", "output-available", output="snow"), "type": "tool-weather"}]
    deleted.clear()
    async with serving(create_app({"agent": Agent(model, [delete], secret=b"s")})) as client:
        async with client.post("/api/chat", json=body(tools=tools)) as response:
            parts = await parts_of(response)
        kinds = [(part["type"], part.get("toolCallId")) for part in parts]
        assert ("tool-input-available", "w") in kinds
        assert ("tool-approval-request", "e") in kinds
        asked = body(user("Hi"), answer(*deciding, *outputs), tools=tools)
        async with client.post("/api/chat", json=asked) as response:
            assert text_in(await parts_of(response)) == "So."
    assert [tool.name for tool in model.requests[0].tools] == ["delete", "weather"]
    results = [each for each in model.requests[1].messages if each.role == "tool"]
    assert {each.tool_call_id: each.text for each in results} == {"e": "deleted /x", "w": "snow"}
    assert deleted == ["/x"]
