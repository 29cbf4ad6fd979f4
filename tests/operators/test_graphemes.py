"""Positions where a text can be split without breaking a grapheme."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from rxllm.operators._graphemes import LONGEST_GRAPHEME, border, graphemes, settled
from tests.operators.texts import cut_texts

TORN = st.text("a\r\n\u0301\u200d👩🚀🏽🇳🇴字नि", max_size=30)


@pytest.mark.parametrize(
    "letters",
    [
        [],
        ["a", "b", "\n"],
        ["a", "\r\n", "\n", "\r"],
        ["e\u0301", "\u0915\u093f"],
        ["👩\u200d🚀", "👍🏽", "🇳🇴", "🇳"],
        ["字", "。"],
    ],
)
def test_a_grapheme_is_a_user_perceived_character(letters: list[str]) -> None:
    assert graphemes("".join(letters)) == letters


def test_a_very_long_grapheme_is_split_every_64_characters() -> None:
    text = "ab" + "\u0301" * 150 + "c"
    letters = graphemes(text)
    assert [len(letter) for letter in letters] == [1, 64, 64, 23, 1]
    assert "".join(letters) == text


@pytest.mark.parametrize(
    "letters",
    [
        ["🇳🇴"] * 40_000,
        ["a" + "\u0301" * 63, *["\u0301" * 64] * 1_500],
        ["a" + "\u0301" * 63, "\u0301" * 36] * 2_000,
        ["👩\u200d🚀", "字", "é", "\r\n", "각"] * 10_000,
    ],
    ids=["flags", "one long", "many long", "mixed"],
)
def test_long_texts_are_split_in_linear_time(letters: list[str]) -> None:
    assert graphemes("".join(letters)) == letters


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        ("a", 0),
        ("ab", 1),
        ("a\r", 1),
        ("a\r\n", 1),
        ("e\u0301", 0),
        ("a👩\u200d", 1),
        ("🇳🇴🇳", 2),
        ("a" + "\u0301" * 62, 0),
        ("a" + "\u0301" * 63, 64),
    ],
)
def test_all_but_the_last_grapheme_is_settled(text: str, length: int) -> None:
    assert settled(text) == length


@given(TORN)
def test_graphemes_follow_the_standard(text: str) -> None:
    assert graphemes(text) == regex.findall(r"\X", text)  # none has more than 64 characters


@given(cut_texts(TORN | st.text("a\u0301", max_size=300)))
def test_settled_text_has_the_same_graphemes_however_it_is_split(
    text_and_pieces: tuple[str, list[str]],
) -> None:
    text, pieces = text_and_pieces
    sent: list[str] = []
    rest = ""
    for piece in pieces:
        rest += piece
        length = settled(rest)
        sent += graphemes(rest[:length])
        rest = rest[length:]
        assert len(rest) < LONGEST_GRAPHEME
    assert sent + graphemes(rest) == graphemes(text)


@given(
    st.lists(TORN | st.text("각힣\u1161\u11a8\u1100한 a.ー。", max_size=9)).map("".join), st.data()
)
def test_border_agrees_with_the_list_of_graphemes(text: str, data: st.DataObject) -> None:
    borders = [0]
    for letter in graphemes(text):
        borders.append(borders[-1] + len(letter))
    start = data.draw(st.sampled_from(borders))
    if start < len(text):
        place = data.draw(st.integers(start + 1, len(text)))
        assert border(text, start, place) == min(each for each in borders if each >= place)
