"""The counter of sentences behind `callbacks`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.sinks._sentences import SentenceCounter


def count(*pieces: str) -> int:
    counter = SentenceCounter()
    for piece in pieces:
        counter.add(piece)
    return counter.count


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", 0),
        ("  \n", 0),
        ("Hello", 1),
        ("Hello there.", 1),
        ("Hello there. ", 1),
        ("Hello there. How are you? Fine!", 3),
        ("Pi is 3.14 or so. Yes.", 2),
        ("Fruit, e.g. apples. Nuts.", 2),
        ("Wait... what? No!?! Yes.", 3),
        ('"Stop." he said. "Go!" (Then he left.) The end.', 4),
        ("1. 2. 3.", 3),
        ("\u4f60\u597d\u3002\u518d\u89c1\uff01", 2),
    ],
)
def test_sentences_are_counted_as_they_begin(text: str, sentences: int) -> None:
    assert count(text) == sentences


def test_it_is_said_in_which_piece_a_sentence_begins() -> None:
    counter = SentenceCounter()
    pieces = ["One", ".", " ", "Two", "! Three", "."]
    assert [counter.add(piece) for piece in pieces] == [True, False, False, True, True, False]


@given(st.lists(st.text(alphabet="aB1.!? \n\u3002\"'"), max_size=10))
def test_it_does_not_matter_how_the_text_is_cut(pieces: list[str]) -> None:
    assert count(*pieces) == count("".join(pieces))
