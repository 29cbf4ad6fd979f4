"""`HeldText`: chunks held back in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.chunks import Batch, Chunk, Progress, Reasoning, Token, text_of
from rxllm.operators import _held_text
from rxllm.operators._held_text import HeldText, joined, parts_of

PROGRESS = Progress(1, 0.5)


def held(*chunks: Chunk) -> HeldText:
    text = HeldText()
    for chunk in chunks:
        text.append(chunk)
    return text


def test_whole_chunks_are_returned_unchanged() -> None:
    token = Token("ab", 0.5)
    text = held(token, Token("c"))
    assert text.take(2)[0] is token
    assert text
    assert text.take_all() == [Token("c")]
    assert not text


def test_both_parts_of_a_split_token_keep_its_fields() -> None:
    text = held(Token("abcd", 0.5, 3, source="left"))
    assert text.take(1) == [Token("a", 0.5, 3, source="left")]
    assert text.take(2) == [Token("bc", 0.5, 3, source="left")]
    assert text.take_all() == [Token("d", 0.5, 3, source="left")]


def test_other_chunks_are_released_with_the_text_before_them() -> None:
    text = held(Token("ab"), PROGRESS, Token("c"))
    assert text.take(1) == [Token("a")]
    assert text.take(1) == [Token("b"), PROGRESS]
    assert text.take_all() == [Token("c")]


def test_taking_0_characters_returns_only_leading_non_text_chunks() -> None:
    text = held(PROGRESS, Token(""), Token("ab"))
    assert text.take(0) == [PROGRESS, Token("")]
    assert text.take(0) == []
    assert text.take_all() == [Token("ab")]


def test_dropping_returns_the_non_text_chunks() -> None:
    batch = Batch((Token("c"), Reasoning("hm")), "c")
    text = held(Token("ab"), PROGRESS, batch, Token("d"))
    assert text.drop(1) == []
    assert text.drop(2) == [PROGRESS, Reasoning("hm")]
    assert text.drop_all() == []


def test_a_batch_is_split_between_and_inside_its_chunks() -> None:
    batch = Batch((Token("ab", 0.5), Reasoning("hm"), Token("cd")), "abcd", source="left")
    text = held(batch)
    assert text.take(1) == [Batch((Token("a", 0.5),), "a", source="left")]
    assert text.take(2) == [
        Batch((Token("b", 0.5), Reasoning("hm"), Token("c")), "bc", source="left")
    ]
    assert text.take_all() == [Batch((Token("d"),), "d", source="left")]


def test_splitting_a_batch_is_linear_in_the_text_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[object] = []

    def counted(chunk: object) -> str:
        looked_at.append(chunk)
        return text_of(chunk)

    monkeypatch.setattr(_held_text, "text_of", counted)
    text = held(Batch((Token("ab"),) * 1000, "ab" * 1000))
    pieces = [text.take(1) for _ in range(2000)]
    assert "".join(text_of(piece) for [piece] in pieces) == "ab" * 1000
    assert len(looked_at) < 10 * 2000
    assert not text


def test_parts_of_replaces_batches_by_their_chunks() -> None:
    batch = Batch((Token("a"), Reasoning("hm")), "a")
    assert parts_of([PROGRESS, batch, Token("b")]) == [
        PROGRESS,
        Token("a"),
        Reasoning("hm"),
        Token("b"),
    ]


@pytest.mark.parametrize(
    ("chunks", "confidence"),
    [
        ([], None),
        ([PROGRESS], None),
        ([Token("a", 0.5)], 0.5),
        ([Token("a", 0.5), PROGRESS, Token("b", 0.5)], 0.25),
        ([Batch((Token("a", 0.5), Reasoning("hm")), "a"), Token("b", 0.5)], 0.25),
        ([Token("a", 0.5), Token("b")], None),
        ([Token("a", 0.5), Token("")], 0.5),
        ([Token("a", 0.0)], 0.0),
    ],
)
def test_the_confidence_of_chunks_covers_all_their_text(
    chunks: list[Chunk], confidence: float | None
) -> None:
    assert joined(chunks, None).confidence == confidence


TOKENS = st.builds(Token, st.text("ab", max_size=4))
CHUNKS = st.one_of(
    TOKENS,
    st.just(PROGRESS),
    st.lists(TOKENS | st.builds(Reasoning, st.just("hm")), max_size=4).map(
        lambda parts: Batch(tuple(parts), "".join(map(text_of, parts)))
    ),
)


@given(st.lists(CHUNKS, max_size=8), st.lists(st.integers(0, 9), max_size=8))
def test_nothing_is_lost_or_reordered(chunks: list[Chunk], lengths: list[int]) -> None:
    text = held(*chunks)
    taken: list[Chunk] = []
    whole = "".join(map(text_of, chunks))
    for length in lengths:
        part = text.take(length)
        done = len("".join(map(text_of, taken)))
        assert "".join(map(text_of, part)) == whole[done : done + length]
        taken += part
    taken += text.take_all()
    assert not text
    assert _letters(taken) == _letters(chunks)


def _letters(chunks: list[Chunk]) -> list[Chunk | str]:
    """Single letters and non-text chunks, in order."""
    return [
        letter
        for part in parts_of(chunks)
        for letter in (part.text if isinstance(part, Token) else [part])
    ]
