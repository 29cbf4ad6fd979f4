"""Streams as UI messages: the AI SDK's own reader accepts them, and makes the same message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from rxllm.chunks import (
    ApprovalRequest,
    End,
    ErrorInfo,
    Notice,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
)
from rxllm.messages import ReasoningPart, TextPart
from rxllm.web.carried_states import carried_state
from rxllm.web.ui_messages.writer import UIMessageWriter
from tests.clients.node import NodeReader
from tests.web.streams import RUNS, Sent, answers_of, frames_of

READS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="module")
def reader() -> Iterator[NodeReader]:
    reader = NodeReader()
    yield reader
    reader.close()


def read(reader: NodeReader, sent: Sent) -> dict[str, Any]:
    writer = UIMessageWriter("msg-1", model="m")
    body = b"".join(map(writer, frames_of(sent)))
    assert body.endswith(b"data: [DONE]\n\n")
    return reader.read("ui_messages", body)


def state_of(metadata: dict[str, Any] | None) -> Any:
    if metadata is None:
        return None
    carried = carried_state(metadata["rxllm"]["state"])
    return None if carried is None else carried.state


def said_in(message: dict[str, Any]) -> list[list[tuple[Any, ...]]]:
    """What was said in each step."""
    steps: list[list[tuple[Any, ...]]] = []
    for part in message["parts"]:
        kind = part["type"]
        if kind == "step-start":
            steps.append([])
        elif kind in ("text", "reasoning"):
            state = state_of(part.get("providerMetadata"))
            if part["text"] or state:
                steps[-1].append((kind, part["text"], state))
        elif kind.startswith("tool-"):
            state = state_of(part.get("callProviderMetadata"))
            name = kind.removeprefix("tool-")
            steps[-1].append(("call", part["toolCallId"], name, part["input"], state))
    return steps


def said_by(sent: Sent) -> list[list[tuple[Any, ...]]]:
    steps = []
    for answer in answers_of(sent):
        step: list[tuple[Any, ...]] = []
        for part in answer:
            if isinstance(part, TextPart | ReasoningPart):
                kind = "text" if isinstance(part, TextPart) else "reasoning"
                if part.text or part.state:
                    step.append((kind, part.text, part.state))
            elif isinstance(part, ToolCall):
                given = json.loads(part.arguments)
                step.append(("call", part.id, part.name, given, part.state))
        steps.append(step)
    return steps


@READS
@given(RUNS)
def test_the_client_makes_the_same_message_of_any_run(reader: NodeReader, sent: Sent) -> None:
    found = read(reader, sent)
    if sent.failure is not None:
        assert found["errors"] == ["busy"]
        return
    assert found["errors"] == []
    assert said_in(found["message"]) == said_by(sent)
    assert found["message"]["id"] == "msg-1"
    outputs = {
        part["toolCallId"]: (part["state"], part.get("output"), part.get("errorText"))
        for part in found["message"]["parts"]
        if part["type"].startswith("tool-")
    }
    for chunk in sent.chunks:
        if isinstance(chunk, ToolResult) and not chunk.preliminary:
            expected = (
                ("output-available", chunk.output, None)
                if chunk.error is None
                else ("output-error", None, "no")
            )
            assert outputs[chunk.id] == expected


def run(reader: NodeReader, *chunks: Any) -> dict[str, Any]:
    return read(reader, Sent([Start("r", "m"), *chunks], None))


def test_the_metadata_has_the_model_and_the_usage(reader: NodeReader) -> None:
    found = run(reader, Token("a"), Usage(3, 4), End("length"))
    metadata = found["message"]["metadata"]
    assert metadata["model"] == "m"
    assert (metadata["usage"]["inputTokens"], metadata["usage"]["outputTokens"]) == (3, 4)


def test_a_call_waits_for_an_approval_and_another_was_denied(reader: NodeReader) -> None:
    call = ToolCall("c", "f", "{}", complete=True)
    found = run(reader, call, ApprovalRequest("c", "token", "it costs"), End("tool_calls"))
    (part,) = [each for each in found["message"]["parts"] if each["type"] == "tool-f"]
    assert (part["state"], part["approval"]["id"]) == ("approval-requested", "token")
    result = ToolResult("c", "f", error=ErrorInfo("DeniedError", "no"))
    asked = ApprovalRequest("c", "token")
    found = run(reader, call, asked, End("tool_calls", more=True), result, Token("b"), End("stop"))
    assert found["errors"] == []
    (part,) = [each for each in found["message"]["parts"] if each["type"] == "tool-f"]
    assert part["state"] == "output-denied"


def test_arguments_that_are_no_json_are_an_error_of_the_call(reader: NodeReader) -> None:
    call = ToolCall("c", "f", '{"a"', complete=True)
    result = ToolResult("c", "f", error=ErrorInfo("E", "no"))
    found = run(reader, call, End("tool_calls", more=True), result, Token("b"), End("stop"))
    assert found["errors"] == []
    (part,) = [each for each in found["message"]["parts"] if each["type"] == "tool-f"]
    assert part["state"] == "output-error"


def test_a_message_amid_the_run_and_what_is_only_shown(reader: NodeReader) -> None:
    found = run(
        reader,
        Notice("retry", 1),
        Token("a"),
        End("stop", more=True),
        Steering("And?", "u1"),
        Start("r", "m"),
        Token("b"),
        End("cancelled"),
    )
    assert found["errors"] == []
    texts = [part["text"] for part in found["message"]["parts"] if part["type"] == "text"]
    assert texts[-1] == "b"
