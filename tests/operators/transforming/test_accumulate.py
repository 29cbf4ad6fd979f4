"""`accumulate`: each chunk with the text so far, at a linear cost."""

from pathlib import Path
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from reactivex import operators as rx_ops

from rxllm import operators as ops
from rxllm import run, sinks, web
from rxllm.chunks import Batch, End, Notice, Reasoning, Start, Token, ToolCall, Usage
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import Accumulated
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.transcript import RunningText
from tests.operators.texts import cut_texts, events_of


def pairs(events: list[tuple[float, Any]]) -> list[tuple[Any, str]]:
    """The chunks and their texts, all read at the end."""
    return [(event.chunk, event.text) for _, event in events if isinstance(event, Accumulated)]


def test_each_chunk_is_paired_with_the_text_so_far(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("S-a-b-(E,|)").pipe(ops.accumulate()))
    assert [time for time, _ in events] == [0.0, 2.0, 4.0, 6.0, 6.0]
    assert pairs(events) == [
        (Start("request-1", "model"), ""),
        (Token("a"), "a"),
        (Token("b"), "ab"),
        (End("stop"), "ab"),
    ]
    assert [event.length for _, event in events[:-1]] == [0, 1, 2, 2]


def test_text_read_midway_equals_text_read_at_the_end(marbles: Marbles) -> None:
    texts: list[str] = []

    def read(pair: Accumulated) -> None:
        if pair.length % 2:
            texts.append(pair.text)

    stream = marbles.cold("a-b-c-d|").pipe(
        ops.accumulate(),
        rx_ops.do_action(read),
    )
    events = marbles.run(stream)
    assert texts == ["a", "abc"]
    assert [text for _, text in pairs(events)] == ["a", "ab", "abc", "abcd"]


def test_text_in_a_batch_counts_and_reasoning_does_not(marbles: Marbles) -> None:
    lookup = {"B": Batch((Reasoning("hm"), Token("b"), Token("c")), "bc"), "r": Reasoning("so")}
    events = marbles.run(marbles.cold("a-B-r|", lookup=lookup).pipe(ops.accumulate()))
    assert [text for _, text in pairs(events)] == ["a", "abc", "abc"]


def test_a_restart_starts_over_and_old_pairs_keep_their_text(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("a-b-R-c|").pipe(ops.accumulate()))
    assert pairs(events) == [
        (Token("a"), "a"),
        (Token("b"), "ab"),
        (Notice("restart"), ""),
        (Token("c"), "c"),
    ]


def test_another_notice_is_not_a_restart(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("a-n|", lookup={"n": Notice("retry")}).pipe(ops.accumulate()))
    assert pairs(events)[1] == (Notice("retry"), "a")


def test_another_answer_starts_after_the_end(marbles: Marbles) -> None:
    answers = rx.concat(marbles.cold("a-E|"), marbles.cold("b-E|"))
    events = marbles.run(answers.pipe(ops.accumulate()))
    assert [text for _, text in pairs(events)] == ["a", "a", "b", "b"]


def test_each_source_has_its_own_text(marbles: Marbles) -> None:
    left = marbles.cold("a---R---b|", source="left")
    right = marbles.cold("-x-y---E|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.accumulate()))
    assert [(event.source, event.text) for _, event in events[:-1]] == [
        ("left", "a"),
        ("right", "x"),
        ("right", "xy"),
        ("left", ""),
        ("right", "xy"),
        ("left", "b"),
    ]


def test_a_restart_of_the_whole_stream_affects_every_source(marbles: Marbles) -> None:
    left, whole = marbles.cold("a---b|", source="left"), marbles.cold("--R|")
    events = marbles.run(rx.merge(left, whole).pipe(ops.accumulate()))
    assert [text for _, text in pairs(events)] == ["a", "", "b"]


def test_never_empty_and_error(marbles: Marbles) -> None:
    error = ValueError("broken")
    assert marbles.run(marbles.cold("").pipe(ops.accumulate()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.accumulate())) == [(1.0, COMPLETED)]
    events = marbles.run(marbles.cold("a#", error=error).pipe(ops.accumulate()))
    assert pairs(events) == [(Token("a"), "a")]
    assert events[-1][1] is error


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("a-b|").pipe(ops.accumulate())
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert pairs(first.events) == pairs(second.events) == [(Token("a"), "a"), (Token("b"), "ab")]


def test_disposal_and_demand_reach_the_source(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    source = marbles.cold("a-b-c", demand=True)
    recording = marbles.subscribe(source.pipe(ops.accumulate()))
    marbles.advance_to(9)
    recording.dispose()
    assert pairs(recording.events) == [(Token("a"), "a")]
    assert (source.subscriptions, marbles.timers) == ([(0.0, 9.0)], [])


def test_the_cost_is_linear_and_text_is_joined_on_access(
    marbles: Marbles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs share the pieces, and a token copies nothing."""
    joined: list[int] = []
    up_to = RunningText.up_to

    def count(running: RunningText, length: int) -> str:
        joined.append(len(running._pieces))
        return up_to(running, length)

    monkeypatch.setattr(RunningText, "up_to", count)
    model = ScriptedModel("x" * 10_000, by="character")
    events = [event for _, event in marbles.run(model.stream("Hi").pipe(ops.accumulate()))][:-1]
    assert joined == []
    assert (type(events[-1].chunk), len(events[-1].text)) == (End, 10_000)
    assert [len(event.text) for event in events[1:4]] == [1, 2, 3]
    assert joined == [10_000, 1, 1, 1]
    assert len({id(event._answer.text) for event in events}) == 1


def test_nothing_leaks_on_an_event_loop() -> None:
    async def main() -> list[str]:
        stream = ScriptedModel("a b", by="word", delay=1).stream("Hi").pipe(ops.accumulate())
        async with no_leaks():
            return [pair.text async for pair in to_async(stream)]

    assert run_virtual(main()) == ["", "a", "a b", "a b", "a b"]


def test_each_item_has_the_figures_of_the_answer_so_far(marbles: Marbles) -> None:
    start = {"S": Start("1", "large", max_tokens=4), "r": Reasoning("hm")}
    stream = marbles.cold("-S-r--a-b-E|", lookup=start).pipe(ops.accumulate())
    items = [event for _, event in marbles.run(stream)][:-1]
    figures = [
        (each.number, each.tokens, each.percentage, each.elapsed, each.latency) for each in items
    ]
    assert figures == [
        (1, 0, 0.0, 1.0, 1.0),
        (2, 1, 25.0, 3.0, 2.0),
        (3, 2, 50.0, 6.0, 3.0),
        (4, 3, 75.0, 8.0, 2.0),
        (5, 3, 75.0, 10.0, 2.0),
    ]
    assert {(each.model, each.attempt) for each in items} == {("large", 1)}


def test_without_a_maximum_there_is_no_percentage(marbles: Marbles) -> None:
    items = [event for _, event in marbles.run(marbles.cold("a|").pipe(ops.accumulate()))][:-1]
    assert [(each.percentage, each.model) for each in items] == [(None, None)]


def test_a_retry_a_fallback_a_degraded_request_and_a_resumption_are_the_next_attempt(
    marbles: Marbles,
) -> None:
    lookup = {
        "S": Start("1", "large"),
        "r": Notice("retry"),
        "f": Notice("fallback"),
        "T": Start("2", "small"),
        "d": Notice("degraded", attempt=4),
        "w": Notice("degraded"),  # the answer came as a whole
        "c": Notice("resume"),
    }
    stream = marbles.cold("S-r-S-f-T-d-T-(w,a)-R-T-b-c-e|", lookup=lookup).pipe(ops.accumulate())
    items = [event for _, event in marbles.run(stream)][:-1]
    assert [(each.attempt, each.model, each.text) for each in items] == [
        (1, "large", ""),
        (2, None, ""),
        (2, "large", ""),
        (3, None, ""),
        (3, "small", ""),
        (4, None, ""),
        (4, "small", ""),
        (4, "small", ""),
        (4, "small", "a"),
        (5, None, ""),
        (5, "small", ""),
        (5, "small", "b"),
        (6, None, "b"),
        (6, None, "be"),
    ]


def test_a_restart_is_counted_once_with_the_retry_that_causes_it(marbles: Marbles) -> None:
    model = ScriptedModel(["a", ConnectionResetError()], ["b"])
    retry = ops.retry_with_backoff(initial=0, after_output="restart")
    items = [each for _, each in marbles.run(model.stream("Hi").pipe(retry, ops.accumulate()))][:-1]
    attempts = [(type(each.chunk).__name__, each.text, each.attempt) for each in items]
    assert attempts[0] == ("Start", "", 1)
    assert attempts[-1] == ("End", "b", 2)


def test_a_restart_after_a_tool_call_is_another_attempt(marbles: Marbles) -> None:
    stream = marbles.cold("S-c-R-S-a|", lookup={"c": ToolCall("1", "find", "{}")})
    items = [each for _, each in marbles.run(stream.pipe(ops.accumulate()))][:-1]
    assert [each.attempt for each in items] == [1, 1, 2, 2, 2]


def test_sinks_read_the_chunks(tmp_path: Path) -> None:
    stream = ScriptedModel("Once upon a time", by="word").stream("Hi").pipe(ops.accumulate())
    assert run(stream).text == "Once upon a time"
    assert run(sinks.collect(stream)).finish_reason == "stop"
    run(sinks.file(stream, tmp_path / "story.txt"))
    assert (tmp_path / "story.txt").read_text() == "Once upon a time"
    assert b"Once" in b"".join(web.events(stream))


def test_the_repr_of_a_pair_shows_chunk_and_text(marbles: Marbles) -> None:
    stream = marbles.cold("U|", lookup={"U": Usage(1, 2)}).pipe(ops.accumulate())
    assert repr(marbles.run(stream)[0][1]) == f"Accumulated(chunk={Usage(1, 2)!r}, text='')"


@given(cut_texts())
def test_the_final_text_is_the_same_however_it_is_cut(cut: tuple[str, list[str]]) -> None:
    text, pieces = cut
    last = events_of(pieces, ops.accumulate())[-2]
    assert (type(last.chunk), last.text, last.length) == (End, text, len(text))
