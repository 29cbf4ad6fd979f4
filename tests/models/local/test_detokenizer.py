"""Text comes token by token, whole characters at a time, whatever the bytes are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from rxllm.models import tiny
from rxllm.models.local.detokenizer import Detokenizer

TOKENIZER = Tokenizer.from_file(str(tiny.directory / "tokenizer.json"))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"))


def pieces(tokens: list[int]) -> list[str]:
    detokenizer = Detokenizer(TOKENIZER)
    return [detokenizer.step(token) for token in tokens]


def byte(value: int) -> int:
    """The token of a single byte."""
    name = next(name for name, each in alphabet().items() if each == value)
    found = TOKENIZER.token_to_id(name)
    assert found is not None
    return found


def alphabet() -> dict[str, int]:
    """The characters that stand for bytes in byte-level BPE (GPT-2)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [value for value in range(256) if value not in shown]
    names = {chr(value): value for value in shown}
    return names | {chr(256 + at): value for at, value in enumerate(hidden)}


@given(TEXTS)
def test_the_pieces_are_the_text(text: str) -> None:
    assert "".join(pieces(TOKENIZER.encode(text, add_special_tokens=False).ids)) == text


@given(TEXTS, st.integers(1, 40))
def test_bytes_that_are_no_text_end_nothing(text: str, count: int) -> None:
    tokens = [byte(0xFF)] * count + TOKENIZER.encode(f"a{text}z", add_special_tokens=False).ids
    said = "".join(pieces(tokens))
    assert said == "\ufffd" * count + f"a{text}z"


def test_they_are_held_only_for_a_while() -> None:
    said = pieces([byte(0xFF)] * 40)
    assert len("".join(said)) >= 32
    assert pieces([byte(0xE6), byte(0xBC), byte(0xA2)]) == ["", "", "漢"]
    assert "".join(pieces([byte(0xFF)] * 7 + [byte(0xE6), byte(0xBC), byte(0xA2)])).endswith("漢")


def test_a_marker_has_a_text_and_other_control_tokens_have_none() -> None:
    detokenizer = Detokenizer(TOKENIZER, {0: "<think>"})
    hello = TOKENIZER.encode("Hello", add_special_tokens=False).ids
    half = [byte(value) for value in "é".encode()][:1]
    steps = [1, 0, *hello, *half, 0, *hello]
    assert "".join(detokenizer.step(token) for token in steps) == "<think>Hello\ufffd<think>Hello"
