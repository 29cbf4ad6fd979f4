"""`lines`: where lines end. What it shares with `words` is tested in `test_pieces.py`."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Token
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import TEXTS, events_of, pieces_after


def test_a_line_is_sent_when_it_is_complete(marbles: Marbles) -> None:
    lookup = {"n": Token("\n"), "m": Token("c\nd")}
    assert marbles.run(marbles.cold("a-b-n--m-|", lookup=lookup).pipe(ops.lines())) == [
        (4.0, Token("ab\n", number=1)),
        (7.0, Token("c\n", number=2)),
        (9.0, Token("d", number=3)),
        (9.0, COMPLETED),
    ]


def test_a_carriage_return_waits_for_its_newline(marbles: Marbles) -> None:
    lookup = {"r": Token("a\r"), "n": Token("\n"), "x": Token("x")}
    assert marbles.run(marbles.cold("r-n-r--x|", lookup=lookup).pipe(ops.lines())) == [
        (2.0, Token("a\r\n", number=1)),
        (7.0, Token("a\r", number=2)),
        (8.0, Token("x", number=3)),
        (8.0, COMPLETED),
    ]


def test_empty_lines_count_and_a_final_line_ending_starts_none() -> None:
    assert pieces_after(["\n\n", "a\r\r", "\n"], ops.lines()) == ["\n", "\n", "a\r", "\r\n"]
    assert [event.number for event in events_of(["\n \n"], ops.lines())[1:3]] == [1, 2]


def test_other_separators_do_not_end_a_line() -> None:
    assert pieces_after(["a\vb\fc\x85d\u2028e"], ops.lines()) == ["a\vb\fc\x85d\u2028e"]


@given(st.lists(TEXTS | st.text("a\r\n"), max_size=6))
def test_lines_match_those_python_reads_from_a_file(pieces: list[str]) -> None:
    plain = list(io.StringIO("".join(pieces), newline=""))
    assert pieces_after(pieces, ops.lines()) == plain
