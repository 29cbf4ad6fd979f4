"""Agents behind a server, as other people's clients read them: a run with interim outputs, errors,
a nested run, a restart, a message of the user, an approval, and what follows it."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from typing import Any

import pytest

from rxllm.messages import Message, ReasoningPart
from rxllm.server import create_app
from tests.clients.node import NODE, installed
from tests.server.agents import STATE, deleted, everything
from tests.server.serving import port_of, serving

DENIED = "the user has not allowed this: too risky"


async def asked_by(client: str, approved: str) -> tuple[Any, Sequence[Message]]:
    """What the client has found, and the history of its last request."""
    folder = installed()
    assert NODE is not None
    deleted.clear()
    agent = everything()
    async with serving(create_app({"agent": agent})) as session:
        process = await asyncio.create_subprocess_exec(
            *(NODE, "agents.mjs", client, f"http://127.0.0.1:{port_of(session)}", approved),
            cwd=folder,
            stdout=PIPE,
            stderr=PIPE,
        )
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-3000:]
    found = json.loads(output)
    assert found["errors"] == []
    assert deleted == (["/x"] if approved == "yes" else [])
    requests = agent.model.requests  # type: ignore[attr-defined]
    return found, requests[4].messages


def check_history(messages: Sequence[Message], approved: str) -> None:
    """The model gets the whole conversation back: steps, calls, results and the user's words."""
    roles = [message.role for message in messages]
    assert roles == [
        *("user", "assistant", "tool", "tool", "tool", "tool", "user"),
        *("assistant", "tool", "assistant", "user"),
    ]
    first, second = messages[1], messages[7]
    assert first.parts[0] == ReasoningPart("Hm.", STATE)
    assert first.text == "Let me look."
    assert [(call.id, json.loads(call.arguments)) for call in first.calls] == [
        ("a", {}),
        ("b", {}),
        ("c", {"task": "go"}),
        ("d", {}),  # which were no JSON
    ]
    results = {message.tool_call_id: message for message in messages if message.role == "tool"}
    assert json.loads(results["a"].text) == {"n": 2}
    assert "it is broken" in results["b"].text
    assert results["c"].text == "Sub says hi"
    assert messages[6].text == "Be quick."
    assert (second.text, [call.id for call in second.calls]) == ("I would delete it.", ["e"])
    assert results["e"].text == ("deleted /x" if approved == "yes" else DENIED)
    assert [messages[9].text, messages[10].text] == ["It is gone.", "And?"]


def tools_in(message: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    return {
        part["toolCallId"]: (part["state"], part.get("output") or part.get("errorText"))
        for part in message["parts"]
        if part["type"].startswith("tool-")
    }


@pytest.mark.parametrize("approved", ["yes", "no"])
async def test_the_ai_sdk_shows_a_run_and_continues_it_after_an_approval(approved: str) -> None:
    found, history = await asked_by("aiSdk", approved)
    first = tools_in(found["first"])
    assert first["a"] == ("output-available", {"n": 2})
    assert first["b"] == ("output-error", "it is broken")
    assert first["c"] == ("output-available", "Sub says hi")
    assert first["d"][0] == "output-error"
    assert first["e"] == ("approval-requested", None)
    assert "z" not in first  # its answer was taken back
    message = found["messages"][1]
    assert message["id"] == found["first"]["id"]
    expected = ("output-available", "deleted /x") if approved == "yes" else ("output-denied", None)
    assert tools_in(message)["e"] == expected
    assert [part["type"] for part in message["parts"] if not part["type"].startswith("tool-")] == [
        *("step-start", "reasoning", "text", "steering-message"),
        *("step-start", "text", "step-start", "text"),
    ]
    texts = [part["text"] for part in message["parts"] if part["type"] == "text"]
    assert texts == ["Let me look.", "I would delete it.", "It is gone."]
    assert "".join(chunk.get("text", "") for chunk in found["nested"]) == "Sub says hi"
    check_history(history, approved)


@pytest.mark.parametrize("approved", ["yes", "no"])
async def test_ag_ui_shows_a_run_and_resumes_it_after_an_approval(approved: str) -> None:
    found, history = await asked_by("agUi", approved)
    assert [interrupt["toolCallId"] for interrupt in found["interrupts"]] == ["e"]
    said = [(m["role"], m["content"]) for m in found["messages"] if m["role"] == "assistant"]
    assert said[:4] == [
        ("assistant", "Let me look."),
        ("assistant", "Sub says hi"),
        ("assistant", "I would delete it."),
        ("assistant", "It is gone."),
    ]
    nested = [message for message in found["messages"] if "subagentRunId" in message]
    assert [message["content"] for message in nested] == ["Sub says hi"]
    started = [event for event in found["events"] if event["type"] == "SUBAGENT_STARTED"]
    assert [(event["name"], event["parentToolCallId"]) for event in started] == [("sub", "c")]
    interim = [event for event in found["events"] if event["type"] == "ACTIVITY_SNAPSHOT"]
    assert [event["content"]["output"]["n"] for event in interim] == [0, 1, 2]
    runs = [event["outcome"]["type"] for event in found["events"] if "outcome" in event]
    assert runs == ["interrupt", "success", "success"]
    ids = [message["id"] for message in found["messages"]]
    assert len(set(ids)) == len(ids)
    check_history(history, approved)
