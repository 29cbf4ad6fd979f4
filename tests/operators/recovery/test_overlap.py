"""The overlap of a continuation with the text before it, however the continuation is split."""

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
        ("Hel", "lo", 0),  # a letter repeated by chance
        ("a banana", "nana", 0),  # not the start of a word
        ("an incomprehensible", "comprehensible thing", 14),  # too long for a coincidence
        ("ha ha", " ha ha", 0),  # the space makes it a continuation
        ("|---", "---|", 0),  # a rule without words
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
    """A simple implementation of the rule, on the whole text."""
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
def test_the_result_does_not_depend_on_how_the_continuation_is_split(
    earlier: str, pieces: list[str], again: bool
) -> None:
    if again:
        pieces = [earlier[len(earlier) // 3 :], *pieces]
    assert repeated(earlier, pieces) == by_rule(earlier, "".join(pieces))


def test_the_cost_of_a_piece_does_not_grow_with_a_repeated_text() -> None:
    earlier = "la la ha " * 20_000  # comparing 20 000 pieces with all of it takes minutes
    overlap = Overlap(earlier)
    for start in range(0, len(earlier), 9):
        overlap.feed(earlier[start : start + 9])
    assert overlap.end() == len(earlier)
