"""`punctuation`: straight or typographic."""

# ruff: noqa: RUF001 - typographic quotes are intended

from __future__ import annotations

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Reasoning, Token
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import cut_texts, events_of, text_after

SIGNS = st.text("ab .\"'(-\u2026\u201c\u201d\u2014\u00a0\u00ab\n", max_size=30)


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ('"Hi," he said. "It\'s..."', "“Hi,” he said. “It’s…”"),
        ("\"'Hi'\" ('so') -'x'", "“‘Hi’” (‘so’) -‘x’"),
        ("a....b ..c .", "a….b ..c ."),
        ("你好。", "你好。"),
    ],
)
def test_plain_punctuation_becomes_typographic(typed: str, written: str) -> None:
    assert text_after([typed], ops.punctuation("typographic")) == written
    assert text_after(typed, ops.punctuation("typographic")) == written


def test_typographic_punctuation_becomes_ascii() -> None:
    text = "«So» „da“ ‘x’ it’s — 1–2 −3…\u00a0你好。"
    assert text_after(text, ops.punctuation("ascii")) == '"So" "da" \'x\' it\'s -- 1-2 -3... 你好。'


def test_full_stops_wait_for_a_third_one_and_other_chunks_wait_with_them(marbles: Marbles) -> None:
    lookup = {"d": Token(".", 0.5), "P": Progress(1, 0.5), "r": Reasoning("...")}
    stream = marbles.cold("a-d-P-d-r-d-b|", lookup=lookup).pipe(ops.punctuation("typographic"))
    assert marbles.run(stream) == [
        (0.0, Token("a")),
        (10.0, Token("…", 0.5)),
        (10.0, lookup["P"]),
        (10.0, Token("", 0.5)),
        (10.0, lookup["r"]),
        (10.0, Token("", 0.5)),
        (12.0, Token("b")),
        (13.0, COMPLETED),
    ]


def test_held_full_stops_are_sent_at_the_end_at_completion_and_before_an_error() -> None:
    dot, error = {"d": Token("..")}, ValueError("broken")
    for end, last in (("E|", [End("stop"), COMPLETED]), ("|", [COMPLETED]), ("#", [error])):
        marbles = Marbles()
        stream = marbles.cold("d-" + end, lookup=dot, error=error)
        events = marbles.run(stream.pipe(ops.punctuation("typographic")))
        assert [event for _, event in events] == [Token(".."), *last]


@pytest.mark.parametrize("to", ["ascii", "typographic"])
def test_never_and_empty(to: Any, marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.punctuation(to)), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.punctuation(to)), until=9) == [(1.0, COMPLETED)]


def test_a_restart_drops_held_text_and_starts_over(marbles: Marbles) -> None:
    lookup = {"a": Token("x.."), "q": Token('."')}
    stream = marbles.cold("a-R-q|", lookup=lookup).pipe(ops.punctuation("typographic"))
    assert [event for _, event in marbles.run(stream)] == [
        Token("x"),
        Notice("restart"),
        Token(".”"),
        COMPLETED,
    ]


def test_text_in_a_batch_is_text() -> None:
    script: list[str | Chunk] = [Batch((Token("."), Reasoning('"'), Token('.."')), '..."')]
    assert events_of(script, ops.punctuation("typographic"))[1] == Batch(
        (Token("…"), Reasoning('"'), Token("”")), "…”"
    )


def test_sources_are_converted_separately(marbles: Marbles) -> None:
    quote = {"q": Token('"')}
    left = marbles.cold("a-q|", lookup=quote, source="left")
    right = marbles.cold("-q---|", lookup=quote, source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.punctuation("typographic")))
    assert [(event.source, event.text) for _, event in events[:-1]] == [
        ("left", "a"),
        ("right", "“"),
        ("left", "”"),
    ]


def test_independent_subscriptions_and_early_disposal(marbles: Marbles) -> None:
    source = marbles.cold("x---y", lookup={"x": Token("..")})
    stream = source.pipe(ops.punctuation("typographic"))
    first = marbles.subscribe(stream)
    marbles.advance_to(2)
    second = marbles.subscribe(stream)
    first.dispose()
    marbles.advance_to(9)
    assert (first.chunks, second.chunks) == ([], [Token(".."), Token("y")])
    assert source.subscriptions[0] == (0.0, 2.0)
    second.dispose()
    assert marbles.timers == []


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    stream = marbles.cold("a-b-c", demand=True).pipe(ops.punctuation("typographic"))
    recording = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert recording.chunks == [Token("a")]


@given(cut_texts(SIGNS))
def test_the_result_does_not_depend_on_the_cuts(text_and_pieces: tuple[str, list[str]]) -> None:
    text, pieces = text_and_pieces
    for operator in (ops.punctuation("ascii"), ops.punctuation("typographic")):
        whole = text_after([text], operator)
        assert text_after(pieces, operator) == text_after(text, operator) == whole


@given(cut_texts(st.text("ab .…", max_size=30)))
def test_an_ellipsis_matches_str_replace(text_and_pieces: tuple[str, list[str]]) -> None:
    text, pieces = text_and_pieces
    got = text_after(pieces, ops.punctuation("typographic"))
    assert got == text.replace("...", "…")
    assert text_after(pieces, ops.punctuation("ascii")) == text.replace("…", "...")


def test_bad_arguments_are_rejected_at_the_call() -> None:
    with pytest.raises(ValueError, match="'ascii' or 'typographic', got 'french'"):
        ops.punctuation("french")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'ascii' or 'typographic'"):
        ops.punctuation(["ascii"])  # type: ignore[arg-type]
