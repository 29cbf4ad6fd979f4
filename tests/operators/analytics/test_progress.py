"""`progress`: tokens, percentage, speed, elapsed and remaining time."""

from typing import Any

import pytest
import reactivex as rx

from rxllm import operators as ops
from rxllm.chunks import Batch, End, Notice, Progress, Reasoning, Start, Token
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual


def reports(events: list[tuple[float, Any]]) -> list[tuple[float, Progress]]:
    return [(time, event) for time, event in events if isinstance(event, Progress)]


def report(tokens: int, elapsed: float, speed: float) -> Progress:
    """The progress of tokens of one character each."""
    return Progress(tokens, elapsed, speed, characters_per_second=speed)


def test_a_report_follows_every_n_tokens_and_precedes_the_end(marbles: Marbles) -> None:
    stream = marbles.cold("S-a-b-c-(E,|)").pipe(ops.progress(every=2))
    assert marbles.run(stream) == [
        *marbles.expect("S-a-b"),
        (4.0, report(2, 4.0, 0.5)),
        (6.0, Token("c")),
        (8.0, report(3, 8.0, 0.375)),
        (8.0, End("stop")),
        (8.0, COMPLETED),
    ]


def test_every_ten_tokens_by_default() -> None:
    marbles = Marbles(seconds=0.1)
    reported = reports(marbles.run(marbles.cold("-a" * 25 + "-E|").pipe(ops.progress())))
    assert [report.tokens for _, report in reported] == [10, 20, 25]
    speeds = [report.tokens_per_second for _, report in reported]
    assert speeds == pytest.approx([9 / 1.8, 19 / 3.8, 24 / 5.0])


def test_with_max_tokens_it_reports_percentage_and_remaining_time(marbles: Marbles) -> None:
    stream = marbles.cold("-a-b-c-d-E|").pipe(ops.progress(every=2, max_tokens=8))
    reported = [report for _, report in reports(marbles.run(stream))]
    assert [(r.max_tokens, r.percentage, r.remaining) for r in reported] == [
        (8, 25.0, pytest.approx(12.0)),
        (8, 50.0, pytest.approx(8.0)),
        (8, 50.0, 0.0),
    ]


def test_the_maximum_is_that_of_the_request(marbles: Marbles) -> None:
    start = Start("1", "model", max_tokens=8)
    stream = marbles.cold("S-a-b-E|", lookup={"S": start}).pipe(ops.progress(every=2))
    reported = [report for _, report in reports(marbles.run(stream))]
    assert [(r.max_tokens, r.percentage) for r in reported] == [(8, 25.0), (8, 25.0)]


def test_a_model_knows_the_maximum_of_its_request() -> None:
    model = ScriptedModel("x" * 20, by="character")
    chunks = list(model.stream("count", max_tokens=20).pipe(ops.progress()))
    found = [chunk.percentage for chunk in chunks if isinstance(chunk, Progress)]
    assert found == [50.0, 100.0, 100.0]


def test_the_next_answer_of_a_run_adds_its_maximum_and_the_percentage_stays(
    marbles: Marbles,
) -> None:
    start = {"S": Start("1", "model", max_tokens=4), "M": End("stop", more=True)}
    stream = marbles.cold("S-a-b-M-S-a-a-E|", lookup=start).pipe(ops.progress(every=1))
    reported = [report for _, report in reports(marbles.run(stream))]
    assert [(r.tokens, r.max_tokens, r.percentage) for r in reported] == [
        (1, 4, 25.0),
        (2, 4, 50.0),
        (2, 4, 50.0),
        (3, 6, 50.0),
        (4, 6, pytest.approx(66.7, abs=0.1)),
        (4, 6, pytest.approx(66.7, abs=0.1)),
    ]


def test_an_answer_that_others_follow_is_not_the_end(marbles: Marbles) -> None:
    start = {"S": Start("1", "model", max_tokens=4), "M": End("stop", more=True)}
    stream = marbles.cold("S-a-a-M-S-a-a-E|", lookup=start).pipe(ops.progress(every=9))
    reported = [report for _, report in reports(marbles.run(stream))]
    assert [report.remaining for report in reported] == [6.0, 0.0]  # 2 tokens in 6 s


def test_percentage_is_at_most_100_and_remaining_at_least_0(marbles: Marbles) -> None:
    stream = marbles.cold("-a-b-c|").pipe(ops.progress(every=1, max_tokens=2))
    reported = [report for _, report in reports(marbles.run(stream))]
    assert [(r.percentage, r.remaining) for r in reported] == [
        (50.0, None),
        (100.0, 0.0),
        (100.0, 0.0),
    ]


def test_without_elapsed_time_there_is_no_speed(marbles: Marbles) -> None:
    stream = marbles.cold("(a,b,E,|)").pipe(ops.progress(every=2, max_tokens=8))
    assert [report for _, report in reports(marbles.run(stream))] == [
        Progress(2, 0.0, None, 8, 25.0, None),
        Progress(2, 0.0, None, 8, 25.0, 0.0),
    ]


def test_an_answer_without_tokens(marbles: Marbles) -> None:
    stream = marbles.cold("S--E|").pipe(ops.progress(max_tokens=8))
    assert reports(marbles.run(stream)) == [(3.0, Progress(0, 3.0, None, 8, 0.0, 0.0))]


@pytest.mark.parametrize("cut", [ops.rechunk(1), ops.words(), ops.rechunk(1000), ops.batch(3, 1)])
def test_text_that_was_cut_otherwise_counts_by_the_tokens_of_the_model(cut: Any) -> None:
    model = ScriptedModel([f"word{number} here " for number in range(10)])
    chunks = list(model.stream("count", max_tokens=10).pipe(cut, ops.progress()))
    last = [chunk for chunk in chunks if isinstance(chunk, Progress)][-1]
    assert (last.tokens, last.percentage) == (10, 100.0)


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.progress()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.progress())) == [(1.0, COMPLETED)]


def test_an_error_is_passed_on_without_a_report(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("a#", error=error).pipe(ops.progress(every=2))
    assert marbles.run(stream) == [(0.0, Token("a")), (1.0, error)]


def test_after_a_restart_tokens_are_counted_from_0_and_time_continues(marbles: Marbles) -> None:
    stream = marbles.cold("-a-b-R-c-d|").pipe(ops.progress(every=2))
    assert reports(marbles.run(stream)) == [
        (3.0, report(2, 3.0, 1 / 2)),
        (9.0, report(2, 9.0, 1 / 2)),
    ]


def test_a_wait_before_the_stream_starts_is_not_counted_in_the_speed(marbles: Marbles) -> None:
    stream = marbles.cold("------S-a-b-c-d|").pipe(ops.progress(every=2, max_tokens=8))
    reported = [report for _, report in reports(marbles.run(stream))]
    assert [(r.elapsed, r.tokens_per_second, r.remaining) for r in reported] == [
        (10.0, 0.5, 12.0),
        (14.0, 0.5, 8.0),
    ]


def test_the_speed_is_that_of_the_latest_attempt(marbles: Marbles) -> None:
    stream = marbles.cold("S-----n-S-a-b|", lookup={"n": Notice("retry")}).pipe(
        ops.progress(every=2)
    )
    assert reports(marbles.run(stream)) == [(12.0, report(2, 12.0, 0.5))]


def test_time_during_which_the_stream_is_held_is_not_counted_in_the_speed(marbles: Marbles) -> None:
    marbles.at(3.5, marbles.valve.close)
    marbles.at(9.5, marbles.valve.open)
    source = marbles.cold("S-a------b-c-d-e|")
    reported = [report for _, report in reports(marbles.run(source.pipe(ops.progress(2, 8))))]
    assert [(r.elapsed, r.tokens_per_second) for r in reported] == [(9.0, 2 / 9), (13.0, 4 / 12.5)]


def test_a_stream_that_is_held_from_the_beginning(marbles: Marbles) -> None:
    marbles.valve.close()
    marbles.at(6, marbles.valve.open)
    source = marbles.cold("S-------a-b|")
    assert reports(marbles.run(source.pipe(ops.progress(2)))) == [
        (10.0, report(2, 10.0, 2 / 4)),
    ]


def test_chunks_that_arrive_while_the_valve_is_closed_count_their_time(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(12, marbles.valve.open)
    source = marbles.cold("S-a-b-c-d---------e|")
    reported = [report for _, report in reports(marbles.run(source.pipe(ops.progress(1))))]
    speeds = [r.tokens_per_second for r in reported]
    assert speeds == pytest.approx([1 / 2, 2 / 4, 3 / 6, 4 / 8, 5 / 14])


def test_another_notice_changes_nothing(marbles: Marbles) -> None:
    stream = marbles.cold("a-n-b|", lookup={"n": Notice("retry")}).pipe(ops.progress(every=2))
    assert len(reports(marbles.run(stream))) == 1


def test_reasoning_and_the_chunks_of_a_batch_are_tokens(marbles: Marbles) -> None:
    batch = Batch((Token("a"), Reasoning("hm"), Token("b"), Token("c"), Token("d")), "abcd")
    stream = marbles.cold("B-B-r|", lookup={"B": batch, "r": Reasoning("so")}).pipe(
        ops.progress(every=2)
    )
    reported = [(time, report.tokens) for time, report in reports(marbles.run(stream))]
    assert reported == [(0.0, 5), (2.0, 10)]


def test_sources_are_counted_separately(marbles: Marbles) -> None:
    left = marbles.cold("a-b|", source="left")
    right = marbles.cold("-x-E|", source="right")
    reported = reports(marbles.run(rx.merge(left, right).pipe(ops.progress(every=2))))
    assert [(report.source, report.tokens) for _, report in reported] == [("left", 2), ("right", 1)]


def test_subscriptions_have_their_own_clocks(marbles: Marbles) -> None:
    stream = marbles.cold("S-a|").pipe(ops.progress(every=1))
    first = marbles.subscribe(stream)
    marbles.advance_to(5)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert reports(first.events) == [(2.0, report(1, 2.0, 0.5))]
    assert reports(second.events) == [(7.0, report(1, 2.0, 0.5))]


def test_disposal_and_demand_reach_the_source(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    source = marbles.cold("a-b-c", demand=True)
    recording = marbles.subscribe(source.pipe(ops.progress()))
    marbles.advance_to(9)
    recording.dispose()
    assert (recording.chunks, source.subscriptions) == ([Token("a")], [(0.0, 9.0)])
    assert marbles.timers == []


def test_under_an_event_loop_it_uses_the_loops_clock() -> None:
    async def main() -> list[Any]:
        stream = ScriptedModel("a b", by="word", delay=60).stream("Hi").pipe(ops.progress(every=2))
        async with no_leaks():
            return [chunk async for chunk in to_async(stream)]

    reported = [chunk for chunk in run_virtual(main()) if isinstance(chunk, Progress)]
    assert reported[0] == Progress(2, 120.0, 2 / 120, characters_per_second=3 / 120)


@pytest.mark.parametrize("name", ["every", "max_tokens"])
@pytest.mark.parametrize("number", [0, True, 2.5, float("nan"), "3"])
def test_invalid_arguments_raise_at_the_call(name: str, number: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=name):
        ops.progress(**{name: number})


def test_an_end_without_a_source_after_tokens_of_sources_is_not_reported(marbles: Marbles) -> None:
    source = marbles.cold("(a,E,|)", lookup={"a": Token("a", source="x")})
    events = [event for _, event in marbles.run(source.pipe(ops.progress()))]
    assert not [event for event in events if isinstance(event, Progress)]
