"""`transcribe`: the history as it is here, whatever operators make of it later."""

from typing import Any

import pytest
import reactivex as rx

import rxllm
from rxllm import Message, ReasoningPart, TextPart
from rxllm import operators as ops
from rxllm.chunks import (
    End,
    ProviderState,
    Reasoning,
    Steering,
    Token,
    ToolCall,
    ToolResult,
)
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, run_virtual

CALL = ToolCall("1", "look", "{}", complete=True)
RESULT = ToolResult("1", "look", "snow")
LOOKUP: dict[str, Any] = {
    "c": CALL,
    "m": End("tool_calls", more=True),
    "p": ToolResult("1", "look", "half", preliminary=True),
    "r": RESULT,
    "t": Steering("faster"),
}
ASKED = Message("assistant", "a", tool_calls=(CALL,))
TOLD = Message("tool", "snow", tool_call_id="1")
STEERED = Message("user", "faster")


def reports_of(
    marbles: Marbles, diagram: str, **options: Any
) -> tuple[list[tuple[float, tuple[Message, ...]]], list[tuple[float, Any]]]:
    """The reports with their times, and the events."""
    reports: list[tuple[float, tuple[Message, ...]]] = []

    def note(messages: tuple[Message, ...]) -> None:
        reports.append((marbles.scheduler.clock, messages))

    source = marbles.cold(diagram, lookup=LOOKUP, **options)
    return reports, marbles.run(source.pipe(ops.transcribe(note)))


def test_a_run_is_reported_after_each_part_that_stays_and_at_the_end(marbles: Marbles) -> None:
    diagram = "S-a-c-m-p-r-t-S-b-(E,|)"
    reports, events = reports_of(marbles, diagram)
    assert events == marbles.expect(diagram, lookup=LOOKUP)
    assert reports == [
        (6.0, (ASKED,)),
        (10.0, (ASKED, TOLD)),
        (12.0, (ASKED, TOLD, STEERED)),
        (18.0, (ASKED, TOLD, STEERED, Message("assistant", "b"))),
    ]


def test_one_answer_is_reported_once(marbles: Marbles) -> None:
    reports, _ = reports_of(marbles, "S-a-b-(E,|)")
    assert reports == [(6.0, (Message("assistant", "ab"),))]


def test_an_empty_stream_is_reported_too(marbles: Marbles) -> None:
    assert reports_of(marbles, "-|")[0] == [(1.0, ())]


def test_a_restart_takes_back_the_answer_under_way(marbles: Marbles) -> None:
    reports, _ = reports_of(marbles, "S-a-c-m-r-S-b-R-S-d-(E,|)")
    assert reports[-1][1] == (ASKED, TOLD, Message("assistant", "d"))


def test_an_error_has_the_answer_so_far_without_its_calls(marbles: Marbles) -> None:
    error = ConnectionResetError()
    reports, events = reports_of(marbles, "S-a-c-m-r-S-b-c-#", error=error)
    assert reports[-1] == (16.0, (ASKED, TOLD, Message("assistant", "b")))
    assert events[-1] == (16.0, error)


def test_disposal_reports_what_there_is_after_upstream_is_disposed(marbles: Marbles) -> None:
    reports: list[tuple[Message, ...]] = []
    source = marbles.cold("S-a-b-c-E|")

    def note(messages: tuple[Message, ...]) -> None:
        assert source.subscriptions == [(0.0, 4.0)]
        reports.append(messages)

    recording = marbles.subscribe(source.pipe(ops.transcribe(note)))
    marbles.advance_to(4)
    recording.dispose()
    marbles.advance_to(20)
    assert reports == [(Message("assistant", "ab"),)]
    assert (marbles.timers, marbles.valve._callbacks) == ([], {})


def test_two_subscriptions_have_their_own_messages(marbles: Marbles) -> None:
    reports: list[tuple[Message, ...]] = []
    stream = marbles.cold("a-b|").pipe(ops.transcribe(reports.append))
    marbles.subscribe(stream)
    marbles.advance_to(1)
    marbles.subscribe(stream)
    marbles.advance_to(9)
    assert reports == [(Message("assistant", "ab"),)] * 2


def test_demand_reaches_the_source(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    source = marbles.cold("a-b-|", demand=True)
    recording = marbles.subscribe(source.pipe(ops.transcribe(lambda _: None)))
    marbles.advance_to(9)
    assert recording.chunks == [Token("a")]
    marbles.valve.open()
    assert recording.chunks == [Token("a"), Token("b")]


def test_what_has_a_source_is_not_part_of_it(marbles: Marbles) -> None:
    reports: list[tuple[Message, ...]] = []
    nested = [Token("inside", source="1"), End("stop", more=True, source="1")]
    chunks = [Token("a"), CALL, LOOKUP["m"], *nested, RESULT, Token("b"), End("stop")]
    marbles.run(rx.of(*chunks).pipe(ops.transcribe(reports.append)))
    assert len(reports) == 3
    assert reports[-1] == (ASKED, TOLD, Message("assistant", "b"))


def test_an_exception_of_the_callback_fails_the_stream(marbles: Marbles) -> None:
    error = LookupError("no store")

    def fail(_: tuple[Message, ...]) -> None:
        raise error

    source = marbles.cold("a-m-b-|", lookup=LOOKUP)
    assert marbles.run(source.pipe(ops.transcribe(fail))) == [(0.0, Token("a")), (2.0, error)]
    assert source.subscriptions == [(0.0, 2.0)]
    assert marbles.run(marbles.cold("a|").pipe(ops.transcribe(fail)))[-1][1] is error
    broken = ConnectionResetError()
    assert marbles.run(rx.throw(broken).pipe(ops.transcribe(fail)))[-1][1] is broken
    assert "no store" in broken.__notes__[0]


def test_the_history_is_that_before_the_operators_behind_it() -> None:
    """With what the provider signed, so that the next request is accepted."""
    state = ProviderState("claude", "claude", "signed")
    thinking = [Reasoning("a bad thought"), Reasoning("", state)]
    stored: dict[str, Any] = {}

    def look() -> str:
        return "a bad place"

    agent = rxllm.Agent(
        ScriptedModel([*thinking, Token("bad"), CALL, End("tool_calls")], ["bad", End("stop")]),
        [look],
    )
    stream = agent.stream("Go").pipe(
        ops.transcribe(lambda messages: stored.update(new=messages)), ops.redact("bad")
    )

    async def main() -> Any:
        return await stream

    assert run_virtual(main()).text == "***"
    first = (ReasoningPart("a bad thought", state), TextPart("bad"))
    assert stored["new"] == (
        Message("assistant", first, tool_calls=(CALL,)),
        Message("tool", "a bad place", tool_call_id="1"),
        Message("assistant", "bad"),
    )


@pytest.mark.parametrize("callback", [None, "list", []])
def test_a_bad_callback_is_rejected_at_the_call(callback: Any) -> None:
    with pytest.raises(TypeError, match="on_messages"):
        ops.transcribe(callback)


def test_an_asynchronous_callback_is_rejected_at_the_call() -> None:
    async def store(_: tuple[Message, ...]) -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        ops.transcribe(store)


def test_completion_comes_after_the_last_report(marbles: Marbles) -> None:
    order: list[Any] = []
    stream = marbles.cold("a|").pipe(ops.transcribe(order.append))
    stream.subscribe(on_completed=lambda: order.append(COMPLETED), scheduler=marbles.scheduler)
    marbles.advance_to(2)
    assert order == [(Message("assistant", "a"),), COMPLETED]
