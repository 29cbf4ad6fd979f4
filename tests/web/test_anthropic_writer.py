"""Streams as Anthropic's events: its own SDK accepts them, and makes the same message of them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import given

from rxllm.chunks import (
    End,
    FileOutput,
    Notice,
    Reasoning,
    Start,
    Token,
    ToolCall,
    ToolResult,
    Usage,
)
from rxllm.messages import Part, ReasoningPart, TextPart
from rxllm.server.anthropic.messages import MessagesRequest
from rxllm.web.anthropic.writer import AnthropicWriter
from rxllm.web.ollama.writer import OllamaWriter
from rxllm.web.openai_chat.writer import ChatWriter
from rxllm.web.openai_responses.writer import ResponsesWriter
from rxllm.web.stream_messages import Complete, StreamFailed
from rxllm.web.stream_store import Frame
from rxllm.web.ui_messages.writer import UIMessageWriter
from tests.web.streams import STREAMS, Sent, answers_of, frames_of


def events_of(data: bytes) -> list[dict[str, Any]]:
    """Decode events, each of which must have its name."""
    events = []
    for block in data.decode().split("\n\n")[:-1]:
        name, content = block.split("\n")
        event = json.loads(content.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def written(frames: list[Frame], **options: Any) -> list[dict[str, Any]]:
    writer = AnthropicWriter("msg_1", **options)
    return events_of(b"".join(map(writer, frames)))


def accumulated(events: list[dict[str, Any]]) -> Any:
    """What the SDK makes of events."""
    message, buffers = None, dict[int, bytes]()
    for event in events:
        message = accumulate_event(event=event, current_snapshot=message, json_bufs=buffers)  # type: ignore[arg-type]
    return message


def parts_in(message: Any) -> list[Part]:
    """The parts of a message of the SDK, with their states."""

    content = [block.model_dump(exclude_none=True) for block in message.content]
    body = {"messages": [{"role": "assistant", "content": content}], "max_tokens": 1}
    request = msgspec.convert(body, MessagesRequest)
    (read,) = request.as_messages()
    return list(read.parts)


def normal(parts: list[Part]) -> list[tuple[Any, ...]]:
    """Parts in a comparable form: the arguments of calls decoded, empty parts left out."""
    found: list[tuple[Any, ...]] = []
    for part in parts:
        if isinstance(part, TextPart | ReasoningPart):
            if part.text or part.state:
                found.append((type(part).__name__, part.text, part.state))
        elif isinstance(part, ToolCall):
            found.append(("call", part.id, part.name, json.loads(part.arguments), part.state))
    return found


@given(STREAMS)
def test_the_sdk_makes_the_same_message_of_any_stream(sent: Sent) -> None:
    events = written(frames_of(sent))
    ends = [event for event in events if event["type"] in ("message_stop", "error")]
    assert events[-1:] == ends
    restarted = sent.has_restart and any(event["type"] == "error" for event in events)
    if sent.failure is None and not restarted:
        assert events[-1]["type"] == "message_stop"
        message = accumulated(events)
        (answer,) = answers_of(sent)
        order = normal(parts_in(message))
        assert [each for each in order if each[0] != "call"] == [
            each for each in normal(answer) if each[0] != "call"
        ]
        calls = {each[1]: each for each in order if each[0] == "call"}
        assert calls == {each[1]: each for each in normal(answer) if each[0] == "call"}
    else:
        assert events[-1]["type"] == "error"
        begun = [event for event in events if event["type"] != "error"]
        accumulated(begun)


def frames(*chunks: Any, **complete: Any) -> list[Frame]:
    sent = frames_of(Sent([Start("r", "model"), *chunks], None))
    last = sent[-1].message
    assert isinstance(last, Complete)
    for name, value in complete.items():
        setattr(last, name, value)
    return sent


def test_blocks_follow_one_another_and_the_usage_comes_with_the_end() -> None:
    usage = Usage(9, 4, cached_tokens=2, cache_write_tokens=3, reasoning_tokens=1)
    events = written(
        frames(
            Reasoning("Hm."),
            Token("It"),
            Token(" is"),
            ToolCall("c1", "f", '{"a"', 0),
            ToolCall("c2", "g", "{}", 1),
            ToolCall("c1", "f", '{"a":1}', 0, complete=True),
            ToolCall("c2", "g", "{}", 1, complete=True),
            usage,
            End("tool_calls"),
        ),
        model="public",
    )
    kinds = [(event["type"], event.get("index")) for event in events]
    starts = [index for kind, index in kinds if kind == "content_block_start"]
    assert starts == [0, 1, 2, 3]
    open_blocks: list[int] = []
    for kind, index in kinds:
        if kind == "content_block_start":
            assert not open_blocks
            open_blocks.append(index)  # type: ignore[arg-type]
        elif kind == "content_block_stop":
            assert open_blocks.pop() == index
        elif index is not None:
            assert open_blocks == [index]
    assert events[0]["message"]["model"] == "public"
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"] == {
        "input_tokens": 4,
        "output_tokens": 4,
        "cache_read_input_tokens": 2,
        "cache_creation_input_tokens": 3,
        "output_tokens_details": {"thinking_tokens": 1},
    }


def test_the_reasons_to_stop() -> None:
    for end, reason, sequence in (
        (End("stop"), "end_turn", None),
        (End("stop", stop_sequence="X"), "stop_sequence", "X"),
        (End("length"), "max_tokens", None),
        (End("limit"), "max_tokens", None),
        (End("content_filter"), "refusal", None),
    ):
        delta = written(frames(Token("a"), end))[-2]["delta"]
        assert (delta["stop_reason"], delta["stop_sequence"]) == (reason, sequence)


def test_a_restart_before_any_output_is_not_told_and_later_it_is_an_error() -> None:
    early = written(frames(Notice("restart"), Token("a"), End("stop")))
    assert early[-1]["type"] == "message_stop"
    late = written(frames(Token("a"), Notice("restart"), Token("b"), End("stop")))
    assert late[-1]["error"]["type"] == "api_error"


def test_a_cancelled_stream_ends_with_an_error() -> None:
    events = written(frames(Token("a"), End("cancelled")))
    assert events[-1]["error"]["message"] == "the stream was cancelled"


RUN: list[Any] = [
    ToolCall("c1", "f", "{}", complete=True),
    End("tool_calls", more=True),
    Token("NESTED", source="c1/m"),
    ToolResult("c1", "f", 1),
    Start("r", "model"),
    Token("final"),
    End("stop"),
]


@pytest.mark.parametrize("make", [AnthropicWriter, ResponsesWriter, OllamaWriter, ChatWriter])
def test_of_a_run_only_the_text_and_open_calls_are_sent(make: Any) -> None:
    body = b"".join(map(make("s", runs_tools=True), frames(*RUN)))
    assert b"final" in body
    assert b"NESTED" not in body
    assert b"c1" not in body
    open_call = [ToolCall("c2", "f", '{"a":1}', complete=True), End("tool_calls")]
    body = b"".join(map(make("s", runs_tools=True), frames(*RUN[:4], Start("r", "m"), *open_call)))
    assert b"c1" not in body
    assert b"a" in body
    assert b'"f"' in body


def test_the_end_of_one_of_several_sources_leaves_the_calls_of_others_open() -> None:
    events = written(
        frames(
            ToolCall("c1", "f", '{"x":1', source="b"),
            Token("a", source="a"),
            End("stop", source="a"),
            ToolCall("c1", "f", '{"x":1}', complete=True, source="b"),
            End("tool_calls", source="b"),
        )
    )
    pieces = [e["delta"].get("partial_json") for e in events if "delta" in e]
    assert "".join(filter(None, pieces)) == '{"x":1}'
    assert any(e.get("delta", {}).get("text") == "a" for e in events)


def test_a_restart_takes_back_what_was_held_and_what_is_no_block() -> None:
    calls = [ToolCall("c1", "f", "{}", complete=True), Notice("restart")]
    after = [ToolCall("c2", "f", "{}", complete=True), End("tool_calls")]
    body = b"".join(map(AnthropicWriter("s", runs_tools=True), frames(*calls, *after)))
    assert b"c1" not in body
    assert b"c2" in body
    files = [FileOutput("image/png", "QQ=="), Notice("restart"), FileOutput("image/png", "Qg==")]
    body = b"".join(map(UIMessageWriter("s"), frames(*files, End("stop"))))
    assert b"reset-step" in body


def test_text_that_waits_behind_a_call_is_sent_before_a_failure() -> None:
    failed = StreamFailed(code="overloaded", message="busy")
    sent = Sent([Start("r", "m"), ToolCall("c", "f", "{"), Token("after")], failed)
    events = written(frames_of(sent))
    assert any(e.get("delta", {}).get("text") == "after" for e in events)
    assert events[-1]["type"] == "error"
