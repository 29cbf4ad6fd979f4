"""Stop sequences: the same result however the text is cut, with as little text held as possible."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.errors import BadRequestError
from rxllm.text.stop_sequences import StopSequences

LETTERS = st.sampled_from(["a", "b", "\n", "\r", "é", "e", "\u0301", "👩", "\u200d", "字", "ש"])
SEQUENCES = st.lists(st.text(LETTERS, min_size=1, max_size=5), min_size=1, max_size=5)
PIECES = st.lists(st.text(LETTERS, max_size=8), max_size=8)


def stopped(text: str, sequences: list[str]) -> tuple[str, str | None]:
    """The specification: the longest sequence at the earliest end of any."""
    for end in range(1, len(text) + 1):
        met = [sequence for sequence in sequences if text[:end].endswith(sequence)]
        if met:
            longest = max(met, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(SEQUENCES, PIECES)
def test_the_result_does_not_depend_on_how_the_text_is_cut(
    sequences: list[str], pieces: list[str]
) -> None:
    matcher = StopSequences(*sequences).matcher()
    passed = "".join([matcher.feed(piece) for piece in pieces]) + matcher.flush()
    assert (passed, matcher.matched) == stopped("".join(pieces), sequences)


@given(SEQUENCES, PIECES)
def test_only_a_prefix_of_a_sequence_is_held(sequences: list[str], pieces: list[str]) -> None:
    matcher = StopSequences(*sequences).matcher()
    text = ""
    for piece in pieces:
        text += piece
        matcher.feed(piece)
        if matcher.matched is not None:
            assert matcher.held == ""
            return
        begun = [sequence[:length] for sequence in sequences for length in range(len(sequence))]
        assert matcher.held == max((end for end in begun if text.endswith(end)), key=len)


def test_the_earliest_end_wins_then_the_longest_sequence() -> None:
    matcher = StopSequences("bcde", "c", "bc").matcher()
    assert matcher.feed("abcde") == "a"
    assert matcher.matched == "bc"


def test_nothing_is_passed_on_after_the_match() -> None:
    matcher = StopSequences("END").matcher()
    assert matcher.feed("the END of it") == "the "
    assert (matcher.feed("more"), matcher.held, matcher.flush()) == ("", "", "")


def test_flushing_begins_a_new_text() -> None:
    matcher = StopSequences("END").matcher()
    matcher.feed("text E")
    assert matcher.held == "E"
    assert matcher.flush() == "E"
    assert (matcher.feed("ND"), matcher.matched) == ("ND", None)


def test_matchers_of_the_same_sequences_are_independent() -> None:
    sequences = StopSequences("END")
    first, second = sequences.matcher(), sequences.matcher()
    first.feed("E")
    assert second.feed("ND") == "ND"
    assert sequences.sequences == ("END",)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ((), "at least one stop sequence"),
        (("a", ""), "empty"),
        ((["a", "b"],), "got list: pass several as separate arguments"),
        ((b"a",), "got bytes"),
    ],
)
def test_an_invalid_sequence_is_rejected_at_once(sequences: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        StopSequences(*sequences)


def test_memory_grows_with_the_length_of_the_sequences_alone() -> None:
    letters = [chr(0x4E00 + number) for number in range(1_000)]
    tracemalloc.start()
    try:
        matcher = StopSequences(*letters, "a" * 40_000).matcher()
        assert tracemalloc.get_traced_memory()[1] < 40 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert matcher.feed("a" * 39_999 + "b" + letters[7]) == "a" * 39_999 + "b"
    assert matcher.matched == letters[7]


def test_equal_sequences_share_their_automaton() -> None:
    assert StopSequences("a", "b").steps is StopSequences("a", "b").steps
    assert StopSequences("a", "b").steps is not StopSequences("b", "a").steps
    assert StopSequences("a" * 2000).steps is not StopSequences("a" * 2000).steps
