"""`pace`: adapted to the consumer, 15 ms averaged over the last 10 chunks."""

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from reactivex import operators as rx_ops

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Reasoning, Start, Token, text_of
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import clock_of, with_valve
from tests.operators.texts import cut_texts, text_after


def times_of_a_consumer(needs: list[float], gap: float, window: int) -> list[float]:
    """When a consumer receives its chunks, if `on_next` takes `needs` seconds for each."""
    marbles, times = Marbles(), []
    clock = clock_of(marbles.scheduler)

    def on_next(_: Chunk) -> None:
        times.append(round(clock(), 5))
        need = needs[len(times) - 1]
        if need:
            marbles.scheduler.sleep(need)

    source = marbles.cold("(" + ",".join("x" * len(needs)) + ")|")
    source.pipe(ops.pace(gap, window)).subscribe(on_next, scheduler=marbles.scheduler)
    marbles.advance_to(500)
    return times


def test_a_fast_consumer_gets_one_chunk_per_gap(marbles: Marbles) -> None:
    stream = marbles.cold("S(a,b,c)---(E,|)").pipe(ops.pace(2))
    assert marbles.run(stream) == [
        (0.0, Start("request-1", "model")),
        (1.0, Token("a")),
        (3.0, Token("b")),
        (5.0, Token("c")),
        (11.0, End("stop")),
        (11.0, COMPLETED),
    ]


def test_chunks_are_15_milliseconds_apart_by_default() -> None:
    times = times_of_a_consumer([0.0] * 5, 0.015, 10)
    assert times == pytest.approx([0, 0.015, 0.03, 0.045, 0.06], abs=1e-5)


def test_time_spent_by_the_consumer_is_part_of_the_gap() -> None:
    times = times_of_a_consumer([0.005] * 5, 0.015, 10)
    assert times == pytest.approx([0, 0.015, 0.03, 0.045, 0.06], abs=1e-5)


def test_a_consumer_slower_than_the_gap_gets_no_extra_pause() -> None:
    times = times_of_a_consumer([0.04] * 5, 0.015, 10)
    assert times == pytest.approx([0, 0.04, 0.08, 0.12, 0.16], abs=1e-5)


def test_after_a_slow_chunk_the_average_is_restored() -> None:
    assert times_of_a_consumer([1, 1, 5, 0, 0, 0], 3, 2) == [0, 3, 6, 11, 11.5, 14.5]


def test_the_average_gap_over_the_last_10_chunks_meets_the_target() -> None:
    times = times_of_a_consumer([0.0, 0.02] * 50, 0.015, 10)
    assert (times[90] - times[10]) / 80 == pytest.approx(0.015, rel=0.02)


def test_a_closed_valve_counts_as_time_spent_by_the_consumer(marbles: Marbles) -> None:
    times: list[float] = []
    clock = clock_of(marbles.scheduler)

    def on_next(_: Chunk) -> None:
        times.append(clock())
        marbles.valve.close()
        marbles.at(clock() + 2, marbles.valve.open)

    stream = marbles.cold("(a,b,c)|").pipe(ops.pace(3))
    stream.subscribe(on_next, scheduler=with_valve(marbles.scheduler, marbles.valve))
    marbles.advance_to(100)
    assert times == [0.0, 3.0, 6.0]


def test_a_pause_while_the_consumer_is_ready_does_not_count(marbles: Marbles) -> None:
    marbles.at(10, marbles.valve.close)
    marbles.at(40, marbles.valve.open)
    source = marbles.hot("a" + "-" * 40 + "(b,c,d)")
    events = marbles.run(source.pipe(ops.pace(1)), until=100)
    assert [time for time, _ in events] == [0.0, 41.0, 42.0, 43.0]


@pytest.mark.parametrize("restarts", ["-", "------R", "------(R,R,R)"])
def test_each_chunk_is_measured_once_whatever_is_dropped_after_it(
    marbles: Marbles, restarts: str
) -> None:
    """The first chunk takes 4 seconds, the others none; the window is two chunks."""
    times: list[float] = []
    clock = clock_of(marbles.scheduler)

    def on_next(chunk: Chunk) -> None:
        if type(chunk) is Token:
            times.append(clock())
        if chunk == Token("a", source="left"):
            marbles.valve.close()
            marbles.at(4, marbles.valve.open)

    left = marbles.cold("(a,b,c,d)", source="left")
    right = marbles.cold(restarts, source="right")
    stream = rx.merge(left, right).pipe(ops.pace(5, 2))
    stream.subscribe(on_next, scheduler=with_valve(marbles.scheduler, marbles.valve))
    marbles.advance_to(100)
    assert times == [0.0, 5.0, 8.0, 13.0]


def test_empty_text_takes_no_time(marbles: Marbles) -> None:
    lookup = {"n": Token(""), "r": Reasoning(""), "B": Batch((Token(""),), "")}
    stream = marbles.cold("(n,r,B,a,n,b)|", lookup=lookup).pipe(ops.pace(20))
    assert [time for time, _ in marbles.run(stream)] == [0.0] * 5 + [20.0, 20.0]


def test_a_source_slower_than_the_gap_does_not_wait(marbles: Marbles) -> None:
    diagram = "a---b---c|"
    assert marbles.run(marbles.cold(diagram).pipe(ops.pace(2))) == marbles.expect(diagram)


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.pace()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.pace()), until=3) == [(1.0, COMPLETED)]


def test_everything_is_sent_at_once_before_an_error(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("(a,b)#", error=error).pipe(ops.pace(60))
    assert marbles.run(stream) == [(0.0, Token("a")), (5.0, Token("b")), (5.0, error)]


def test_a_restart_drops_held_chunks_of_its_source(marbles: Marbles) -> None:
    left = marbles.cold("(a,b)R-c|", source="left")
    right = marbles.cold("-x|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.pace(10)))
    assert [(time, event.source, event) for time, event in events[:-1]] == [
        (0.0, "left", Token("a", source="left")),
        (10.0, "right", Token("x", source="right")),
        (10.0, "left", Notice("restart", source="left")),
        (20.0, "left", Token("c", source="left")),
    ]


def test_reasoning_is_paced_and_other_chunks_take_no_time(marbles: Marbles) -> None:
    lookup = {"r": Reasoning("hm"), "n": Notice("retry")}
    stream = marbles.cold("(r,n,a,n)|", lookup=lookup).pipe(ops.pace(10))
    assert [time for time, _ in marbles.run(stream)] == [0.0, 0.0, 10.0, 10.0, 10.0]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("(a,b)|").pipe(ops.pace(2))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.events == second.events
    assert [time for time, _ in first.events] == [0.0, 2.0, 5.0]


def test_early_disposal_leaves_nothing(marbles: Marbles) -> None:
    source = marbles.cold("(a,b)---|")
    recording = marbles.subscribe(source.pipe(ops.pace(60)))
    marbles.advance_to(1)
    recording.dispose()
    assert (recording.chunks, source.subscriptions) == ([Token("a")], [(0.0, 1.0)])
    assert (marbles.timers, marbles.valve._callbacks) == ([], {})


def test_a_fast_model_is_paused_while_1024_chunks_wait(marbles: Marbles) -> None:
    pulled: list[Any] = []
    model = ScriptedModel([Token("x")] * 5000)
    stream = model.stream("Hi").pipe(rx_ops.do_action(pulled.append), ops.pace(1))
    marbles.subscribe(stream)
    marbles.advance_to(0.5)
    assert len(pulled) == 1 + 1 + 1024


def test_nothing_leaks_on_an_event_loop() -> None:
    async def main() -> list[Any]:
        stream = ScriptedModel("a b c", by="word").stream("Hi").pipe(ops.pace())
        async with no_leaks():
            return [chunk async for chunk in to_async(stream)]

    assert "".join(map(text_of, run_virtual(main()))) == "a b c"


@given(cut_texts())
def test_the_joined_text_is_the_same(texts: tuple[str, list[str]]) -> None:
    text, pieces = texts
    assert text_after(pieces, ops.pace(3)) == text


@pytest.mark.parametrize("bad", [{"gap": 0}, {"gap": float("inf")}, {"window": 0}])
def test_bad_arguments_are_rejected_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ops.pace(**bad)


@pytest.mark.parametrize("window", [2.5, float("nan"), True, "10"])
def test_a_window_that_is_not_an_integer_is_rejected_at_the_call(window: Any) -> None:
    with pytest.raises(TypeError, match="window"):
        ops.pace(window=window)
