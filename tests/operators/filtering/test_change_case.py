"""`change_case`: correct across chunk borders."""

# ruff: noqa: RUF001 - Greek letters are intended

from __future__ import annotations

import sys
from typing import Any, get_args

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Reasoning, Token
from rxllm.operators.filtering._change_case import Case, _Cased
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import TEXTS, cut_texts, events_of, text_after

CASES: tuple[Any, ...] = get_args(Case)
METHODS = [case for case in CASES if case != "sentence"]
LETTERS = st.text("aB Σσς'.1\u02b0\u0149ß\u01c6İ\u0301\u00ad字Ⓐ", max_size=20)


@pytest.mark.parametrize(
    ("to", "written"),
    [
        ("upper", "HELLO, WORLD. IT'S"),
        ("lower", "hello, world. it's"),
        ("title", "Hello, World. It'S"),
        ("capitalize", "Hello, world. it's"),
        ("sentence", "HeLLo, world. It's"),
    ],
)
def test_text_becomes_upper_lower_title_capitalized_or_sentence_case(to: Any, written: str) -> None:
    text = "heLLo, world. it's"
    assert text_after([text], ops.change_case(to)) == written
    assert text_after(text, ops.change_case(to)) == written


@pytest.mark.parametrize("to", CASES)
def test_chunks_are_sent_as_they_arrive(to: Any, marbles: Marbles) -> None:
    lookup = {"a": Token("a", 0.5, 7), "r": Reasoning("HeLLo"), "P": Progress(1, 0.5)}
    events = marbles.run(marbles.cold("S-a-r-P-x-E|", lookup=lookup).pipe(ops.change_case(to)))
    expected = marbles.expect("S-a-r-P-x-E|", lookup=lookup)
    expected[1] = (2.0, Token("a" if to == "lower" else "A", 0.5, 7))
    expected[4] = (8.0, Token("X" if to == "upper" else "x"))
    assert events == expected


def test_a_sigma_waits_for_the_next_letter_and_other_chunks_wait_with_it(marbles: Marbles) -> None:
    lookup = {"a": Token("ΑΣ", 0.5), "s": Token("Σ"), "P": Progress(1, 0.5), "_": Token("' ")}
    stream = marbles.cold("a-P-s-_-x|", lookup=lookup).pipe(ops.change_case("lower"))
    assert marbles.run(stream) == [
        (0.0, Token("α", 0.5)),
        (4.0, Token("σ", 0.5)),
        (4.0, Progress(1, 0.5)),
        (6.0, Token("ς")),
        (6.0, Token("' ")),
        (8.0, Token("x")),
        (9.0, COMPLETED),
    ]


def test_a_held_sigma_is_sent_at_the_end_at_completion_and_before_an_error() -> None:
    lookup, error = {"a": Token("ΑΣ")}, ValueError("broken")
    for end, last in (("E|", [End("stop"), COMPLETED]), ("|", [COMPLETED]), ("#", [error])):
        marbles = Marbles()
        stream = marbles.cold("a-" + end, lookup=lookup, error=error)
        events = marbles.run(stream.pipe(ops.change_case("lower")))
        assert [event for _, event in events] == [Token("α"), Token("ς"), *last]


def test_a_sigma_waits_for_at_most_256_characters(marbles: Marbles) -> None:
    marbles.valve.close()
    lookup = {"a": Token("ΑΣ"), "d": Token(".")}
    stream = marbles.cold("a" + "-d" * 300, lookup=lookup).pipe(ops.change_case("lower"))
    recording = marbles.subscribe(stream)
    marbles.advance_to(2 * 255 + 1)
    assert recording.chunks == [Token("α")]
    marbles.advance_to(1000)
    assert recording.chunks == [Token("α"), Token("ς"), *[Token(".")] * 300]


@pytest.mark.parametrize("to", CASES)
def test_never_and_empty(to: Any, marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.change_case(to)), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.change_case(to)), until=9) == [(1.0, COMPLETED)]


def test_an_error_in_the_middle_is_passed_on(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("a-#", error=error).pipe(ops.change_case("upper"))
    assert marbles.run(stream) == [(0.0, Token("A")), (2.0, error)]


@pytest.mark.parametrize("to", ["title", "capitalize", "sentence"])
def test_a_restart_drops_held_text_and_starts_over(to: Any, marbles: Marbles) -> None:
    lookup = {"a": Token("xΑΣ"), "b": Token("so")}
    events = marbles.run(marbles.cold("a-R-b|", lookup=lookup).pipe(ops.change_case(to)))
    assert [event for _, event in events][-3:] == [Notice("restart"), Token("So"), COMPLETED]
    assert events[0][1].text == ("XΑΣ" if to == "sentence" else "Xα")


def test_text_in_a_batch_is_text() -> None:
    script: list[str | Chunk] = [
        Batch((Token("heL", 0.5), Reasoning("So"), Token("Lo")), "heLLo"),
        Batch((Token("Α"), Token("Σ")), "ΑΣ"),
    ]
    assert events_of(script, ops.change_case("capitalize"))[1:4] == [
        Batch((Token("Hel", 0.5), Reasoning("So"), Token("lo")), "Hello"),
        Batch((Token("α"),), "α"),
        Batch((Token("ς"),), "ς"),
    ]


def test_sources_are_converted_separately(marbles: Marbles) -> None:
    left = marbles.cold("a-b|", source="left")
    right = marbles.cold("-c---d|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.change_case("capitalize")))
    assert [event.text for _, event in events[:-1]] == ["A", "C", "b", "d"]


def test_independent_subscriptions_and_early_disposal(marbles: Marbles) -> None:
    source = marbles.cold("a---b-")
    stream = source.pipe(ops.change_case("capitalize"))
    first = marbles.subscribe(stream)
    marbles.advance_to(2)
    second = marbles.subscribe(stream)
    first.dispose()
    marbles.advance_to(9)
    assert (first.chunks, second.chunks) == ([Token("A")], [Token("A"), Token("b")])
    assert source.subscriptions[0] == (0.0, 2.0)
    second.dispose()
    assert marbles.timers == []


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    stream = marbles.cold("a-b-c", demand=True).pipe(ops.change_case("upper"))
    recording = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert recording.chunks == [Token("A")]


@pytest.mark.parametrize("to", METHODS)
@given(cut_texts(LETTERS | TEXTS))
def test_it_equals_the_str_method_on_the_whole_text(
    to: Any, text_and_pieces: tuple[str, list[str]]
) -> None:
    text, pieces = text_and_pieces
    assert text_after(pieces, ops.change_case(to)) == getattr(text, to)()


@pytest.mark.slow
@pytest.mark.parametrize("method", [str.lower, str.title, str.capitalize])
def test_every_character_of_unicode_leaves_a_known_context(method: Any) -> None:
    writer = _Cased(method)
    for code in range(sys.maxunicode + 1):
        for before in ("", "A") if code < 0x20000 else ("",):
            assert writer._seen(before + chr(code)) in writer._known


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("  hello there. how are you? fine!", "  Hello there. How are you? Fine!"),
        ('"go!" (so.) e.g. this. 3 apples. NASA.', '"Go!" (So.) E.g. this. 3 apples. NASA.'),
        ("pi is 3.14. élan.\n\nßo ǆo", "Pi is 3.14. Élan.\n\nSso ǆo"),
    ],
)
def test_a_sentence_starts_with_a_capital(text: str, written: str) -> None:
    assert text_after(text, ops.change_case("sentence")) == written


@given(cut_texts(LETTERS | TEXTS))
def test_sentence_case_does_not_depend_on_the_cuts(
    text_and_pieces: tuple[str, list[str]],
) -> None:
    text, pieces = text_and_pieces
    whole = text_after([text], ops.change_case("sentence"))
    assert text_after(pieces, ops.change_case("sentence")) == whole
    assert whole.casefold() == text.casefold()


def test_bad_arguments_are_rejected_at_the_call() -> None:
    with pytest.raises(ValueError, match="upper, lower, title, capitalize, sentence, got 'camel'"):
        ops.change_case("camel")  # type: ignore[arg-type]
