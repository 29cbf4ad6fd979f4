"""Sentence boundaries: the rules behind `sentences`, `change_case` and `callbacks`."""

# ruff: noqa: RUF001 - full-width punctuation is intended

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.text.abbreviations import ABBREVIATIONS, BEFORE_NUMBERS
from rxllm.text.sentences import SentenceBorders


def sentences(text: str, *, any_case: bool = False) -> list[str]:
    """Return the sentences of a text fed in one piece."""
    borders = SentenceBorders(any_case=any_case).feed(text)
    return [text[start:end] for start, end in pairwise([0, *borders, len(text)])]


@pytest.mark.parametrize(
    "marked",
    [
        "Hello there.",
        "Hello there. |How are you? |Fine!",
        "  Hello.  |Hi.",
        "No!?! |Yes.",
        "Pi is 3.14 or so. |Yes.",
        "3.14",
        "It costs $3.50. |3.5 times less. |And .5 is half.",
        "See example.com and v1.2.3-beta. |Or rxllm.run().",
        "Wait... what? |Well... |Then so be it. |Hm… |Yes.",
        "Well . . . maybe. |Well . . . |Yes.",
        "He left. ... |Then he came.",
    ],
)
def test_stops_decimals_and_ellipses(marked: str) -> None:
    assert sentences(marked.replace("|", "")) == marked.split("|")


@pytest.mark.parametrize(
    "marked",
    [
        "Dr. No and Prof. Dr. Who met Mrs. X in St. Louis. |Then?",
        "Fruit, e.g. apples, i.e. Apples. |E.g. Nuts.",
        "Das ist z.B. Obst, d.h. Äpfel. |Z.B. Birnen. |Bzw. Nüsse.",
        "J. R. R. Tolkien, J.R.R. Tolkien and the U.S. Army.",
        "So am I. |And you?",
        "See No. 5, pp. 7 and Fig. 3. |No. |Yes.",
        "Am 3. |Oktober.",  # a German ordinal looks like the year in "In 1999. Then"
        "At 5 p.m. |The meeting, etc. and so on, etc. |Done. |Apple Inc. |Sold.",
        "The cat... |Dr.. |No",
        "**Bold.** |*Dr.* Who. |_So_.",
    ],
)
def test_abbreviations_and_initials(marked: str) -> None:
    assert sentences(marked.replace("|", "")) == marked.split("|")


@pytest.mark.parametrize(
    "marked",
    [
        '"Stop." he said. |"Go!" |(Then he left.) |The end.',
        '"Stop!" |"And why?" she asked.',
        "He said 'Go.' |[So.] |{He} went.",
        "« Bonjour. » |Il part. |« Oui », dit-il.",
        "„Hallo.“ |Er ging. |»Ja.« |Gut. |»Nein.« |‚So.‘ |Und?",
        "¿Qué? |¡Sí! |Bueno.",
        'He left. "and so on" he wrote.',
        "He left. (and so on) He wrote.",
    ],
)
def test_quotes_and_brackets(marked: str) -> None:
    assert sentences(marked.replace("|", "")) == marked.split("|")


@pytest.mark.parametrize(
    "marked",
    [
        "你好。|再见！|真的？！|是。",
        "你好。 |再见！\n|真的？",
        "「什么？」|他说。|“你好！”|「好。」",
        "他说（好。）|然后｡|走",
        "日本語です。|3月です。|iPhoneです。",
        "کیا؟ |ہاں۔ |नमस्ते। |हाँ।",
    ],
)
def test_full_width_stops_need_no_white_space(marked: str) -> None:
    assert sentences(marked.replace("|", "")) == marked.split("|")


@pytest.mark.parametrize(
    "marked",
    [
        "A title\n\n|some text\nthat goes on.\n|Next.",
        "A title\r\n\r\n|some\r\ntext",
        "A title\r\r|some\rtext",
        "A title\n \t\n |some text",
        "A title\u2029|some text",
        "\n\nA title\n\n\n|...\n\n|(so)",
        "1. Bread.\n|2. Milk. |(3. Eggs.) |(1) So.",
        "First.\n|- Second.\n|* Third.\n|• Fourth.\n|## Fifth.\n|> Sixth.",
        "a. First. |Then.\n|B. Second.",
    ],
)
def test_paragraphs_and_lists(marked: str) -> None:
    assert sentences(marked.replace("|", "")) == marked.split("|")


def test_combining_characters_stay_with_their_base() -> None:
    assert sentences("Yes\u203c\ufe0f \u0301Oh") == ["Yes\u203c\ufe0f \u0301Oh"]
    assert sentences("好。\ufe0f好") == ["好。\ufe0f", "好"]


def test_with_any_case_a_lower_case_letter_begins_a_sentence() -> None:
    marked = "hello there. |how are you, e.g. now? |fine!"
    assert sentences(marked.replace("|", ""), any_case=True) == marked.split("|")
    assert sentences("hello. there") == ["hello. there"]


def test_the_first_sentence_begins_with_the_first_visible_character() -> None:
    borders = SentenceBorders()
    assert (borders.feed(" \n\n "), borders.begun) == ([], 0)
    assert (borders.feed("x"), borders.begun) == ([], 1)
    assert (borders.feed("! Yes"), borders.begun) == ([7], 2)


def test_a_boundary_may_be_before_the_piece_that_decides_it() -> None:
    borders = SentenceBorders()
    assert [borders.feed(piece) for piece in ["Go.", " ", '"', "(", "So. No"]] == [
        [], [], [], [], [4, 10],
    ]  # fmt: skip


def test_memory_does_not_grow_with_the_text() -> None:
    borders = SentenceBorders()
    for _ in range(1000):
        borders.feed("no stop " * 100)
    assert len(borders._tail) <= 24


def test_the_abbreviation_lists_are_consistent() -> None:
    assert not ABBREVIATIONS & BEFORE_NUMBERS
    assert not any(word.endswith(".") for word in ABBREVIATIONS | BEFORE_NUMBERS)
    assert max(map(len, ABBREVIATIONS | BEFORE_NUMBERS)) < 24


PLAIN_BORDER = re.compile(r"(?<=[!?…])\s+(?=[B1])|\s*\n\s*\n\s*(?=\S)")


@given(st.lists(st.text(alphabet="aB1!?… \n"), max_size=10))
def test_without_abbreviations_it_equals_a_plain_pattern(pieces: list[str]) -> None:
    text = "".join(pieces)
    found = [m.end() for m in PLAIN_BORDER.finditer(text) if text[: m.start()].strip()]
    borders = SentenceBorders()
    assert [border for piece in pieces for border in borders.feed(piece)] == found


@given(
    st.lists(
        st.text(alphabet="aB1.!? \n\r\u3002\"'(\u00ab\u00bb*-\u0301I")
        | st.sampled_from(["Dr", "z.B"]),
        max_size=12,
    )
)
def test_the_result_does_not_depend_on_how_the_text_is_cut(pieces: list[str]) -> None:
    text, cut = "".join(pieces), SentenceBorders()
    found = [border for piece in pieces for border in cut.feed(piece)]
    letters = SentenceBorders()
    assert found == [border for letter in text for border in letters.feed(letter)]
    whole = SentenceBorders()
    assert found == whole.feed(text)
    assert cut.begun == letters.begun == whole.begun == (len(found) + 1 if text.strip() else 0)
    assert found == sorted(set(found))
