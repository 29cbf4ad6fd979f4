"""Runs of agents on the wires that know none: what is sent of them, and when a restart is an error;
and what the wires that know runs send between two answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from rxllm.chunks import (
    ApprovalRequest,
    Chunk,
    End,
    ErrorInfo,
    Notice,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
)
from rxllm.messages import TextPart
from rxllm.web.ag_ui.writer import AGUIWriter
from rxllm.web.anthropic.writer import AnthropicWriter
from rxllm.web.ollama.writer import OllamaWriter
from rxllm.web.openai_chat.writer import ChatWriter
from rxllm.web.openai_responses.writer import ResponsesWriter
from rxllm.web.ui_messages.writer import UIMessageWriter
from tests.web.streams import RUNS, STATE, Sent, answers_of, frames_of

FACADES = [ChatWriter, ResponsesWriter, AnthropicWriter, OllamaWriter]
facades = pytest.mark.parametrize("make", FACADES)


def call(call_id: str, name: str = "f") -> ToolCall:
    return ToolCall(call_id, name, '{"x":1}', complete=True)


def sent(make: Any, *chunks: Chunk, **options: Any) -> bytes:
    return b"".join(map(make("s", **options), frames_of(Sent([Start("r", "m"), *chunks], None))))


def pieces(body: bytes) -> list[Any]:
    """The JSON values of events or lines."""
    lines = [line.removeprefix("data: ") for line in body.decode().splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def text_in(body: bytes) -> str:
    """The text of a stream in any of the formats."""
    texts = []
    for piece in pieces(body):
        if "choices" in piece:
            texts += [choice["delta"].get("content") or "" for choice in piece["choices"]]
        elif piece.get("type") == "response.output_text.delta":
            texts.append(piece["delta"])
        elif piece.get("type") == "content_block_delta":
            texts.append(piece["delta"].get("text", ""))
        elif "message" in piece and "done" in piece:
            texts.append(piece["message"]["content"])
    return "".join(texts)


@facades
@given(RUNS)
def test_all_text_of_any_run_and_no_call_with_a_result(make: Any, run: Sent) -> None:
    if run.failure is not None:
        return
    body = b"".join(map(make("s", runs_tools=True), frames_of(run)))
    if b"restarted after part" in body:
        assert run.has_restart
        return
    parts = [part for answer in answers_of(run) for part in answer]
    assert text_in(body) == "".join(part.text for part in parts if isinstance(part, TextPart))
    results = [chunk.id for chunk in run.chunks if isinstance(chunk, ToolResult)]
    assert not [each for each in results if f'"{each}"'.encode() in body]
    last = [part for part in answers_of(run)[-1] if isinstance(part, ToolCall)]
    assert all(f'"{part.id}"'.encode() in body for part in last)


@facades
def test_of_the_calls_of_an_answer_those_without_a_result_stay_open(make: Any) -> None:
    two = call("c1"), ToolCall("c2", "g", "{}", 1, complete=True)
    end = End("tool_calls", more=True)
    body = sent(make, *two, end, ToolResult("c1", "f", 1), End("tool_calls"), runs_tools=True)
    assert b"c2" in body
    assert b"c1" not in body
    asked = ApprovalRequest("c2", "t")
    body = sent(make, *two, end, ToolResult("c1", "f"), asked, End("tool_calls"), runs_tools=True)
    assert b"c2" in body
    interim = ToolResult("c1", "f", 1, preliminary=True)
    body = sent(make, call("c1"), end, interim, End("tool_calls"), runs_tools=True)
    assert b"c1" in body


@facades
def test_calls_that_another_answer_follows_are_over(make: Any) -> None:
    end = End("tool_calls", more=True)
    for following in (Start("r2", "m"), Token("b"), call("c2"), Reasoning("hm")):
        body = sent(make, call("c1"), end, following, End("stop"), runs_tools=True)
        assert b"c1" not in body
        assert (b"c2" in body) == isinstance(following, ToolCall)


@facades
def test_calls_of_a_run_that_is_cancelled_amid_its_tools_are_not_sent(make: Any) -> None:
    chunks = call("c1"), End("tool_calls", more=True), End("cancelled")
    assert b"c1" not in sent(make, *chunks, runs_tools=True)


@facades
def test_a_restart_takes_back_only_the_answer_under_way(make: Any) -> None:
    first = Token("First. "), call("c1"), End("tool_calls", more=True), ToolResult("c1", "f", 1)
    again = Notice("restart"), Start("r2", "m"), Token("Right."), End("stop")
    for unsent in ((), (Start("r2", "m"),), (Start("r2", "m"), call("c2"))):
        body = sent(make, *first, *unsent, *again, runs_tools=True)
        assert text_in(body) == "First. Right."
        assert b"restarted" not in body
        assert b"c2" not in body
    body = sent(make, *first, Start("r2", "m"), Token("Wro"), *again, runs_tools=True)
    assert b"restarted after part of it had been sent" in body


def test_a_whole_response_keeps_the_earlier_answers_after_a_restart() -> None:
    first = Token("First. "), call("c1"), End("tool_calls", more=True), ToolResult("c1", "f", 1)
    wrong = Start("r2", "m"), Reasoning("Hm."), Token("Wro"), Notice("restart")
    writer = ResponsesWriter("resp_s", runs_tools=True, is_whole=True)
    right = Start("r2", "m"), Token("Right."), End("stop")
    for frame in frames_of(Sent([Start("r", "m"), *first, *wrong, *right], None)):
        writer(frame)
    texts = [item["content"][0]["text"] for item in writer.response["output"]]
    assert texts == ["First. ", "Right."]
    assert writer.response["status"] == "completed"
    ids = [item["id"] for item in writer.response["output"]]
    assert len(set(ids)) == 2


def test_a_whole_response_that_was_cancelled_says_so() -> None:
    writer = ResponsesWriter("resp_s", is_whole=True)
    for frame in frames_of(Sent([Start("r", "m"), Token("a"), End("cancelled")], None)):
        writer(frame)
    assert writer.response["status"] == "cancelled"


def test_results_and_messages_of_the_user_come_between_the_steps() -> None:
    run = (
        call("c1"),
        End("tool_calls", more=True),
        ToolResult("c1", "f", 1),
        Steering("And?"),
        Steering("Well?"),
        Start("r2", "m"),
        Token("b"),
        End("stop"),
    )
    kinds = [piece["type"] for piece in pieces(sent(UIMessageWriter, *run))]
    assert kinds[5:] == [
        *("finish-step", "tool-output-available", "steering-message", "steering-message"),
        *("start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"),
    ]
    events = pieces(sent(AGUIWriter, *run))
    kinds = [event["type"] for event in events]
    finished = kinds.index("STEP_FINISHED")
    assert kinds[finished + 1 : kinds.index("STEP_STARTED", finished)] == [
        *("TOOL_CALL_RESULT", "MESSAGES_SNAPSHOT", "MESSAGES_SNAPSHOT"),
    ]
    for made in (UIMessageWriter, AGUIWriter):
        text = sent(made, *run).decode()
        assert '"s-user-1"' in text
        assert '"s-user-2"' in text


def test_a_run_that_goes_on_begins_with_the_results_of_its_calls() -> None:
    result = ToolResult("c1", "f", error=ErrorInfo("DeniedError", "no"))
    run = result, Start("r", "m"), Token("b"), End("stop")
    body = b"".join(map(UIMessageWriter("s", call_ids=["c1"]), frames_of(Sent([*run], None))))
    kinds = [piece["type"] for piece in pieces(body)]
    assert kinds[:3] == ["start", "tool-output-denied", "start-step"]
    body = b"".join(map(AGUIWriter("s"), frames_of(Sent([*run], None))))
    kinds = [event["type"] for event in pieces(body)]
    assert kinds[:3] == ["RUN_STARTED", "TOOL_CALL_RESULT", "STEP_STARTED"]


def test_a_restart_before_anything_of_a_step_resets_nothing() -> None:
    run = Token("a"), End("stop", more=True), Steering("And?"), Start("r", "m"), Notice("restart")
    body = sent(UIMessageWriter, *run, Token("b"), End("stop"))
    assert b"reset-step" not in body
    body = sent(UIMessageWriter, *run[:-1], Token("x"), run[-1], Token("b"), End("stop"))
    assert body.count(b"reset-step") == 1


def test_a_snapshot_has_the_states_of_what_was_said() -> None:
    said = Reasoning("Hm."), Reasoning("", STATE), call("c1"), End("tool_calls", more=True)
    nested = Token("Nested", source="c1")
    body = sent(AGUIWriter, *said, nested, ToolResult("c1", "f", 1), Steering("And?"), End("stop"))
    snapshot = next(each for each in pieces(body) if each["type"] == "MESSAGES_SNAPSHOT")
    reasoning, answer, inner, result, user = snapshot["messages"]
    assert reasoning["encryptedValue"].startswith("rxllm:")
    assert [each["id"] for each in answer["toolCalls"]] == ["c1"]
    assert (inner["content"], inner["subagentRunId"]) == ("Nested", "c1")
    assert (result["content"], user["content"]) == ("1", "And?")
