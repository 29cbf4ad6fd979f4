"""The text of a local model, read as thinking, text and tool calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rxllm.chunks import Chunk, Reasoning, Token, ToolCall
from rxllm.messages import Tool
from rxllm.models.local.answer_form import AnswerForm, AnswerReader
from rxllm.requests import as_request
from tests.operators.texts import cut_texts

TAGS = ("<think>", "</think>")
REQUEST = as_request("Hi", tools=[Tool("look")])
CALL = '<tool_call>{"name": "look", "arguments": {"a": "<think>"}}</tool_call>'


def read(form: AnswerForm, pieces: list[str]) -> list[Chunk]:
    reader = AnswerReader(form, REQUEST)
    chunks = [chunk for piece in pieces for chunk in reader.feed(piece, None)]
    return [*chunks, *reader.flush()]


def joined(chunks: list[Chunk], kind: type[Token] | type[Reasoning]) -> str:
    return "".join([chunk.text for chunk in chunks if isinstance(chunk, kind)])


@given(data=st.data(), inside=st.booleans())
def test_thinking_text_and_calls_are_told_apart_however_they_are_cut(
    data: st.DataObject, inside: bool
) -> None:
    text = f"{'' if inside else '<think>'}\nHm.\n</think>\n\nYes. {CALL}"
    _, pieces = data.draw(cut_texts(st.just(text)))
    chunks = read(AnswerForm(TAGS, inside, "hermes"), pieces)
    assert joined(chunks, Reasoning) == "Hm.\n"
    assert joined(chunks, Token) == "Yes. "
    calls = [chunk for chunk in chunks if isinstance(chunk, ToolCall) and chunk.complete]
    assert [(call.name, call.arguments) for call in calls] == [("look", '{"a": "<think>"}')]


def test_a_model_without_either_is_passed_on_unchanged() -> None:
    chunks = read(AnswerForm(), ["<think>", "", CALL])
    assert chunks == [Token("<think>"), Token(CALL)]


def test_tokens_inside_are_counted() -> None:
    reader = AnswerReader(AnswerForm(TAGS, begins_inside=True), REQUEST)
    for piece in ("a", " b", "</think>", "c", "d"):
        reader.feed(piece, None)
    assert reader.reasoning_tokens == 3
    assert AnswerReader(AnswerForm(), REQUEST).reasoning_tokens is None


def test_a_whole_piece_keeps_its_confidence() -> None:
    reader = AnswerReader(AnswerForm(TAGS, calls="hermes"), REQUEST)
    assert reader.feed("so", 0.5) == [Token("so", 0.5)]
    assert reader.feed("a<t", 0.5) == [Token("a")]
    assert reader.feed("b", 0.5) == [Token("<tb")]
