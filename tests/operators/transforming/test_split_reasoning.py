"""`split_reasoning`: thinking in tags becomes reasoning, however the text is cut."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Notice,
    Progress,
    ProviderState,
    Reasoning,
    Token,
    text_of,
)
from rxllm.errors import RxLLMError
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import cut_texts, events_of

ATOMS = ["<think>", "</think>", "<", "</", "think>", ">", "a", "b c", "<think", "\n"]
TEXTS = st.lists(st.sampled_from(ATOMS), max_size=12).map("".join)


def split(pieces: list[Any], **options: Any) -> list[Chunk]:
    """The text and the reasoning, without other chunks."""
    events = events_of(pieces, ops.split_reasoning(**options))
    return [event for event in events if isinstance(event, Token | Reasoning | Batch)]


def joined(chunks: list[Chunk], kind: type[Token] | type[Reasoning]) -> str:
    parts = [part for chunk in chunks for part in getattr(chunk, "chunks", (chunk,))]
    return "".join([part.text for part in parts if isinstance(part, kind)])


def plainly(text: str) -> tuple[str, str]:
    """The answer and its reasoning, of a whole text."""
    blocks = re.compile(r"<think>(.*?)(?:</think>|\Z)", re.DOTALL)
    outside: list[str] = []
    at = 0
    for found in blocks.finditer(text):
        outside.append(text[at : found.start()])
        at = found.end()
    return "".join(outside) + text[at:], "".join(blocks.findall(text))


def test_tags_in_pieces() -> None:
    pieces = ["<thi", "nk>", "hm", ".</", "think>\n", "Yes"]
    assert split(pieces) == [Reasoning("hm"), Reasoning("."), Token("\n"), Token("Yes")]


def test_text_that_only_looks_like_a_tag_is_kept() -> None:
    assert split(["a <", "b> <thin", "g> </think>"]) == [
        Token("a "), Token("<"), Token("b> "), Token("<thin"), Token("g> </think>"),
    ]  # fmt: skip


def test_several_blocks_and_one_that_does_not_end() -> None:
    chunks = split(["<think>a</think>b<think>c</think>d<think>e"])
    assert chunks == [
        Reasoning("a"), Token("b"), Reasoning("c"), Token("d"), Reasoning("e"),
    ]  # fmt: skip


def test_the_answer_may_begin_inside() -> None:
    assert split(["hm", "</think>Yes"], inside=True) == [Reasoning("hm"), Token("Yes")]


def test_other_tags() -> None:
    chunks = split(["[THINK]hm[/THINK]Yes"], begin="[THINK]", end="[/THINK]")
    assert chunks == [Reasoning("hm"), Token("Yes")]


def test_tokens_keep_what_is_known_about_them() -> None:
    state = ProviderState("provider", "model", 1)
    token = Token("Yes", 0.5, number=3)
    assert split([token, Token("", state=state)]) == [token, Token("", state=state)]
    assert split([Token("<think>a</think>b", 0.5)]) == [Reasoning("a"), Token("b", 0.5)]


def test_text_in_batches() -> None:
    batch = Batch((Token("<think>a"), Reasoning("!"), Token("</think>b")), "<think>a</think>b")
    chunks = split([batch])
    assert (joined(chunks, Token), joined(chunks, Reasoning)) == ("b", "a!")


def test_other_chunks_wait_behind_held_text(marbles: Marbles) -> None:
    progress = Progress(1, 0.0, stage="marker")
    lookup: dict[str, Chunk] = {"a": Token("<th"), "P": progress, "b": Token("e"), "E": End("stop")}
    events = marbles.run(marbles.cold("a-P-b-E|", lookup=lookup).pipe(ops.split_reasoning()))
    assert events == [
        (4.0, Token("<th")), (4.0, progress), (4.0, Token("e")), (6.0, End("stop")),
        (7.0, COMPLETED),
    ]  # fmt: skip


@pytest.mark.parametrize("last", ["|", "#"])
def test_held_text_is_released_at_the_end_and_before_an_error(marbles: Marbles, last: str) -> None:
    error = RxLLMError("cut")
    source = marbles.cold(f"a{last}", lookup={"a": Token("<th")}, error=error)
    ending = COMPLETED if last == "|" else error
    events = marbles.run(source.pipe(ops.split_reasoning()))
    assert events == [(1.0, Token("<th")), (1.0, ending)]


def test_after_a_restart_the_answer_begins_again(marbles: Marbles) -> None:
    lookup: dict[str, Chunk] = {"a": Token("<think>x</th"), "R": Notice("restart")}
    lookup["b"] = Token("Yes")
    events = marbles.run(marbles.cold("a-R-b|", lookup=lookup).pipe(ops.split_reasoning()))
    assert [chunk for _, chunk in events[:-1]] == [
        Reasoning("x"), Notice("restart"), Token("Yes"),
    ]  # fmt: skip


def test_sources_are_separate(marbles: Marbles) -> None:
    lookup: dict[str, Chunk] = {
        "a": Token("<think>", source="x"), "b": Token("b", source="y"),
        "c": Token("c", source="x"),
    }  # fmt: skip
    events = marbles.run(marbles.cold("a-b-c|", lookup=lookup).pipe(ops.split_reasoning()))
    assert [chunk for _, chunk in events[:-1]] == [
        Token("b", source="y"), Reasoning("c", source="x"),
    ]  # fmt: skip


def test_disposal_demand_and_two_subscriptions(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c|", demand=True)
    stream = source.pipe(ops.split_reasoning())
    recording = marbles.subscribe(stream)
    marbles.valve.close()
    marbles.advance_to(4)
    assert recording.events == []
    recording.dispose()
    assert source.subscriptions == [(0.0, 4.0)]
    marbles.valve.open()
    assert [text_of(chunk) for _, chunk in marbles.run(stream)[:-1]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("options", "error"),
    [({"begin": ""}, ValueError), ({"end": ""}, ValueError), ({"begin": 3}, TypeError)],
)
def test_invalid_tags_are_errors_at_the_call(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="must"):
        ops.split_reasoning(**options)


@given(cut_texts(TEXTS))
def test_it_equals_a_plain_function_of_the_whole_text(drawn: tuple[str, list[str]]) -> None:
    text, pieces = drawn
    chunks = split(pieces)
    assert (joined(chunks, Token), joined(chunks, Reasoning)) == plainly(text)
