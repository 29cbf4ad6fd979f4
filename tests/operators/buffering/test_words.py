"""`words`: whole words. What it shares with `lines` is tested in `test_pieces.py`."""

# ruff: noqa: RUF001 - full-width punctuation is intended

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Token
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import cut_texts, events_of, pieces_after


def test_a_word_is_sent_when_the_next_one_starts(marbles: Marbles) -> None:
    lookup = {"_": Token(" "), "b": Token(" b")}
    assert marbles.run(marbles.cold("a-x-_-_-y-b--|", lookup=lookup).pipe(ops.words())) == [
        (8.0, Token("ax  ", number=1)),
        (10.0, Token("y ", number=2)),
        (13.0, Token("b", number=3)),
        (13.0, COMPLETED),
    ]


@pytest.mark.parametrize(
    "marked",
    [
        "Hello |world",
        "  Hello,\n\n|world! |",
        "don't |stop-gap |3.14 |a@b.c |- |x",
        "a\u00a0|b\u2003|c\x1c|d",
        "wor\u0301ld |👩\u200d🚀 |x",
        "你|好，|世|界！|「引|用」|(中|文)|",
        "iPhone|手|机 |3|月|20|日",
        "カタカナ|語|で|す。|らー|め|ん",
        "안녕 |세계",
        "ภาษาไทย |ไทย",
        "葛\U000e0100|城",
        "x \u0301y |z",
    ],
)
def test_what_a_word_is(marked: str) -> None:
    words = [word for word in marked.split("|") if word]
    assert pieces_after([marked.replace("|", "")], ops.words()) == words
    assert pieces_after(marked.replace("|", ""), ops.words()) == words


def test_the_last_word_is_not_lost_and_the_total_is_right() -> None:
    reports: list[Any] = []
    assert pieces_after([" One", " two", " three"], ops.words(reports.append)) == [
        " One ",
        "two ",
        "three",
    ]
    assert reports[0].count == 3


def test_white_space_alone_is_passed_on_but_is_not_a_word() -> None:
    reports: list[Any] = []
    assert events_of([" \n", " "], ops.words(reports.append))[1] == Token(" \n ")
    assert reports[0].count == 0


@given(st.lists(st.text("ab.,'- \n\t\x1c\u00a0é"), max_size=8))
def test_text_with_spaces_agrees_with_split(pieces: list[str]) -> None:
    got = pieces_after(pieces, ops.words())
    assert [word for piece in got for word in piece.split()] == "".join(pieces).split()
    assert [piece.strip() for piece in got if piece.strip()] == "".join(pieces).split()


@given(cut_texts())
def test_the_pieces_depend_only_on_the_whole_text(
    text_and_pieces: tuple[str, list[str]],
) -> None:
    text, pieces = text_and_pieces
    borders = [0, *(i for i in range(1, len(text)) if _begins(text, i)), len(text)]
    plain = [text[start:end] for start, end in pairwise(borders) if start < end]
    assert pieces_after(pieces, ops.words()) == plain


def _begins(text: str, place: int) -> bool:
    """Whether a word starts at `place`, judging by the characters on both sides."""
    before, after = text[place - 1], text[place]
    if not text[:place].strip():
        return False
    if before.isspace():
        return not after.isspace() and after != "\u200d" and unicodedata.category(after)[0] != "M"
    if _is_ideograph(after):
        return before not in "\"'"
    base = text[:place].rstrip("\u0301")
    return base.endswith("字") and place - len(base) <= 3 and after.isalnum()


def _is_ideograph(character: str) -> bool:
    return unicodedata.name(character, "").startswith("CJK UNIFIED")
