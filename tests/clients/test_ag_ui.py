"""Streams as AG-UI events: its own client accepts them, and makes the same messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from rxllm.chunks import ApprovalRequest, End, Notice, Start, Token, ToolCall, ToolResult
from rxllm.messages import ReasoningPart, TextPart
from rxllm.web.ag_ui.writer import AGUIWriter
from tests.clients.node import NodeReader
from tests.web.streams import RUNS, Sent, answers_of, frames_of

READS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="module")
def reader() -> Iterator[NodeReader]:
    reader = NodeReader()
    yield reader
    reader.close()


def read(reader: NodeReader, sent: Sent) -> dict[str, Any]:
    writer = AGUIWriter("s", thread_id="t", run_id="r")
    return reader.read("ag_ui", b"".join(map(writer, frames_of(sent))))


def said_in(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The text, the reasoning and the calls in messages."""
    calls = [call for message in messages for call in message.get("toolCalls") or ()]
    texts = {
        role: "".join(
            message.get("content") or ""
            for message in messages
            if message["role"] == role and "subagentRunId" not in message
        )
        for role in ("assistant", "reasoning")
    }
    return {
        **texts,
        "calls": {
            call["id"]: (call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in calls
        },
    }


def said_by(sent: Sent) -> dict[str, Any]:
    parts = [part for answer in answers_of(sent) for part in answer]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    return {
        "assistant": "".join(part.text for part in parts if isinstance(part, TextPart)),
        "reasoning": "".join(part.text for part in parts if isinstance(part, ReasoningPart)),
        "calls": {call.id: (call.name, json.loads(call.arguments)) for call in calls},
    }


@READS
@given(RUNS)
def test_the_client_makes_the_same_messages_of_any_run(reader: NodeReader, sent: Sent) -> None:
    found = read(reader, sent)
    if sent.failure is not None:
        assert found["errors"]
        assert all("busy" in error for error in found["errors"])
        return
    assert found["errors"] == []
    assert found["events"][-1] == "RUN_FINISHED"
    nested = "inner" if any(chunk.source is not None for chunk in sent.chunks) else None
    said = said_in(found["messages"])
    if nested is not None:
        said["assistant"] = said["assistant"].replace("inner", "")
    assert said == said_by(sent)
    results = {
        message["toolCallId"]: message["content"]
        for message in found["messages"]
        if message["role"] == "tool"
    }
    for chunk in sent.chunks:
        if isinstance(chunk, ToolResult) and not chunk.preliminary:
            text = chunk.output if isinstance(chunk.output, str) else None
            if chunk.error is not None:
                text = "no"
            found_text = results[chunk.id]
            assert found_text == text or json.loads(found_text) == chunk.output


def run(reader: NodeReader, *chunks: Any) -> dict[str, Any]:
    return read(reader, Sent([Start("r", "m"), *chunks], None))


def test_a_withdrawn_answer_is_gone(reader: NodeReader) -> None:
    call = ToolCall("c", "f", '{"a', 0)
    found = run(reader, Token("wrong"), call, Notice("restart"), Token("right"), End("stop"))
    assert found["errors"] == []
    assert said_in(found["messages"]) == {"assistant": "right", "reasoning": "", "calls": {}}


def test_a_call_that_waits_for_an_approval_interrupts_the_run(reader: NodeReader) -> None:
    call = ToolCall("c", "f", "{}", complete=True)
    writer = AGUIWriter("s")
    sent = Sent(
        [Start("r", "m"), call, ApprovalRequest("c", "tok", "cost"), End("tool_calls")], None
    )
    body = b"".join(map(writer, frames_of(sent)))
    assert reader.read("ag_ui", body)["errors"] == []
    last = json.loads(body.split(b"data: ")[-1])
    assert last["outcome"]["type"] == "interrupt"
    assert last["outcome"]["interrupts"][0]["id"] == "tok"


def test_a_cancelled_run_says_so(reader: NodeReader) -> None:
    writer = AGUIWriter("s")
    sent = Sent([Start("r", "m"), Token("a"), End("cancelled")], None)
    body = b"".join(map(writer, frames_of(sent)))
    assert reader.read("ag_ui", body)["errors"] == []
    assert json.loads(body.split(b"data: ")[-1])["outcome"] == {"type": "cancelled"}
