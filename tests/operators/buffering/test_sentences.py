"""`sentences`: whole sentences.

The rules are tested in `tests/text/test_sentences.py`, what it shares with `words` in
`test_pieces.py`.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given

from rxllm import operators as ops
from rxllm.chunks import Token
from rxllm.testing import COMPLETED, Marbles
from rxllm.text.sentences import SentenceBorders
from tests.operators.texts import cut_texts, events_of, pieces_after


def test_a_sentence_is_sent_when_the_next_one_starts(marbles: Marbles) -> None:
    lookup = {
        "a": Token("Go."),
        "_": Token(" "),
        "q": Token('"'),
        "b": Token("No!"),
        "c": Token("。"),
    }
    assert marbles.run(marbles.cold("a-_-q-b-c-b|", lookup=lookup).pipe(ops.sentences())) == [
        (6.0, Token("Go. ", number=1)),
        (10.0, Token('"No!。', number=2)),
        (11.0, Token("No!", number=3)),
        (11.0, COMPLETED),
    ]


def test_3_14_does_not_end_a_sentence() -> None:
    assert pieces_after(["Pi is 3.", "14. So", " what?"], ops.sentences()) == [
        "Pi is 3.14. ",
        "So what?",
    ]


def test_abbreviations_do_not_end_a_sentence_however_they_are_cut() -> None:
    text = "Dr. No, e.g. J. Smith. Then Mr. X!"
    assert pieces_after(text, ops.sentences()) == ["Dr. No, e.g. J. Smith. ", "Then Mr. X!"]


def test_white_space_alone_is_passed_on_but_is_not_a_sentence() -> None:
    assert events_of([" \n\n "], ops.sentences())[1] == Token(" \n\n ")


@given(cut_texts())
def test_the_pieces_depend_only_on_the_whole_text(
    text_and_pieces: tuple[str, list[str]],
) -> None:
    text, pieces = text_and_pieces
    borders = SentenceBorders().feed(text)
    plain = [text[start:end] for start, end in pairwise([0, *borders, len(text)])]
    assert pieces_after(pieces, ops.sentences()) == [piece for piece in plain if piece]
