"""`measure`: first token, time between tokens, speed."""

import math
import statistics
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Batch, End, Notice, Reasoning, Steering, Token, ToolCall, ToolResult, Usage
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators.analytics import Intervals, Measurement
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual


def measured(marbles: Marbles, diagram: str, **lookup: Any) -> Measurement:
    """The one report of a stream that passes through unchanged."""
    reports: list[Measurement] = []
    events = marbles.run(marbles.cold(diagram, lookup=lookup).pipe(ops.measure(reports.append)))
    assert events == marbles.expect(diagram, lookup=lookup)
    (report,) = reports
    return report


def test_time_to_first_token_intervals_with_percentiles_and_tokens_per_second(
    marbles: Marbles,
) -> None:
    report = measured(marbles, "S--a-b---c-(E,|)")
    assert report.outcome == "completed"
    assert report.time_to_first_token == 3.0
    assert (report.tokens, report.elapsed, report.tokens_per_second) == (3, 11.0, 3 / 11)
    assert report.intervals == Intervals(
        count=2, mean=3.0, deviation=1.0, variation=100 / 3, p50=2.0, p95=4.0, p99=4.0
    )


def test_a_stream_without_tokens_has_no_figures_and_no_nan(marbles: Marbles) -> None:
    report = measured(marbles, "-|")
    assert (report.tokens, report.time_to_first_token) == (0, None)
    assert (report.tokens_per_second, report.intervals) == (0.0, Intervals())


def test_one_token_has_no_interval(marbles: Marbles) -> None:
    assert measured(marbles, "a|").intervals == Intervals()


def test_simultaneous_tokens_cause_no_division_by_zero(marbles: Marbles) -> None:
    report = measured(marbles, "(a,b,|)")
    assert report.tokens_per_second is None
    assert report.intervals == Intervals(
        count=1, mean=0.0, deviation=0.0, variation=None, p50=0.0, p95=0.0, p99=0.0
    )


def test_the_chunks_of_a_batch_count_as_simultaneous(marbles: Marbles) -> None:
    batch = Batch((Token("a"), Reasoning("hm"), Token("b")), "ab")
    report = measured(marbles, "-B-r|", B=batch, r=Reasoning("so"))
    assert (report.tokens, report.time_to_first_token) == (4, 1.0)
    assert (report.intervals.count, report.intervals.p50, report.intervals.p99) == (3, 0.0, 2.0)


def test_the_usage_replaces_the_count_at_the_end(marbles: Marbles) -> None:
    reports: list[Measurement] = []
    stream = marbles.cold("a-b-U---|", lookup={"U": Usage(7, 40)})
    recording = marbles.subscribe(stream.pipe(ops.measure(print, on_start=reports.append)))
    marbles.advance_to(6)
    assert reports[0].tokens == 2
    marbles.advance_to(9)
    assert (reports[0].tokens, reports[0].tokens_per_second) == (40, 5.0)
    assert recording.events[-1] == (8.0, COMPLETED)


def test_a_usage_without_output_is_ignored(marbles: Marbles) -> None:
    assert measured(marbles, "U-a|", U=Usage(7)).tokens == 1


def test_it_can_be_read_while_the_stream_runs(marbles: Marbles) -> None:
    live: list[Measurement] = []
    stream = marbles.cold("-a-b-c").pipe(ops.measure(print, on_start=live.append))
    marbles.subscribe(stream)
    (now,) = live
    assert (now.outcome, now.tokens, now.time_to_first_token) == ("running", 0, None)
    marbles.advance_to(4)
    assert (now.tokens, now.elapsed, now.tokens_per_second) == (2, 4.0, 0.5)
    assert (now.time_to_first_token, now.intervals.mean) == (1.0, 2.0)
    marbles.advance_to(9)
    assert (now.tokens, now.intervals.count) == (3, 2)


def test_a_failed_stream_is_reported_before_its_error(marbles: Marbles) -> None:
    seen: list[Any] = []
    stream = marbles.cold("a-#").pipe(ops.measure(lambda report: seen.append(report.outcome)))
    stream.subscribe(on_error=seen.append, scheduler=marbles.scheduler)
    marbles.advance_to(9)
    assert seen[0] == "failed"
    assert isinstance(seen[1], Exception)


def test_a_disposed_stream_is_cancelled_and_reported_once(marbles: Marbles) -> None:
    reports: list[Measurement] = []
    source = marbles.cold("-a-b-c|")
    recording = marbles.subscribe(source.pipe(ops.measure(reports.append)))
    marbles.advance_to(4)
    recording.dispose()
    recording.dispose()
    marbles.advance_to(9)
    assert [(report.outcome, report.tokens, report.elapsed) for report in reports] == [
        ("cancelled", 2, 4.0)
    ]
    assert (source.subscriptions, marbles.timers) == ([(0.0, 4.0)], [])


def test_an_on_result_that_raises_turns_completion_into_its_error(marbles: Marbles) -> None:
    failure = ValueError("no such column")

    def report(_: Measurement) -> None:
        raise failure

    stream = marbles.cold("a|").pipe(ops.measure(report))
    assert marbles.run(stream) == [(0.0, Token("a")), (1.0, failure)]


def test_an_on_result_that_raises_does_not_hide_the_error_of_the_stream(marbles: Marbles) -> None:
    error = ConnectionResetError()

    def report(_: Measurement) -> None:
        raise ValueError("no such column")

    stream = marbles.cold("#", error=error).pipe(ops.measure(report))
    assert marbles.run(stream) == [(0.0, error)]
    assert "no such column" in error.__notes__[0]


def test_an_on_result_that_raises_on_disposal_reaches_the_caller(
    marbles: Marbles,
) -> None:
    def report(_: Measurement) -> None:
        raise ValueError("no such column")

    source = marbles.cold("a-b")
    recording = marbles.subscribe(source.pipe(ops.measure(report)))
    with pytest.raises(ValueError, match="no such column"):
        recording.dispose()
    assert source.subscriptions == [(0.0, 0.0)]


def test_an_on_start_that_raises_fails_the_stream_without_a_subscription(
    marbles: Marbles,
) -> None:
    failure, source = ValueError("no"), marbles.cold("a|")

    def on_start(_: Measurement) -> None:
        raise failure

    assert marbles.run(source.pipe(ops.measure(print, on_start=on_start))) == [(0.0, failure)]
    assert source.subscriptions == []


def test_after_a_restart_tokens_are_counted_from_0_and_times_continue(marbles: Marbles) -> None:
    report = measured(marbles, "-a-b-U-R-c-|", U=Usage(1, 99))
    assert (report.tokens, report.time_to_first_token) == (1, 1.0)
    assert (report.intervals.count, report.elapsed) == (2, 11.0)


def test_sources_are_counted_separately_and_timed_together(marbles: Marbles) -> None:
    reports: list[Measurement] = []
    left = marbles.cold("-a---b-U|", source="left", lookup={"U": Usage(1, 30)})
    right = marbles.cold("---x-R-y|", source="right")
    marbles.run(rx.merge(left, right).pipe(ops.measure(reports.append)))
    assert reports[0].counts == {"left": 30, "right": 1}
    assert (reports[0].tokens, reports[0].intervals.mean) == (31, 2.0)


def test_two_subscriptions_have_two_reports(marbles: Marbles) -> None:
    reports: list[Measurement] = []
    stream = marbles.cold("-a|").pipe(ops.measure(reports.append))
    marbles.subscribe(stream)
    marbles.advance_to(5)
    marbles.subscribe(stream)
    marbles.advance_to(9)
    assert [report.time_to_first_token for report in reports] == [1.0, 1.0]


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    recording = marbles.subscribe(marbles.cold("a-b", demand=True).pipe(ops.measure(print)))
    marbles.advance_to(9)
    assert recording.chunks == [Token("a")]


def test_under_an_event_loop_it_uses_the_loops_clock() -> None:
    reports: list[Measurement] = []

    async def main() -> None:
        stream = ScriptedModel("a b c", by="word", delay=2, first_delay=60).stream("Hi")
        async with no_leaks():
            async for _ in to_async(stream.pipe(ops.measure(reports.append))):
                pass

    run_virtual(main())
    assert (reports[0].time_to_first_token, reports[0].intervals.p95) == (60.0, 2.0)


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(1, 9))
def test_mean_and_deviation_agree_with_a_direct_computation(waits: list[int], look: int) -> None:
    live: list[Measurement] = []
    script: list[Any] = ["first"]
    for wait in waits:
        script += [wait, "next"]
    stream = ScriptedModel(script).stream("Hi").pipe(ops.measure(print, on_start=live.append))
    marbles = Marbles()
    for time in range(1, sum(waits) + 1, 100 * look):
        marbles.at(time, lambda: live[0].intervals)
    marbles.run(stream, until=sum(waits) + 1)
    intervals = live[0].intervals
    assert intervals.count == len(waits)
    assert intervals.mean == pytest.approx(statistics.fmean(waits), abs=1e-9)
    assert intervals.deviation == pytest.approx(math.sqrt(statistics.pvariance(waits)), abs=1e-6)


def test_the_repr_of_a_measurement_shows_its_figures(marbles: Marbles) -> None:
    measured: list[Measurement] = []
    marbles.run(marbles.cold("S-a-b|").pipe(ops.measure(measured.append)))
    assert repr(measured[0]) == (
        "Measurement(outcome='completed', model='model', tokens=2, time_to_first_token=2.0, "
        "elapsed=5.0, tokens_per_second=0.4)"
    )


def test_invalid_callbacks_raise_at_the_call() -> None:
    bad: Any = Measurement
    with pytest.raises(TypeError, match="a function"):
        ops.measure(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a function"):
        ops.measure(bad, on_start="now")  # type: ignore[arg-type]


def test_after_batches_it_takes_no_more_memory_than_before_them() -> None:
    sizes: list[int] = []
    batch = Batch((Token("x"),) * 10, "x" * 10)
    stream = rx.from_iterable(batch for _ in range(2_000)).pipe(
        ops.measure(lambda measurement: sizes.append(len(measurement.moments)))
    )
    Marbles().run(stream)
    assert sizes[0] < 2_000


RUN: dict[str, Any] = {
    "c": ToolCall("1", "look", "{}", complete=True),
    "M": End("tool_calls", more=True),
    "r": ToolResult("1", "look", "there"),
    "j": Steering("and then?"),
    "l": Notice("loading"),
    "x": Token("x", source="1"),
}


@pytest.mark.parametrize("between", ["M-----r", "M-r---j", "M-x-x---r"])
def test_the_time_between_two_answers_of_a_run_is_no_interval(
    marbles: Marbles, between: str
) -> None:
    report = measured(marbles, f"S-a-b-c-{between}-S-a-b-E|", **RUN)
    assert (report.intervals.p99, report.outcome) == (2.0, "completed")
    assert (report.steps, report.tool_calls) == (2, 1)
    assert report.time_to_first_token == 2.0


def test_a_model_that_is_loaded_for_a_later_answer_delays_no_first_token(marbles: Marbles) -> None:
    report = measured(marbles, "S-a-c-M-r-l----S-b-E|", **RUN)
    assert (report.time_to_first_token, report.loading) == (2.0, 0.0)


def test_an_answer_that_restarts_is_one_step(marbles: Marbles) -> None:
    report = measured(marbles, "S-a-R-S-c-M-r-S-b-R-S-b-E|", **RUN)
    assert (report.steps, report.tool_calls) == (2, 1)
