"""`text`: only the text, as strings."""

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Batch, Notice, Reasoning, Token, Usage
from rxllm.errors import RestartedStreamError
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles


def test_tokens_and_batches_become_their_text(marbles: Marbles) -> None:
    lookup = {"B": Batch((Reasoning("hm"), Token("b"), Token("c")), "bc")}
    stream = marbles.cold("S-a-B-E|", lookup=lookup).pipe(ops.text())
    assert marbles.run(stream) == [(2.0, "a"), (4.0, "bc"), (7.0, COMPLETED)]


def test_non_text_chunks_are_dropped(marbles: Marbles) -> None:
    lookup: dict[str, Any] = {"0": Token(""), "r": Reasoning("hm"), "U": Usage(1, 2)}
    lookup["n"] = Notice("retry")
    stream = marbles.cold("S-0-r-n-a-U|", lookup=lookup).pipe(ops.text())
    assert marbles.run(stream) == [(8.0, "a"), (11.0, COMPLETED)]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.text()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.text())) == [(1.0, COMPLETED)]


def test_an_error_is_passed_on(marbles: Marbles) -> None:
    error = ValueError("broken")
    assert marbles.run(marbles.cold("a#", error=error).pipe(ops.text()))[1] == (1.0, error)


def test_a_restart_before_any_text_is_dropped(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("S-R-a|").pipe(ops.text()))[0] == (4.0, "a")


def test_a_restart_after_text_is_an_error_and_stops_the_source(marbles: Marbles) -> None:
    source = marbles.cold("a-R-b|")
    events = marbles.run(source.pipe(ops.text()))
    assert [event for _, event in events[:-1]] == ["a"]
    assert isinstance(events[-1][1], RestartedStreamError)
    assert source.subscriptions == [(0.0, 2.0)]


def test_a_restart_of_another_source_has_no_effect(marbles: Marbles) -> None:
    left = marbles.cold("a---b|", source="left")
    right = marbles.cold("--R--c|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.text()))
    assert [event for _, event in events] == ["a", "b", "c", COMPLETED]


def test_a_restart_of_the_whole_stream_affects_every_source(marbles: Marbles) -> None:
    left, whole = marbles.cold("a---b|", source="left"), marbles.cold("--R|")
    events = marbles.run(rx.merge(left, whole).pipe(ops.text()))
    assert isinstance(events[1][1], RestartedStreamError)


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("R-a|").pipe(ops.text())
    first = marbles.subscribe(stream)
    marbles.advance_to(2)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert (first.chunks, second.chunks) == (["a"], ["a"])


def test_disposal_and_demand_reach_the_source(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    source = marbles.cold("a-b-c", demand=True)
    recording = marbles.subscribe(source.pipe(ops.text()))
    marbles.advance_to(9)
    recording.dispose()
    assert (recording.chunks, source.subscriptions, marbles.timers) == (["a"], [(0.0, 9.0)], [])


@given(st.lists(st.text()))
def test_the_text_is_the_same_however_it_is_cut(pieces: list[str]) -> None:
    model = ScriptedModel([Token(piece) for piece in pieces])
    events = Marbles().run(model.stream("Hi").pipe(ops.text()))
    assert "".join(event for _, event in events[:-1]) == "".join(pieces)


@pytest.mark.parametrize("script", ["", []])
def test_without_text_there_are_no_strings(script: Any) -> None:
    assert Marbles().run(ScriptedModel(script).stream("Hi").pipe(ops.text()))[0][1] is COMPLETED
