"""What a continuation repeats of the text before it: the rule, and that cuts don't matter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.operators.recovery._overlap import Overlap


def repeated(earlier: str, pieces: list[str]) -> int:
    overlap = Overlap(earlier)
    for piece in pieces:
        known = overlap.feed(piece)
        if known is not None:
            return known
    return overlap.end()


@pytest.mark.parametrize(
    ("earlier", "later", "count"),
    [
        ("Once upon a", "upon a time", 6),
        ("Once upon a", "Once upon a time", 11),
        (" Once upon a", "Once upon a time", 11),
        ("Once upon a", " time", 0),
        ("I saw the", "the cat", 3),
        ("AB", "ABC", 2),
        ("Hel", "lo", 0),  # a letter met by chance
        ("a banana", "nana", 0),  # no beginning of a word
        ("an incomprehensible", "comprehensible thing", 14),  # too long for chance
        ("ha ha", " ha ha", 0),  # with its space it goes on
        ("|---", "---|", 0),  # a rule, no words
        ("話をしましょうこれはとても長い文", "これはとても長い文です。この", 0),
        ("話をしましょうこれはとても長い文章です", "これはとても長い文章です。", 12),
        ("one two three", "two", 0),
        ("", "anything", 0),
        ("no no", "no no no", 5),
    ],
)
def test_the_rule(earlier: str, later: str, count: int) -> None:
    assert repeated(earlier, [later]) == count
    assert repeated(earlier, list(later)) == count


def by_rule(earlier: str, later: str) -> int:
    """The same in the plainest way, on the whole text."""
    for size in range(min(len(earlier), len(later)), 0, -1):
        if not later.startswith(earlier[-size:]):
            continue
        start = len(earlier) - size
        first, before = earlier[start], earlier[max(0, start - 1)]
        if start == 0 or (first.isalnum() and (size >= 12 or (size >= 3 and not before.isalnum()))):
            return size
    return 0


@given(
    st.text("ab ", max_size=30),
    st.lists(st.text("ab ", max_size=5), max_size=9),
    st.booleans(),
)
def test_however_the_continuation_is_cut(earlier: str, pieces: list[str], again: bool) -> None:
    if again:
        pieces = [earlier[len(earlier) // 3 :], *pieces]
    assert repeated(earlier, pieces) == by_rule(earlier, "".join(pieces))


def test_a_long_text_said_again_costs_no_more_for_each_piece() -> None:
    earlier = "la la ha " * 20_000  # 20 000 pieces, each compared with all of it, take minutes
    overlap = Overlap(earlier)
    for start in range(0, len(earlier), 9):
        overlap.feed(earlier[start : start + 9])
    assert overlap.end() == len(earlier)
