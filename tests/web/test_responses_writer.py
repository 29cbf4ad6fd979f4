"""Streams as events of the Responses API: OpenAI's SDK accepts them, and makes the same of them."""

from __future__ import annotations

from typing import Any

import msgspec
import openai
from hypothesis import given
from hypothesis import strategies as st
from openai._models import construct_type_unchecked
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from rxllm.chunks import Chunk, End, Notice, Reasoning, Token, ToolCall, Usage
from rxllm.server.responses_api.messages import ResponsesRequest
from rxllm.testing import run_virtual
from rxllm.web.event_log import EventLog
from rxllm.web.openai_responses.writer import ResponsesWriter
from rxllm.web.stream_store import Frame
from tests.web.streams import STREAMS, Sent, answers_of, frames_of, joined
from tests.web.test_anthropic_writer import events_of, frames, normal


def written(sent: list[Frame], **options: Any) -> list[dict[str, Any]]:
    writer = ResponsesWriter("resp_1", created=0.0, **options)
    return events_of(b"".join(map(writer, sent)))


def accepted(events: list[dict[str, Any]]) -> Any:
    """The final response of the SDK, which checks the order of the events."""
    state = ResponseStreamState(input_tools=openai.NOT_GIVEN, text_format=openai.NOT_GIVEN)  # type: ignore[arg-type]
    for event in events:
        state.handle_event(
            construct_type_unchecked(type_=ResponseStreamEvent, value=event)  # type: ignore[arg-type]
        )
    return state._completed_response


def parts_in(output: list[dict[str, Any]]) -> list[Any]:
    request = msgspec.convert({"input": output}, ResponsesRequest)
    return [part for message in request.as_messages() for part in message.parts]


@given(STREAMS)
def test_the_sdk_makes_the_same_response_of_any_stream(sent: Sent) -> None:
    events = written(frames_of(sent))
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers))
    last = events[-1]["type"]
    restarted = sent.has_restart and last == "error"
    if sent.failure is not None or restarted:
        assert last in ("response.failed", "error")
        return
    end = sent.chunks[-1]
    assert isinstance(end, End)
    is_cut = end.finish_reason in ("length", "content_filter")
    assert last == ("response.incomplete" if is_cut else "response.completed")
    response = events[-1]["response"]
    if not is_cut:
        final = accepted(events)
        assert [item.id for item in final.output] == [item["id"] for item in response["output"]]
    (answer,) = answers_of(sent)
    found = normal(joined(parts_in(response["output"])))
    assert [each for each in found if each[0] != "call"] == [
        each for each in normal(answer) if each[0] != "call"
    ]
    calls = {each[1]: each for each in found if each[0] == "call"}
    assert calls == {each[1]: each for each in normal(answer) if each[0] == "call"}
    streamed = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(streamed) == "".join(part[1] for part in found if part[0] == "TextPart")


def resumed(sent: Sent, after: int) -> list[dict[str, Any]]:
    """The events that a client gets that resumes at the end of a stream."""

    async def main() -> list[dict[str, Any]]:
        log = EventLog("s", 1000, 1000.0, lambda count: None)
        *chunks, last = frames_of(sent)
        for frame in chunks:
            log.append(frame.message.chunk)  # type: ignore[union-attr]
        log.end(last.message)  # type: ignore[arg-type]
        writer = ResponsesWriter("resp_1", created=0.0, after=after)
        data: list[bytes] = []
        log.read(0, exact=True).subscribe(lambda frame: data.append(writer(frame)))
        return events_of(b"".join(data))

    return run_virtual(main())


@given(STREAMS, st.data())
def test_a_client_can_resume_after_any_event(sent: Sent, data: st.DataObject) -> None:
    events = written(frames_of(sent))
    place = data.draw(st.integers(0, len(events) - 1))
    rest = resumed(sent, events[place]["sequence_number"])
    if sent.has_restart:
        return  # what came before it is no longer kept
    assert rest == events[place + 1 :]


def test_the_order_of_a_text_answer() -> None:
    usage = Usage(5, 3, cached_tokens=1, reasoning_tokens=2)
    events = written(frames(Reasoning("Hm."), Token("It"), Token(" is"), usage, End("stop")))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[-1]["response"]["usage"]["total_tokens"] == 8
    assert events[-1]["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


def test_calls_may_grow_side_by_side() -> None:
    chunks: list[Chunk] = [
        ToolCall("c1", "f", '{"a"', 0),
        ToolCall("c2", "g", "{", 1),
        ToolCall("c1", "f", '{"a":1}', 0, complete=True),
        ToolCall("c2", "g", "{}", 1, complete=True),
        End("tool_calls"),
    ]
    response = accepted(written(frames(*chunks)))
    assert [(item.call_id, item.arguments) for item in response.output] == [
        ("c1", '{"a":1}'),
        ("c2", "{}"),
    ]


def test_a_restart_is_an_error_and_a_cancelled_stream_is_cancelled() -> None:
    events = written(frames(Token("a"), Notice("restart"), End("stop")))
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "restarted_stream")
    events = written(frames(Token("a"), End("cancelled")))
    assert events[-1]["response"]["status"] == "cancelled"
