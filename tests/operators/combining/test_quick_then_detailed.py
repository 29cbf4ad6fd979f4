"""`quick_then_detailed`: a quick answer, then a better one."""

from typing import Any

import pytest
import reactivex as rx
from reactivex import operators

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, ErrorInfo, Notice, Start, Token
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.combining.sources import at_once


def test_the_second_answer_starts_when_the_first_is_complete(marbles: Marbles) -> None:
    quick, detailed = marbles.cold("S-a-E|"), marbles.cold("S-x-E|")
    assert marbles.run(ops.quick_then_detailed(quick, detailed)) == [
        *marbles.expect("S-a-E", source="quick"),
        (5.0, Start("request-1", "model", source="detailed")),
        (7.0, Token("x", source="detailed")),
        (9.0, End("stop", source="detailed")),
        (10.0, COMPLETED),
    ]
    assert (quick.subscriptions, detailed.subscriptions) == ([(0.0, 5.0)], [(5.0, 10.0)])


def test_the_second_prompt_may_be_made_of_the_first_answer(marbles: Marbles) -> None:
    model = ScriptedModel("ok")

    def detailed(text: str) -> rx.Observable[Chunk]:
        return model.stream(f"In detail: {text}")

    marbles.run(ops.quick_then_detailed(marbles.cold("no-R-ye-s-E|"), detailed))
    assert model.requests[0].messages[0].text == "In detail: yes"


def test_a_failed_quick_answer_is_reported_and_the_detailed_one_follows(marbles: Marbles) -> None:
    error, asked = ValueError("broken"), []

    def detailed(text: str) -> rx.Observable[Chunk]:
        asked.append(text)
        return marbles.cold("x|")

    events = marbles.run(ops.quick_then_detailed(marbles.cold("a-#", error=error), detailed))
    assert events[1:] == [
        (2.0, Notice("failed", error=ErrorInfo("ValueError", "broken"), source="quick")),
        (2.0, Token("x", source="detailed")),
        (3.0, COMPLETED),
    ]
    assert asked == ["a"]


@pytest.mark.parametrize("count", [1, 2])
def test_taking_only_the_quick_answer_does_not_start_the_other(
    marbles: Marbles, count: int
) -> None:
    asked: list[str] = []

    def detailed(text: str) -> rx.Observable[Chunk]:
        asked.append(text)
        return rx.never()

    quick = at_once(Token("a"), End("stop"))
    events = marbles.run(ops.quick_then_detailed(quick, detailed).pipe(operators.take(count)))
    assert (len(events), events[-1], asked) == (count + 1, (0.0, COMPLETED), [])


def test_leaving_at_the_notice_of_a_failure_does_not_start_the_other(marbles: Marbles) -> None:
    detailed = marbles.cold("x|")
    stream = ops.quick_then_detailed(marbles.cold("a-#"), detailed)
    events = marbles.run(stream.pipe(operators.take(2)))
    assert (type(events[1][1]), events[2][1], detailed.subscriptions) == (Notice, COMPLETED, [])


def test_an_error_of_the_detailed_answer_is_passed_on(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = ops.quick_then_detailed(marbles.cold("a|"), marbles.cold("x-#", error=error))
    assert marbles.run(stream)[-1] == (3.0, error)
    assert error.__notes__ == ["error of the stream 'detailed'"]


def test_a_cancelled_quick_answer_ends_the_stream(marbles: Marbles) -> None:
    control, detailed = ops.Control(), marbles.cold("x|")
    marbles.at(1, control.stop)
    quick = marbles.cold("a-b|").pipe(ops.pausable(control))
    events = marbles.run(ops.quick_then_detailed(quick, detailed))
    assert events[1:] == [(1.0, End("cancelled", source="quick")), (1.0, COMPLETED)]
    assert detailed.subscriptions == []


@pytest.mark.parametrize("detailed", [lambda _: 1 / 0, lambda _: "text"])
def test_a_function_that_returns_no_stream_is_an_error(marbles: Marbles, detailed: Any) -> None:
    events = marbles.run(ops.quick_then_detailed(marbles.cold("a|"), detailed))
    assert (events[-1][0], type(events[-1][1])) in [(1.0, ZeroDivisionError), (1.0, TypeError)]


def test_never_and_empty(marbles: Marbles) -> None:
    detailed = marbles.cold("|")
    assert marbles.run(ops.quick_then_detailed(rx.never(), detailed), until=5) == []
    assert marbles.run(ops.quick_then_detailed(marbles.cold("|"), detailed)) == [(5.0, COMPLETED)]


def test_synchronous_sources(marbles: Marbles) -> None:
    stream = ops.quick_then_detailed(at_once(Token("a")), at_once(Token("x")))
    assert [event for _, event in marbles.run(stream)] == [
        Token("a", source="quick"),
        Token("x", source="detailed"),
        COMPLETED,
    ]


@pytest.mark.parametrize("time", [1, 4])
def test_early_disposal_disposes_the_running_stream(marbles: Marbles, time: float) -> None:
    quick, detailed = marbles.cold("a-|"), marbles.cold("x---|")
    recording = marbles.subscribe(ops.quick_then_detailed(quick, detailed))
    marbles.advance_to(time)
    recording.dispose()
    marbles.advance_to(9)
    last = (quick if time == 1 else detailed).subscriptions[-1]
    assert (last[1], marbles.timers) == (time, [])
    assert len(detailed.subscriptions) == (0 if time == 1 else 1)


def test_leaving_at_the_end_of_the_quick_answer_starts_nothing(marbles: Marbles) -> None:
    detailed = marbles.cold("x|")
    stream = ops.quick_then_detailed(at_once(End("stop")), detailed).pipe(operators.take(1))
    marbles.run(stream)
    assert [end for _, end in detailed.subscriptions if end is None] == []


def test_demand_passes_through_to_both(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(5, marbles.valve.open)
    quick, detailed = marbles.cold("a-b|", demand=True), marbles.cold("x|", demand=True)
    events = marbles.run(ops.quick_then_detailed(quick, detailed))
    assert [time for time, _ in events] == [0.0, 5.0, 5.0, 6.0]


def test_two_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = ops.quick_then_detailed(marbles.cold("a|"), lambda text: marbles.cold(f"{text}x|"))
    first = marbles.subscribe(stream)
    marbles.advance_to(0.5)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert (
        first.chunks
        == second.chunks
        == [
            Token("a", source="quick"),
            Token("ax", source="detailed"),
        ]
    )


def test_a_sink_gets_both_answers() -> None:
    quick, detailed = ScriptedModel("Yes."), ScriptedModel("Yes, it is.", by="word", delay=1)

    async def main() -> dict[str, str]:
        async with no_leaks():
            stream = ops.quick_then_detailed(quick.stream("Hi"), detailed.stream("Hi"))
            return (await rxllm.sinks.collect(stream)).texts

    assert run_virtual(main()) == {"quick": "Yes.", "detailed": "Yes, it is."}


@pytest.mark.parametrize("arguments", [("text", rx.never()), (rx.never(), "text")])
def test_what_is_not_a_stream_is_refused_at_the_call(arguments: Any) -> None:
    with pytest.raises(TypeError):
        ops.quick_then_detailed(*arguments)
