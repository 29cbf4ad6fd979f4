"""How the text of a local model is read: what is thinking, what is a tool call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from rxllm.chunks import Chunk, Reasoning, Token
from rxllm.models.local.call_forms import CALL_FORMS, CALL_MARKERS
from rxllm.models.local.call_reader import CallReader
from rxllm.requests import Request
from rxllm.text.tags import TagSplitter, Where

__all__ = ["MARKERS", "THINKING_TAGS", "AnswerForm", "AnswerReader"]

THINKING_TAGS: Final = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))

MARKERS: Final = frozenset([*CALL_MARKERS, *(tag for tags in THINKING_TAGS for tag in tags)])
"""Control tokens whose text belongs to the answer: without it, it couldn't be read."""


class AnswerForm(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The form of one answer.

    Args:
        thinking: the tags around thinking, if the model has them.
        begins_inside: the answer begins inside the thinking.
        calls: the form of tool calls, if tools were offered.
    """

    thinking: tuple[str, str] | None = None
    begins_inside: bool = False
    calls: str | None = None

    @property
    def thinking_end(self) -> str | None:
        """The tag that ends the thinking with which the answer begins, if it does."""
        return self.thinking[1] if self.begins_inside and self.thinking is not None else None


class AnswerReader:
    """Reads the pieces of one answer. A piece that stays whole keeps its confidence.

    Thinking stands at the beginning of an answer; white space before and after it is dropped.

    Args:
        form: the form of the answer.
        request: has the tools.
    """

    def __init__(self, form: AnswerForm, request: Request) -> None:
        self._tags = None
        if form.thinking is not None:
            self._tags = TagSplitter(*form.thinking, inside=form.begins_inside)
        self._calls = None
        if form.calls is not None:
            self._calls = CallReader(CALL_FORMS[form.calls], request.tools)
        self._is_stripped = form.begins_inside
        self.reasoning_tokens: int | None = 0 if self._tags is not None else None
        """Number of tokens inside the thinking; `None` for a model that doesn't think."""

    @property
    def calls(self) -> int:
        """Number of complete tool calls."""
        return 0 if self._calls is None else self._calls.calls

    def feed(self, text: str, confidence: float | None) -> list[Chunk]:
        """Return the chunks that the text of a token decides on."""
        if self._tags is None and self._calls is None:
            return [Token(text, confidence)] if text else []
        if self._tags is not None and self.reasoning_tokens is not None:
            self.reasoning_tokens += self._tags.is_inside
        chunks = self._said(text)
        if confidence is not None and len(chunks) == 1:
            chunk = chunks[0]
            if type(chunk) is Token and chunk.text == text:
                return [Token(text, confidence)]
        return chunks

    def flush(self) -> list[Chunk]:
        """Return what is still held, at the end of the answer."""
        chunks: list[Chunk] = []
        if self._tags is not None:
            chunks += self._split(self._tags.flush())
        if self._calls is not None:
            chunks += self._calls.flush()
        return chunks

    def _said(self, text: str) -> list[Chunk]:
        if self._tags is None:
            return self._answered(text)
        return self._split(self._tags.feed(text))

    def _split(self, pieces: Iterable[tuple[Where, str]]) -> list[Chunk]:
        chunks: list[Chunk] = []
        answer = ""
        for where, piece in pieces:
            if answer:
                answer += piece
            elif where is Where.TAG:
                self._is_stripped = True
            elif text := piece.lstrip() if self._is_stripped else piece:
                self._is_stripped = False
                if where is Where.INSIDE:
                    chunks.append(Reasoning(text))
                elif text.isspace():
                    chunks += self._answered(text)
                else:
                    answer = text
        if answer and self._tags is not None:  # tags in the answer are text
            answer += "".join([text for _, text in self._tags.flush()])
            self._tags = None
        return [*chunks, *self._answered(answer)]

    def _answered(self, text: str) -> list[Chunk]:
        if not text:
            return []
        if self._calls is None:
            return [Token(text)]
        return [*self._calls.feed(text)]
