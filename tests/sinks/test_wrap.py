"""How text is wrapped into terminal lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from rxllm.sinks._wrap import wrap

TEXT = st.text(alphabet="ab \n\u4e16\U0001f916", max_size=60)


def lines_of(text: str, width: int) -> list[str]:
    return [line.rstrip(" ") for line in wrap(text, width)]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("one two three", ["one two", "three"]),
        ("12345678 90", ["12345678", "90"]),
        ("12345678  90", ["12345678", "90"]),
        ("a 1234567890", ["a", "12345678", "90"]),
        ("12345678 ", ["12345678"]),
        ("  indented", ["", "indented"]),
        ("  in\n\nden", ["  in", "", "den"]),
        ("a\tb", ["a", "b"]),
        ("\u4e16\u754c\u4e16\u754c\u4e16", ["\u4e16\u754c\u4e16\u754c", "\u4e16"]),
    ],
)
def test_lines_are_cut_between_words_and_within_longer_ones(text: str, lines: list[str]) -> None:
    assert lines_of(text, 8) == lines


@given(TEXT, st.integers(2, 12))
def test_no_line_is_too_wide_and_only_white_space_is_lost(text: str, width: int) -> None:
    lines = lines_of(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(st.lists(TEXT, max_size=6), st.integers(2, 12))
def test_the_result_does_not_depend_on_how_the_text_is_cut(pieces: list[str], width: int) -> None:
    lines, last = [], ""
    for piece in pieces:
        *finished, last = wrap(last + piece, width)
        lines += finished
    assert [line.rstrip(" ") for line in (*lines, last)] == lines_of("".join(pieces), width)
