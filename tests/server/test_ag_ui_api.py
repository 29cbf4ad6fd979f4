"""`POST /agui`, as a client of AG-UI asks it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rxllm.agents import Agent
from rxllm.chunks import ProviderState, ToolCall
from rxllm.messages import ImagePart, Message, ReasoningPart, TextPart
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from rxllm.web.carried_states import state_text
from tests.agents.runs import calling
from tests.server.agents import delete, deleted
from tests.server.serving import STORY, Stepwise, scripted, serving, until

STATE = ProviderState("p", "m", {"x": 1})


def asked(*messages: Any, **more: Any) -> dict[str, Any]:
    said = list(messages) or [{"id": "u", "role": "user", "content": "Hi"}]
    return {"threadId": "t", "runId": "r", "messages": said, "tools": [], "context": [], **more}


async def test_a_run_has_the_ids_of_the_request() -> None:
    model = ScriptedModel(STORY)
    body = asked(
        tools=[{"name": "ask", "description": "Ask", "parameters": {"type": "object"}}],
        context=[{"description": "Place", "value": "Oslo"}],
        forwardedProps={"model": "tiny", "temperature": 0, "other": 1},
        state={},
    )
    async with (
        serving(create_app({"tiny": model})) as client,
        client.post("/agui", json=body, headers={"Accept": "text/event-stream"}) as response,
    ):
        lines = (await response.text()).strip().split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert events[0] == {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
    assert events[-1]["type"] == "RUN_FINISHED"
    text = [event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]
    assert "".join(text) == STORY
    request = model.requests[0]
    assert (request.temperature, request.tools[0].name) == (0, "ask")
    assert request.messages[0] == Message("system", "Place: Oslo")


async def test_the_history_of_a_client() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = asked(
        {"id": "1", "role": "developer", "content": "Be kind."},
        {
            "id": "2",
            "role": "user",
            "content": [
                {"type": "text", "text": "What?"},
                {
                    "type": "image",
                    "source": {"type": "data", "value": "iVBO", "mimeType": "image/png"},
                },
            ],
        },
        {"id": "3", "role": "reasoning", "content": "Hm.", "encryptedValue": state_text(STATE)},
        {"id": "4", "role": "assistant", "content": "Wait.", "toolCalls": [call]},
        {"id": "5", "role": "tool", "toolCallId": "c1", "content": "", "error": "no"},
        {"id": "6", "role": "activity", "activityType": "tool", "content": {}},
        {"id": "7", "role": "user", "content": "So?"},
    )
    model = ScriptedModel("Hello")
    async with (
        serving(create_app({"tiny": model})) as client,
        client.post("/agui", json=body) as response,
    ):
        assert "RUN_FINISHED" in await response.text()
    system, user, answer, result, last = model.requests[0].messages
    assert (system, last) == (Message("system", "Be kind."), Message("user", "So?"))
    assert isinstance(user.parts[1], ImagePart)
    assert answer.parts == (
        ReasoningPart("Hm.", STATE),
        TextPart("Wait."),
        ToolCall("c1", "f", "{}", complete=True),
    )
    assert result == Message("tool", "no", tool_call_id="c1", is_error=True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (asked(resume=[{"interruptId": "x", "status": "resolved"}]), "resume[0].payload"),
        (asked(resume=[{"interruptId": "x", "status": "cancelled"}]), "runs no tools"),
        (asked(resume=[{"interruptId": "x", "status": "open"}]), "resume"),
        (
            asked(
                resume=[
                    {
                        "interruptId": "x",
                        "status": "resolved",
                        "payload": {"approved": True, "editedArgs": {}},
                    }
                ]
            ),
            "editedArgs",
        ),
        (asked({"id": "1", "role": "king", "content": ""}), "king"),
        (asked(forwardedProps={"temperature": "hot"}), "temperature"),
        ({"threadId": "t"}, "messages"),
    ],
)
async def test_what_is_wrong_is_a_status(body: Any, field: str) -> None:
    async with serving(scripted()) as client, client.post("/agui", json=body) as response:
        assert response.status == 400
        assert field in await response.text()


async def test_a_client_that_leaves_stops_the_model() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        model.let(2)
        response = await client.post("/agui", json=asked())
        await response.content.readuntil(b"TEXT_MESSAGE_CONTENT")
        response.close()
        await until(lambda: model.active == 0)
    assert model.said < len(model.chunks)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": "resolved", "payload": {"approved": True}}, "deleted /x"),
        ({"status": "resolved", "payload": True}, "deleted /x"),
        (
            {"status": "resolved", "payload": {"approved": False, "reason": "no"}},
            "allowed this: no",
        ),
        ({"status": "resolved", "payload": False}, "allowed this"),
        ({"status": "cancelled"}, "allowed this"),
    ],
)
async def test_the_answer_to_an_interrupt_continues_the_run(
    answer: dict[str, Any], told: str
) -> None:
    deleted.clear()
    script = calling(("e", "delete", '{"path": "/x"}'), text=["May I?"])
    model = ScriptedModel(script, "So.")
    agent = Agent(model, [delete], secret=b"s", instructions="Be kind.")
    context = [{"description": "Place", "value": "Oslo"}]
    async with serving(create_app({"agent": agent})) as client:
        async with client.post("/agui", json=asked(context=context)) as response:
            *_, snapshot, last = events_in(await response.text())
        (interrupt,) = last["outcome"]["interrupts"]
        resume = [{"interruptId": interrupt["id"], **answer}]
        body = {**asked(*snapshot["messages"], context=context), "resume": resume}
        async with client.post("/agui", json=body) as response:
            kinds = [event["type"] for event in events_in(await response.text())]
    assert kinds[:3] == ["RUN_STARTED", "TOOL_CALL_RESULT", "STEP_STARTED"]
    messages = model.requests[1].messages
    assert messages[0] == Message("system", "Be kind.\n\nPlace: Oslo")
    assert messages[-1].text.endswith(told)
    assert deleted == (["/x"] if told == "deleted /x" else [])


def events_in(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.strip().split("\n\n")]


async def test_what_a_subagent_has_said_is_no_part_of_the_conversation() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x'}}
    body = asked(
        {"id": "1", "role": "user", "content": "What?"},
        {"id": "2", "role": "assistant", "content": "", "toolCalls": [call]},
        {"id": "3", "role": "assistant", "content": "Nested", "subagentRunId": "c1"},
        {"id": "4", "role": "tool", "toolCallId": "c1", "content": "done"},
    )
    model = ScriptedModel("So.")
    async with (
        serving(create_app({"agent": Agent(model)})) as client,
        client.post("/agui", json=body) as response,
    ):
        assert "RUN_FINISHED" in await response.text()
    messages = model.requests[0].messages
    assert [message.role for message in messages] == ["user", "assistant", "tool"]
    assert messages[1].calls[0].arguments == "{}"  # no provider takes what is no JSON
    assert messages[2].text == "done"
