"""Consecutive content of one kind, which `guard` checks in windows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from rxllm.chunks import (
    Batch,
    Chunk,
    Reasoning,
    StateKey,
    Token,
    ToolCall,
    has_output,
    is_bare_state,
    state_key,
    tokens_of,
)
from rxllm.operators._held_text import cut_piece, is_text, joined
from rxllm.operators.filtering._rules import Checked

__all__ = ["AnswerRecord", "Key", "Span", "Window", "joined_text"]

_replace = msgspec.structs.replace

Key: TypeAlias = str | StateKey
"""The text, the reasoning, or one of the calls of an answer."""


class AnswerRecord:
    """What `guard` knows of one answer.

    Attributes:
        arguments: those of each call so far.
        contexts: the end of what was passed on, for each kind.
        passed: approved content, if it is recorded.
        rejected: calls whose arguments have been replaced.
        reasoning_changed: a part of the thinking block has been replaced.
    """

    __slots__ = ("arguments", "contexts", "passed", "reasoning_changed", "rejected")

    def __init__(self) -> None:
        self.arguments: dict[StateKey, str] = {}
        self.contexts: dict[Key, str] = {}
        self.passed: list[Chunk] = []
        self.rejected: set[Key] = set()
        self.reasoning_changed = False

    @property
    def has_changed(self) -> bool:
        """Whether a call or reasoning has been replaced."""
        return bool(self.rejected) or self.reasoning_changed

    def new_arguments(self, call: ToolCall) -> tuple[StateKey, str]:
        """The call, and the arguments that earlier chunks of it didn't have."""
        key = call.index, call.id
        known, self.arguments[key] = self.arguments.get(key, ""), call.arguments
        return key, call.arguments.removeprefix(known)

    def remember(self, key: Key, text: str, length: int) -> None:
        """Keep the last `length` characters that were passed on."""
        known = self.contexts.get(key, "") + text
        self.contexts[key] = known[max(0, len(known) - length) :]

    def reject(self, key: Key) -> None:
        """A part of this content has been replaced."""
        if key == "reasoning":
            self.reasoning_changed = True
        elif key != "text":
            self.rejected.add(key)

    def without_rejected(self, chunks: list[Chunk]) -> list[Chunk]:
        """`chunks` without later states of a rejected call, and without that of changed reasoning.

        A provider refuses a thinking block that doesn't match its signature.
        """
        kept: list[Chunk] = []
        for chunk in chunks:
            if type(chunk) is ToolCall and (chunk.index, chunk.id) in self.rejected:
                continue
            if self.reasoning_changed and type(chunk) is Reasoning and is_bare_state(chunk):
                self.reasoning_changed = False
                continue
            if has_output(chunk) and type(chunk) is not Reasoning:
                self.reasoning_changed = False
            kept.append(chunk)
        return kept

    def replay(self, source: str | None) -> list[Chunk]:
        """The approved content in few chunks: joined text, and the newest state of each call."""
        newest = {state_key(chunk) or (place,): chunk for place, chunk in enumerate(self.passed)}
        return joined_text(list(newest.values()), source)


class Span:
    """Consecutive content of one kind in an answer, with the unchecked chunks among and behind it.

    Attributes:
        answer: its answer.
        step: the number of that answer in a run.
        about: what it is; `None` while there is nothing to check.
        key: the same, with the call.
        call: the newest chunk of that call.
        length: characters that aren't in a window yet.
        closed: no more of it follows, so its last window may be short.
    """

    __slots__ = ("_begun", "_pieces", "about", "answer", "call", "closed", "key", "length", "step")

    def __init__(self, answer: AnswerRecord, step: int) -> None:
        self.answer = answer
        self.step = step
        self.about: Checked | None = None
        self.key: Key = ""
        self.call: ToolCall | None = None
        self.length = 0
        self.closed = False
        self._pieces: deque[tuple[Chunk, str]] = deque()  # with what is to be checked of each
        self._begun = 0  # characters of the first piece that were taken

    def takes(self, key: Key) -> bool:
        """Whether more content of this kind belongs here."""
        return self.about is None or (self.key == key and not self.closed)

    def append(self, chunk: Chunk, text: str) -> None:
        """Append `chunk`, whose `text` is to be checked."""
        self._pieces.append((chunk, text))
        if text:
            self.length += len(text)
            self.call = chunk if type(chunk) is ToolCall else None

    def take(self, length: int) -> Window:
        """Take `length` characters off the front, with the unchecked chunks that this releases.

        Text and reasoning are cut; the chunk of a call comes with the last of its characters.
        """
        texts: list[str] = []
        chunks: list[Chunk] = []
        count, pieces = 0, self._pieces
        self.length -= length
        while pieces:
            chunk, text = pieces[0]
            begun, rest = self._begun, len(text) - self._begun
            taken = min(rest, length)
            texts.append(text[begun : begun + taken])
            length -= taken
            whole = taken == rest
            if type(chunk) is ToolCall or (whole and not begun):
                chunks += [chunk] if whole else []
            elif taken:
                assert isinstance(chunk, Token | Reasoning)  # noqa: S101 - all else has no text
                chunks.append(cut_piece(chunk, begun, taken))
            self._begun = 0 if whole else begun + taken
            if not whole:
                break
            pieces.popleft()
            count += 1
        return Window(self, "".join(texts), chunks, count)

    def take_all(self) -> Window:
        """Take everything."""
        return self.take(self.length)


@dataclass
class Window:
    """A part of a span: its text, its chunks, and the number of chunks that end in it."""

    span: Span
    text: str
    chunks: list[Chunk]
    count: int

    @property
    def about(self) -> Checked:
        """What its text is."""
        assert self.span.about is not None  # noqa: S101 - it has text
        return self.span.about

    def replacement(self, text: str) -> list[Chunk]:
        """What takes the place of the checked content.

        A call gets a JSON string for its arguments, which no tool takes, and isn't complete.
        """
        call, source = self.span.call, self.about.source
        if call is not None:
            arguments = msgspec.json.encode(text).decode()
            return [_replace(call, arguments=arguments, complete=False)]
        if not text:
            return []
        if self.about.what == "reasoning":
            return [Reasoning(text, source=source)]
        tokens = sum(map(tokens_of, filter(is_text, self.chunks)))
        return [Token(text, tokens=tokens, source=source)]

    @property
    def unchecked(self) -> list[Chunk]:
        """The other chunks."""
        return [chunk for chunk in self.chunks if not self._is_checked(chunk)]

    def _is_checked(self, chunk: Chunk) -> bool:
        if self.span.key == "text":
            return is_text(chunk)
        if self.span.key == "reasoning":
            return type(chunk) is Reasoning and not is_bare_state(chunk)
        return type(chunk) is ToolCall and (chunk.index, chunk.id) == self.span.key


def joined_text(chunks: list[Chunk], source: str | None) -> list[Chunk]:
    """`chunks` with consecutive text as one token."""
    result: list[Chunk] = []
    run: list[Chunk] = []
    for chunk in [*chunks, None]:
        if chunk is not None and is_text(chunk):
            run.append(chunk)
            continue
        if any(isinstance(each, Token | Batch) and each.text for each in run):
            result.append(joined(run, source))
        run = []
        if chunk is not None:
            result.append(chunk)
    return result
