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

    __slots__ = ("_begun", "_chunks")

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._begun = 0  # characters of the first chunk's text that have left

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
            rest = length - (len(text_of(chunks[0])) - self._begun)
            if rest < 0:
                if length:
                    taken.append(self._cut(length))
                break
            first = chunks.popleft()
            if self._begun:
                assert isinstance(first, Token)  # noqa: S101 - a cut batch leaves its rest
                first = _replace(first, text=first.text[self._begun :])
                self._begun = 0
            taken.append(first)
            length = rest
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

    def _cut(self, length: int) -> Chunk:
        """The first `length` characters of the first chunk, which stays with the others."""
        first = self._chunks[0]
        if type(first) is Token:
            begun = self._begun
            self._begun += length
            return _replace(first, text=first.text[begun : begun + length])
        assert type(first) is Batch  # noqa: S101 - nothing else has text
        front, self._chunks[0] = _cut_batch(first, length)
        return front


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


def _cut_batch(batch: Batch, length: int) -> tuple[Batch, Batch]:
    """Cut a batch after `length` characters of its text, fewer than it has."""
    position = 0
    while (text := len(text_of(batch.chunks[position]))) <= length:
        length -= text
        position += 1
    front, back = list(batch.chunks[:position]), list(batch.chunks[position:])
    token = back[0]
    if length and type(token) is Token:
        front.append(_replace(token, text=token.text[:length]))
        back[0] = _replace(token, text=token.text[length:])
    return _batch(front, batch.source), _batch(back, batch.source)


def _batch(chunks: list[Token | Reasoning], source: str | None) -> Batch:
    return Batch(tuple(chunks), "".join(map(text_of, chunks)), source=source)
