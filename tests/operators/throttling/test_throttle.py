"""`throttle`: at most one text chunk per interval, without losing text."""

from itertools import pairwise
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Batch, End, Notice, Progress, Reasoning, Start, Token, text_of
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.texts import cut_texts, text_after


def test_the_first_chunk_is_sent_at_once_and_later_ones_are_joined(marbles: Marbles) -> None:
    stream = marbles.cold("S-a-b-c-d-------(E,|)").pipe(ops.throttle(5))
    assert marbles.run(stream) == [
        (0.0, Start("request-1", "model")),
        (2.0, Token("a")),
        (7.0, Token("bc")),
        (12.0, Token("d")),
        (16.0, End("stop")),
        (16.0, COMPLETED),
    ]


def test_text_is_sent_at_once_after_a_wait(marbles: Marbles) -> None:
    diagram = "a-----b-----c|"
    assert marbles.run(marbles.cold(diagram).pipe(ops.throttle(5))) == marbles.expect(diagram)


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.throttle(1)), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.throttle(1)), until=3) == [(1.0, COMPLETED)]


def test_held_text_is_sent_before_completion_and_error(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("a-b-c#", error=error).pipe(ops.throttle(60))
    assert marbles.run(stream) == [(0.0, Token("a")), (5.0, Token("bc")), (5.0, error)]


def test_another_chunk_flushes_the_text_before_it(marbles: Marbles) -> None:
    lookup = {"P": Progress(1, 0.5), "r": Reasoning("hm")}
    stream = marbles.cold("a-b-P-c-r|", lookup=lookup).pipe(ops.throttle(60))
    assert marbles.run(stream) == [
        (0.0, Token("a")),
        (4.0, Token("b")),
        (4.0, Progress(1, 0.5)),
        (8.0, Token("c")),
        (8.0, Reasoning("hm")),
        (9.0, COMPLETED),
    ]


def test_a_restart_drops_held_text_and_starts_over(marbles: Marbles) -> None:
    stream = marbles.cold("a-b-R-c-d|").pipe(ops.throttle(60))
    assert marbles.run(stream) == [
        (0.0, Token("a")),
        (4.0, Notice("restart")),
        (6.0, Token("c")),
        (9.0, Token("d")),
        (9.0, COMPLETED),
    ]


def test_a_hundred_tokens_in_a_second_become_ten_chunks() -> None:
    marbles = Marbles()
    model = ScriptedModel([Token(f"{n},") for n in range(100)], delay=0.01)
    events = marbles.run(model.stream("Hi").pipe(ops.throttle(0.1)))
    rows = [(time, event.text) for time, event in events if type(event) is Token]
    assert "".join(text for _, text in rows) == "".join(f"{n}," for n in range(100))
    assert len(rows) == 11
    times = [time for time, _ in rows]
    assert all(late - early > 0.0999 for early, late in pairwise(times[:-1]))


def test_the_confidence_of_joined_tokens_is_multiplied(marbles: Marbles) -> None:
    lookup = {"a": Token("a", 0.9), "b": Token("b", 0.5), "c": Token("c", 0.5)}
    stream = marbles.cold("(a,b,c)|", lookup=lookup).pipe(ops.throttle(60))
    assert [event for _, event in marbles.run(stream)[:2]] == [Token("a", 0.9), Token("bc", 0.25)]


def test_a_batch_makes_the_joined_chunk_a_batch_and_keeps_reasoning(marbles: Marbles) -> None:
    parts = Batch((Token("b"), Reasoning("hm")), "b")
    stream = marbles.cold("(a,B,B)c|", lookup={"B": parts}).pipe(ops.throttle(60))
    assert [event for _, event in marbles.run(stream)] == [
        Token("a"),
        Batch((*parts.chunks, *parts.chunks, Token("c")), "bbc"),
        COMPLETED,
    ]


def test_each_source_has_its_own_interval(marbles: Marbles) -> None:
    left = marbles.cold("a-b-----E|", source="left")
    right = marbles.cold("-x-y----------|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.throttle(5)))
    assert [(time, event.source, text_of(event)) for time, event in events[:-1]] == [
        (0.0, "left", "a"),
        (1.0, "right", "x"),
        (5.0, "left", "b"),
        (6.0, "right", "y"),
        (8.0, "left", ""),
    ]


def test_a_later_source_that_is_due_earlier_is_sent_on_time(marbles: Marbles) -> None:
    left = marbles.cold("--a(b)", source="left")
    right = marbles.cold("x---y", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.throttle(5)))
    assert [(time, event.text) for time, event in events] == [
        (0.0, "x"),
        (2.0, "a"),
        (5.0, "y"),
        (7.0, "b"),
    ]


def test_empty_text_starts_no_interval(marbles: Marbles) -> None:
    lookup = {"n": Token(""), "r": Batch((Reasoning("hm"),), "")}
    stream = marbles.cold("n-r-a-nb|", lookup={**lookup, "nb": Token("b")}).pipe(ops.throttle(9))
    assert [time for time, _ in marbles.run(stream)] == [0.0, 2.0, 4.0, 8.0, 8.0]


def test_a_restart_of_one_source_leaves_the_other_alone(marbles: Marbles) -> None:
    left = marbles.cold("a-b-R|", source="left")
    right = marbles.cold("-x-y----------|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.throttle(9)))
    assert [event for _, event in events][2:] == [
        Notice("restart", source="left"),
        Token("y", source="right"),
        COMPLETED,
    ]


def test_a_chunk_without_a_source_flushes_all_sources(marbles: Marbles) -> None:
    left, whole = marbles.cold("a-b---|", source="left"), marbles.cold("---E|")
    events = marbles.run(rx.merge(left, whole).pipe(ops.throttle(60)))
    assert events[1:3] == [(3.0, Token("b", source="left")), (3.0, End("stop"))]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("a-b|").pipe(ops.throttle(60))
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.chunks == second.chunks == [Token("a"), Token("b")]


def test_early_disposal_leaves_nothing(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c|")
    recording = marbles.subscribe(source.pipe(ops.throttle(60)))
    marbles.advance_to(3)
    recording.dispose()
    assert (recording.chunks, source.subscriptions) == ([Token("a")], [(0.0, 3.0)])
    assert (marbles.timers, marbles.valve._callbacks) == ([], {})


def test_one_timer_serves_the_subscription(marbles: Marbles) -> None:
    marbles.subscribe(marbles.hot("(a,b,c,d)---").pipe(ops.throttle(7)))
    marbles.advance_to(1)
    assert marbles.timers == [7.0]
    marbles.advance_to(20)
    assert marbles.timers == []


def test_text_waits_and_is_joined_while_the_valve_is_closed(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    stream = marbles.cold("a-b-c-----d------|").pipe(ops.throttle(3))
    assert marbles.run(stream) == [
        (0.0, Token("a")),
        (9.0, Token("bc")),
        (12.0, Token("d")),
        (17.0, COMPLETED),
    ]


def test_the_first_text_waits_for_the_valve_too(marbles: Marbles) -> None:
    marbles.valve.close()
    marbles.at(9, marbles.valve.open)
    assert marbles.run(marbles.cold("a-b---------|").pipe(ops.throttle(1)))[0] == (9.0, Token("ab"))


def test_demand_reaches_the_source(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    recording = marbles.subscribe(marbles.cold("a-b-c", demand=True).pipe(ops.throttle(1)))
    marbles.advance_to(20)
    assert recording.chunks == [Token("a")]


def test_nothing_leaks_on_an_event_loop() -> None:
    async def main() -> list[Any]:
        stream = ScriptedModel("a b c", by="word", delay=0.03).stream("Hi").pipe(ops.throttle(0.05))
        async with no_leaks():
            return [chunk async for chunk in to_async(stream)]

    chunks = run_virtual(main())
    assert [chunk.text for chunk in chunks if type(chunk) is Token] == ["a", " b", " c"]


@given(cut_texts(), st.integers(1, 9))
def test_the_joined_text_is_the_same(texts: tuple[str, list[str]], seconds: int) -> None:
    text, pieces = texts
    assert text_after(pieces, ops.throttle(seconds)) == text


@pytest.mark.parametrize("bad", [0, -1, float("inf"), float("nan")])
def test_bad_arguments_are_rejected_at_the_call(bad: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        ops.throttle(bad)


@pytest.mark.parametrize("bad", [True, "1", None])
def test_seconds_that_are_not_a_number_are_rejected_at_the_call(bad: Any) -> None:
    with pytest.raises(TypeError, match="seconds"):
        ops.throttle(bad)
