"""`side_by_side`: isolated streams next to each other, with a summary."""

from collections.abc import Mapping
from typing import Any

import pytest
import reactivex as rx

import rxllm
from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    ErrorInfo,
    Notice,
    Reasoning,
    Token,
    Usage,
    text_of,
)
from rxllm.errors import AllModelsFailedError
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import StreamSummary
from rxllm.testing import COMPLETED, Marbles, run_virtual

Reports = list[Mapping[str, StreamSummary]]


@pytest.fixture
def reports() -> Reports:
    """The reported summaries."""
    return []


def test_each_stream_has_its_name(marbles: Marbles) -> None:
    streams = {"left": marbles.cold("S-a-E|"), "right": marbles.cold("-S-x-E|")}
    events = marbles.run(ops.side_by_side(streams))
    assert [event for _, event in events if event is not COMPLETED and event.source == "left"] == [
        event for _, event in marbles.expect("S-a-E", source="left")
    ]
    assert events[-2:] == [(5.0, End("stop", source="right")), (6.0, COMPLETED)]


def test_a_failure_is_reported_and_the_others_continue(marbles: Marbles) -> None:
    error = ValueError("broken")
    streams = {"left": marbles.cold("a---b|"), "right": marbles.cold("x-#", error=error)}
    assert marbles.run(ops.side_by_side(streams))[2:] == [
        (2.0, Notice("failed", error=ErrorInfo("ValueError", "broken"), source="right")),
        (4.0, Token("b", source="left")),
        (5.0, COMPLETED),
    ]


def test_if_all_fail_the_error_has_each_error(marbles: Marbles, reports: Reports) -> None:
    first, second = ValueError("one"), KeyError("two")
    streams = {
        "left": marbles.cold("a--#", error=first),
        "right": marbles.cold("-#", error=second),
    }
    events = marbles.run(ops.side_by_side(streams, on_result=reports.append))
    time, error = events[-1]
    assert time == 3.0
    assert isinstance(error, AllModelsFailedError)
    assert error.errors == (first, second)
    assert str(error) == "all 2 streams failed, the last one with KeyError: 'two'"
    assert len(reports) == 1


def test_the_summary_has_length_duration_and_error(marbles: Marbles, reports: Reports) -> None:
    error = ValueError("broken")
    streams = {
        "left": marbles.cold("abc-de--E|"),
        "right": marbles.cold("-xx-#", error=error),
        "empty": marbles.cold("--|"),
    }
    marbles.run(ops.side_by_side(streams, on_result=reports.append))
    assert reports == [
        {
            "left": StreamSummary("completed", 5, 9.0, tokens=2),
            "right": StreamSummary("failed", 2, 4.0, error, 1),
            "empty": StreamSummary("completed", 0, 2.0),
        }
    ]


def test_after_a_restart_the_length_is_counted_again(marbles: Marbles, reports: Reports) -> None:
    marbles.run(ops.side_by_side({"left": marbles.cold("abc-R-d|")}, on_result=reports.append))
    assert reports[0]["left"].length == 1


def test_a_list_of_streams_is_numbered_and_the_active_ones_are_counted(marbles: Marbles) -> None:
    counts: list[int] = []
    streams = [marbles.cold("a--|"), marbles.cold("b|")]
    events = marbles.run(ops.side_by_side(streams, on_active=counts.append))
    assert [(event.source, event.text) for _, event in events if isinstance(event, Token)] == [
        ("0", "a"),
        ("1", "b"),
    ]
    assert counts == [2, 1, 0]


def test_the_summary_counts_tokens_from_the_usage_or_by_pieces(marbles: Marbles) -> None:
    reports: list[Any] = []
    lookup = {"U": Usage(9, 70), "r": Reasoning("hm"), "B": Batch((Token("a"), Token("b")), "ab")}
    streams = {
        "counted": marbles.cold("a-U-E|", lookup=lookup),
        "pieces": marbles.cold("r-a-B-R-r-B|", lookup=lookup),
    }
    marbles.run(ops.side_by_side(streams, on_result=reports.append))
    assert {name: each.tokens for name, each in reports[0].items()} == {"counted": 70, "pieces": 3}


def test_the_summary_is_reported_on_disposal_too(marbles: Marbles, reports: Reports) -> None:
    streams = {"left": marbles.cold("a-|"), "right": marbles.cold("xy---|")}
    recording = marbles.subscribe(ops.side_by_side(streams, on_result=reports.append))
    marbles.advance_to(3)
    recording.dispose()
    assert reports == [
        {
            "left": StreamSummary("completed", 1, 2.0, tokens=1),
            "right": StreamSummary("cancelled", 2, 3.0, tokens=1),
        }
    ]
    assert streams["right"].subscriptions == [(0.0, 3.0)]
    assert marbles.timers == []


def test_an_exception_of_on_result_replaces_a_completion(marbles: Marbles) -> None:
    failure, error = ZeroDivisionError(), ValueError("broken")

    def report(_: object) -> None:
        raise failure

    complete = ops.side_by_side({"left": marbles.cold("|")}, on_result=report)
    assert marbles.run(complete)[-1][1] is failure
    failing = ops.side_by_side({"left": marbles.cold("#", error=error)}, on_result=report)
    last = marbles.run(failing)[-1][1]
    assert isinstance(last, AllModelsFailedError)
    assert last.__notes__ == ["a callback failed too: ZeroDivisionError()"]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(ops.side_by_side({"left": marbles.cold("")}), until=5) == []
    assert marbles.run(ops.side_by_side({"left": marbles.cold("|")})) == [(5.0, COMPLETED)]


def test_all_streams_wait_for_the_same_valve(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    streams = {name: marbles.cold("a-b", demand=True) for name in ("left", "right")}
    recording = marbles.subscribe(ops.side_by_side(streams))
    marbles.advance_to(9)
    assert [chunk.source for chunk in recording.chunks] == ["left", "right"]


def test_a_subscriber_that_raises_is_not_a_failure_of_a_stream(marbles: Marbles) -> None:
    errors: list[Exception] = []

    def refuse(_: Chunk) -> None:
        raise ZeroDivisionError

    stream = ops.side_by_side({"left": marbles.cold("a|")})
    subscription = stream.subscribe(refuse, errors.append, scheduler=marbles.scheduler)
    with pytest.raises(ZeroDivisionError):
        marbles.advance_to(1)
    subscription.dispose()
    assert errors == []


def test_a_sink_returns_the_text_of_each_stream() -> None:
    streams = {
        "good": ScriptedModel("good answer", by="word", delay=1).stream("Hi"),
        "bad": ScriptedModel(["bad", ConnectionResetError()], delay=1).stream("Hi"),
    }
    result = run_virtual(rxllm.sinks.collect(ops.side_by_side(streams)))
    assert result.texts == {"good": "good answer", "bad": "bad"}
    assert [(notice.kind, notice.source) for notice in result.notices] == [("failed", "bad")]


def test_each_subscription_has_its_own_summary(marbles: Marbles, reports: Reports) -> None:
    stream = ops.side_by_side({"left": marbles.cold("ab|")}, on_result=reports.append)
    events = marbles.run(rx.concat(stream, stream))
    assert "".join(text_of(event) for _, event in events) == "abab"
    assert reports[0] == reports[1] == {"left": StreamSummary("completed", 2, 2.0, tokens=1)}


@pytest.mark.parametrize("streams", [None, [1], "text", {"a": "text"}])
def test_anything_but_streams_is_refused_at_the_call(streams: Any) -> None:
    with pytest.raises(TypeError):
        ops.side_by_side(streams)


def test_on_result_must_be_callable() -> None:
    with pytest.raises(TypeError, match="on_result must be a function or None"):
        ops.side_by_side({"a": rx.empty()}, on_result=3)  # type: ignore[arg-type]
