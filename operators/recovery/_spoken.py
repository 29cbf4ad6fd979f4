"""What a subscriber has been told of an answer: the memory behind the commit boundary."""

from __future__ import annotations

from collections import defaultdict

from rxllm.chunks import Batch, Chunk, End, Json, Reasoning, Token, ToolCall, is_content, is_restart
from rxllm.operators._per_source import forget
from rxllm.operators.recovery._annotations import write_partial

__all__ = ["Spoken", "says_something"]


def says_something(chunk: Chunk) -> bool:
    """True for content; text that is empty is none."""
    if type(chunk) is Token or type(chunk) is Reasoning:
        return bool(chunk.text)
    if type(chunk) is Batch:
        return any(part.text for part in chunk.chunks)
    return is_content(chunk)


class Spoken:
    """The text and the reasoning that have been passed on, by source, since the last restart.

    Adding a chunk costs one look-up, whatever has gone by.
    """

    __slots__ = ("_calls", "_ended", "_reasoning", "_texts")

    def __init__(self) -> None:
        self._texts: defaultdict[str | None, list[str]] = defaultdict(list)
        self._reasoning: defaultdict[str | None, list[str]] = defaultdict(list)
        self._calls: dict[str | None, None] = {}
        self._ended: dict[str | None, None] = {}

    def add(self, chunk: Chunk) -> None:
        """Take note of `chunk`, which is passed on."""
        kind = type(chunk)
        if kind is Token:
            self._texts[chunk.source].append(chunk.text)  # type: ignore[union-attr]
        elif kind is Reasoning:
            self._reasoning[chunk.source].append(chunk.text)  # type: ignore[union-attr]
        elif type(chunk) is Batch:
            for part in chunk.chunks:
                kept = self._texts if type(part) is Token else self._reasoning
                kept[chunk.source].append(part.text)
        elif kind is ToolCall or kind is Json:
            self._calls[chunk.source] = None
        elif kind is End:
            self._ended[chunk.source] = None
        elif is_restart(chunk):
            self.forget(chunk.source)

    def forget(self, source: str | None) -> None:
        """The subscriber drops what it has heard of `source`; None: everything."""
        for pieces in (self._texts, self._reasoning):
            forget(pieces, source)
        for marks in (self._calls, self._ended):
            forget(marks, source)

    @property
    def text(self) -> str:
        """The answer's text; after a merge, one source after another."""
        return "".join(piece for pieces in self._texts.values() for piece in pieces)

    @property
    def reasoning(self) -> str:
        """The text of the thinking blocks."""
        return "".join(piece for pieces in self._reasoning.values() for piece in pieces)

    @property
    def has_begun(self) -> bool:
        """True once content has been passed on (text that is empty is none), or an `End`."""
        return bool(self._calls or self._ended or self.text or self.reasoning)

    @property
    def is_plain(self) -> bool:
        """True if it is text and reasoning of one answer, not merged, that has not ended."""
        merged = {*self._texts, *self._reasoning} - {None}
        return not (self._calls or self._ended or merged)

    def mark(self, error: Exception) -> None:
        """Write the text into `error.partial`, where it can be."""
        write_partial(error, self.text)
