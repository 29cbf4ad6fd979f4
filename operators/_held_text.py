"""Text that is held back until it is decided, with the chunks that came behind it."""

from __future__ import annotations

import sys
from collections import deque

import msgspec

from rxllm.chunks import Batch, Chunk, Reasoning, Token, text_of

__all__ = ["HeldText", "confidence_of"]

_replace = msgspec.structs.replace


class HeldText:
    """The chunks of one source from the first undecided character on, in their order.

    Positions are characters of the answer's text, counted from the first one held. A chunk that is
    no text, and stands behind held text, leaves once all text before it has left.
    """

    __slots__ = ("_begun", "_chunks", "_inside", "_part")

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._begun = 0  # characters of the first chunk's text that have left
        self._part = 0  # if that is a batch: how many of its parts have left,
        self._inside = 0  # and how many characters of the next one

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def append(self, chunk: Chunk) -> None:
        """Hold `chunk` behind the others."""
        self._chunks.append(chunk)

    def take(self, length: int) -> list[Chunk]:
        """Take `length` characters off the front, and the other chunks that then wait no more.

        Chunks come as they were, or cut: both parts of a token keep its confidence.
        """
        taken: list[Chunk] = []
        chunks = self._chunks
        while chunks:
            first = chunks[0]
            rest = len(text_of(first)) - self._begun
            if rest > length:
                if length:
                    taken.append(self._cut(first, length))
                    self._begun += length
                break
            taken.append(self._cut(first, rest) if self._begun else first)
            chunks.popleft()
            self._begun = self._part = self._inside = 0
            length -= rest
        return taken

    def drop(self, length: int) -> list[Chunk]:
        """Take `length` characters as `take` does, and return only what is no text."""
        return [part for part in parts_of(self.take(length)) if type(part) is not Token]

    def take_all(self) -> list[Chunk]:
        """Take everything."""
        return self.take(sys.maxsize)

    def drop_all(self) -> list[Chunk]:
        """Take everything, and return only what is no text."""
        return self.drop(sys.maxsize)

    def _cut(self, first: Chunk, length: int) -> Chunk:
        """The next `length` characters of the first chunk, at a cost that grows with these."""
        if type(first) is Token:
            return _part_of(first, self._begun, length)
        assert type(first) is Batch  # noqa: S101 - nothing else has text
        parts: list[Token | Reasoning] = []
        while self._part < len(first.chunks):
            part = first.chunks[self._part]
            rest = len(text_of(part)) - self._inside
            if rest > length:
                if length:
                    parts.append(_part_of(part, self._inside, length))
                    self._inside += length
                break
            parts.append(_part_of(part, self._inside, rest) if self._inside else part)
            self._part += 1
            self._inside = 0
            length -= rest
        return Batch(tuple(parts), "".join(map(text_of, parts)), source=first.source)


def parts_of(chunks: list[Chunk]) -> list[Chunk]:
    """`chunks`, with what batches hold in their place."""
    parts: list[Chunk] = []
    for chunk in chunks:
        if type(chunk) is Batch:
            parts.extend(chunk.chunks)
        else:
            parts.append(chunk)
    return parts


def confidence_of(chunks: list[Chunk]) -> float | None:
    """The probability of all tokens in `chunks` together; None if that of one is not known."""
    product = None
    for part in parts_of(chunks):
        if type(part) is Token and part.text:
            if part.confidence is None:
                return None
            product = part.confidence if product is None else product * part.confidence
    return product


def _part_of(piece: Token | Reasoning, start: int, length: int) -> Token | Reasoning:
    return _replace(piece, text=piece.text[start : start + length])
