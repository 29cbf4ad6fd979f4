"""`StreamAnalytics`: statistics over all streams."""

import math
from typing import Any

import msgspec
import pytest

from rxllm import operators as ops
from rxllm.chunks import End, ErrorInfo, Notice, Start, ToolCall, ToolResult, Usage
from rxllm.errors import NoEventLoopError
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import StreamAnalytics
from rxllm.testing import COMPLETED, Marbles


def play(
    analytics: StreamAnalytics, diagram: str, stream_id: str | None = None, **how: Any
) -> None:
    marbles = Marbles()
    marbles.run(marbles.cold(diagram, **how).pipe(ops.analyze(analytics, stream_id)), until=99)


def test_without_streams_there_is_no_nan() -> None:
    report = StreamAnalytics().report()
    assert (report.created, report.active, report.streams, report.errors) == (0, 0, 0, {})
    assert report.success_rate is report.mean_duration is report.mean_tokens_per_second is None
    assert report.fastest is report.slowest is None


def test_streams_are_counted_by_outcome_with_their_success_rate(marbles: Marbles) -> None:
    analytics = StreamAnalytics()
    play(analytics, "a-b|")
    play(analytics, "a-#", error=ValueError("broken"))
    play(analytics, "c|")
    left = marbles.subscribe(marbles.cold("a-b-c|").pipe(ops.analyze(analytics)))
    assert (analytics.created, analytics.active) == (4, 1)
    marbles.advance_to(1)
    left.dispose()
    report = analytics.report()
    assert (report.completed, report.failed, report.cancelled, report.active) == (2, 1, 1, 0)
    assert report.success_rate == 2 / 3
    assert report.errors == {"ValueError": 1}


def test_a_stream_is_found_while_it_runs_and_afterwards(marbles: Marbles) -> None:
    analytics = StreamAnalytics()
    assert analytics.find("story") is None
    stream = marbles.cold("S-a-b-E|").pipe(ops.analyze(analytics, "story"))
    recording = marbles.subscribe(stream)
    marbles.advance_to(3)
    [running] = analytics.streams
    assert running == analytics.find("story")
    assert (running.outcome, running.tokens, running.model) == ("running", 1, "model")
    marbles.advance_to(9)
    ended = analytics.find("story")
    assert ended is not None
    assert (ended.outcome, ended.duration, ended.time_to_first_token) == ("completed", 7.0, 2.0)
    assert (ended.tokens_per_second, analytics.streams) == (2 / 7, [])
    assert recording.events[-1] == (7.0, COMPLETED)


def test_the_fastest_and_the_slowest_of_those_that_completed() -> None:
    analytics = StreamAnalytics()
    for stream_id, diagram in {"fast": "abc|", "slow": "a---------|", "failed": "a#"}.items():
        play(analytics, diagram, stream_id)
    report = analytics.report()
    assert report.fastest is not None
    assert report.slowest is not None
    assert (report.fastest.id, report.slowest.id) == ("fast", "slow")


def test_the_report_covers_the_last_50_streams() -> None:
    analytics = StreamAnalytics()
    for _ in range(3):
        play(analytics, "#", error=ValueError())
    for _ in range(50):
        play(analytics, "a|")
    report = analytics.report()
    assert (report.streams, report.errors, report.failed) == (50, {}, 3)
    assert analytics.report(last=51).errors == {"ValueError": 1}


def test_the_history_holds_the_last_100_streams_and_evicted_ids_are_not_found() -> None:
    analytics = StreamAnalytics()
    for number in range(130):
        play(analytics, "a|", f"story {number}")
    assert len(analytics.history) == len(analytics._streams) == 100
    assert analytics.find("story 29") is None
    assert analytics.find("story 30") is not None
    assert analytics.created == 130


def test_a_repeated_id_finds_the_latest_stream() -> None:
    analytics = StreamAnalytics(history=2)
    for diagram in ("a|", "a-b|", "a-b-c|"):
        play(analytics, diagram, "story")
    found = analytics.find("story")
    assert found is not None
    assert found.tokens == 3
    assert [record.tokens for record in analytics.history] == [2, 3]


def test_an_id_of_several_streams_finds_the_one_still_running(marbles: Marbles) -> None:
    analytics = StreamAnalytics(history=1)
    operator = ops.analyze(analytics, "story")
    marbles.subscribe(marbles.cold("a---------|").pipe(operator))
    marbles.subscribe(marbles.cold("ab-|").pipe(operator))
    marbles.subscribe(marbles.cold("-----|").pipe(ops.analyze(analytics, "other")))
    marbles.advance_to(4)
    ended = analytics.find("story")
    marbles.advance_to(8)
    running = analytics.find("story")
    assert (ended and ended.outcome, running and running.outcome) == ("completed", "running")


def test_a_subscription_that_never_started_is_not_counted() -> None:
    """Without an event loop there is no clock to measure it."""
    analytics, errors = StreamAnalytics(), list[Exception]()
    stream = ScriptedModel("a").stream("Hi").pipe(ops.analyze(analytics, "story"))
    stream.subscribe(print, errors.append)
    assert isinstance(errors[0], NoEventLoopError)
    assert (analytics.created, analytics.active, analytics.streams) == (0, 0, [])
    assert analytics.find("story") is None


def test_the_model_is_the_last_one_that_started() -> None:
    analytics = StreamAnalytics()
    chunks = {"S": Start("1", "first"), "n": Notice("fallback"), "T": Start("2", "second")}
    play(analytics, "S-n-T-a|", lookup=chunks)
    assert [record.model for record in analytics.history] == ["second"]


def test_a_restart_resets_the_count() -> None:
    analytics = StreamAnalytics()
    play(analytics, "a-b-R-c|", "story")
    found = analytics.find("story")
    assert found is not None
    assert found.tokens == 1


def test_each_subscription_is_counted(marbles: Marbles) -> None:
    analytics = StreamAnalytics()
    stream = marbles.cold("a|").pipe(ops.analyze(analytics))
    marbles.subscribe(stream), marbles.subscribe(stream)
    assert [record.id for record in analytics.streams] == ["stream-1", "stream-2"]
    marbles.advance_to(5)
    assert analytics.completed == 2


def test_demand_passes_through_and_nothing_is_left(marbles: Marbles) -> None:
    marbles.valve.close()
    source = marbles.cold("a-b", demand=True)
    recording = marbles.subscribe(source.pipe(ops.analyze(StreamAnalytics())))
    marbles.advance_to(9)
    recording.dispose()
    assert (recording.events, source.subscriptions, marbles.timers) == ([], [(0.0, 9.0)], [])


@pytest.mark.parametrize("number", [0, -1, math.nan, math.inf, True, 2.5, "3"])
def test_an_invalid_number_of_streams_raises(number: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="history must be"):
        StreamAnalytics(number)
    with pytest.raises((ValueError, TypeError), match="last must be"):
        StreamAnalytics().report(number)


def test_invalid_arguments_raise_at_the_call() -> None:
    with pytest.raises(TypeError, match="StreamAnalytics"):
        ops.analyze("analytics")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="stream_id"):
        ops.analyze(StreamAnalytics(), 3)  # type: ignore[arg-type]


def test_totals_cover_all_streams_since_the_beginning(marbles: Marbles) -> None:
    analytics = StreamAnalytics(history=1)
    play(analytics, "a-b|")  # 2 tokens in 3 s
    play(analytics, "a-U|", lookup={"U": Usage(5, 70)})  # 70 tokens in 1 piece and 3 s
    marbles.subscribe(marbles.cold("a-b-c").pipe(ops.analyze(analytics)))
    marbles.advance_to(2)  # 2 tokens in 2 s, still active
    report = analytics.report()
    assert (report.total_tokens, report.total_seconds) == (74, 8.0)
    assert report.tokens_per_second == 74 / 8
    assert (report.streams, report.mean_chunks) == (1, 1.0)


def test_failures_have_their_ids_times_and_errors() -> None:
    analytics = StreamAnalytics()
    play(analytics, "a-#", "first", error=ValueError("broken"))
    play(analytics, "a|")
    play(analytics, "a-#", "second", error=KeyError("lost"))
    second, first = analytics.report().failures
    assert (first.id, first.error) == ("first", ErrorInfo("ValueError", "broken"))
    assert (second.id, first.ended) == ("second", first.started + 2.0)


def test_metadata_is_kept_only_if_it_is_given() -> None:
    analytics = StreamAnalytics()
    marbles = Marbles()
    given = {"prompt": "Tell me a story", "options": {"temperature": 0}}
    marbles.run(marbles.cold("a|").pipe(ops.analyze(analytics, "a", metadata=given)))
    play(analytics, "a|", "b")
    first, second = analytics.history
    assert (first.metadata, second.metadata) == (given, {})
    assert msgspec.json.decode(msgspec.json.encode(first))["metadata"] == given
    with pytest.raises(TypeError, match="metadata must be a mapping or None, got 'prompt'"):
        ops.analyze(analytics, metadata="prompt")  # type: ignore[arg-type]


def test_a_run_is_one_record_with_its_steps_and_tool_calls(marbles: Marbles) -> None:
    analytics = StreamAnalytics()
    chunks = {
        "c": ToolCall("1", "look", "{}", complete=True),
        "d": ToolCall("2", "dig", "{}", complete=True),
        "M": End("tool_calls", more=True),
        "r": ToolResult("1", "look", "there"),
        "f": ToolResult("2", "dig", error=ErrorInfo("ToolError", "hard")),
        "U": Usage(1, 5),
    }
    stream = marbles.cold("S-a-c-d-U-M-r-f-S-b-U-E|", lookup=chunks)
    recording = marbles.subscribe(stream.pipe(ops.analyze(analytics, "run")))
    marbles.advance_to(13)
    running = analytics.find("run")
    assert running is not None
    assert (running.steps, running.tool_calls) == (1, 1)
    marbles.advance_to(30)
    (record,) = analytics.history
    assert (record.steps, record.tool_calls, record.tokens) == (2, 2, 10)
    assert (record.time_to_first_token, record.outcome) == (2.0, "completed")
    assert recording.events[-1][1] is COMPLETED
    assert analytics.report().created == 1


def test_a_plain_stream_has_one_step() -> None:
    analytics = StreamAnalytics()
    play(analytics, "S-a-R-S-b-E|")
    assert [(record.steps, record.tool_calls) for record in analytics.history] == [(1, 0)]


def test_another_attempt_at_an_answer_is_no_step() -> None:
    analytics = StreamAnalytics()
    play(analytics, "S-n-S-a-E|", lookup={"n": Notice("fallback")})
    assert [record.steps for record in analytics.history] == [1]


def test_answers_inside_the_tools_of_an_earlier_run_are_no_steps() -> None:
    """A run that continues after an approval begins with what runs inside its tools."""
    analytics = StreamAnalytics()
    chunks = {"1": Start("1", "small", source="c"), "r": ToolResult("c", "ask", "fine")}
    play(analytics, "1-r-S-a-E|", lookup=chunks)
    assert [(record.steps, record.tool_calls) for record in analytics.history] == [(1, 1)]
