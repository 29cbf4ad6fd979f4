"""`require_output`: a stream without any content is an error."""

from typing import Any

import pytest
import reactivex as rx

from rxllm import operators as ops
from rxllm.chunks import Batch, End, Json, Notice, Progress, Reasoning, Token, ToolCall
from rxllm.errors import ContentFilteredError, EmptyStreamError
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles


def types(marbles: Marbles, diagram: str, **lookup: Any) -> list[str]:
    events = marbles.run(marbles.cold(diagram, lookup=lookup).pipe(ops.require_output()))
    return [type(event).__name__ for _, event in events]


def test_a_stream_with_content_is_unchanged(marbles: Marbles) -> None:
    stream = marbles.cold("S-a-b-(E,|)").pipe(ops.require_output())
    assert marbles.run(stream) == marbles.expect("S-a-b-(E,|)")


@pytest.mark.parametrize("diagram", ["S-(E,|)", "S-|", "S-P-n-(x,E,|)"])
def test_a_stream_without_any_content_is_an_error(marbles: Marbles, diagram: str) -> None:
    got = types(marbles, diagram, P=Progress(0, 1.0), n=Notice("malformed"), x=Token(""))
    assert got[-1] == "EmptyStreamError"
    assert "End" not in got
    assert marbles.timers == []


def test_a_retry_handles_it(marbles: Marbles) -> None:
    model = ScriptedModel([], "Hello")
    stream = model.stream("Hi").pipe(ops.require_output(), ops.retry_with_backoff())
    events = [event for _, event in marbles.run(stream)]
    assert (events[-1], len(model.requests)) == (COMPLETED, 2)


@pytest.mark.parametrize(
    "content",
    [
        Token(" "),
        Reasoning("hm"),
        ToolCall("1", "weather"),
        Json(None),
        Batch((Reasoning("hm"),), ""),
    ],
)
def test_this_is_content(marbles: Marbles, content: Any) -> None:
    assert types(marbles, "x-E|", x=content)[1:] == ["End", "_Completed"]


def test_the_source_is_disposed_before_the_error_is_sent(marbles: Marbles) -> None:
    source = marbles.cold("S-E-----|")
    marbles.run(source.pipe(ops.require_output()))
    assert source.subscriptions == [(0.0, 2.0)]


@pytest.mark.parametrize("reason", ["cancelled", "limit"])
def test_a_stream_that_was_stopped_needs_no_content(marbles: Marbles, reason: Any) -> None:
    assert types(marbles, "S-C|", C=End(reason))[1:] == ["End", "_Completed"]


def test_an_empty_filtered_answer_is_a_content_filtered_error(marbles: Marbles) -> None:
    assert types(marbles, "S-F|", F=End("content_filter")) == ["Start", "ContentFilteredError"]
    assert not ContentFilteredError("").retryable


def test_after_a_restart_content_is_required_again(marbles: Marbles) -> None:
    assert types(marbles, "a-R-E|")[-1] == "EmptyStreamError"
    assert types(Marbles(), "a-R-b-E|")[-1] == "_Completed"


def test_an_error_passes(marbles: Marbles) -> None:
    error = ValueError("mine")
    stream = marbles.cold("-#", error=error).pipe(ops.require_output())
    assert marbles.run(stream) == [(1.0, error)]


def test_never(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.require_output())) == []


def test_after_a_merge_each_source_needs_content(marbles: Marbles) -> None:
    left, right = marbles.cold("a-E|", source="left"), marbles.cold("---E|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.require_output()))
    assert (events[1][1].source, type(events[-1][1])) == ("left", EmptyStreamError)


def test_two_subscriptions_disposal_and_demand(marbles: Marbles) -> None:
    source = marbles.cold("-a-E|", demand=True)
    stream = source.pipe(ops.require_output())
    marbles.at(2, marbles.valve.close)
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.chunks == second.chunks == [Token("a")]
    first.dispose()
    assert source.subscriptions == [(0.0, 9.0), (0.0, None)]
