"""Text held back until an operator decides on it, with the chunks queued behind it."""

from __future__ import annotations

import sys
from collections import deque

import msgspec

from rxllm.chunks import Batch, Chunk, Reasoning, Token, is_bare_state, text_of, tokens_of

__all__ = ["HeldText", "cut_piece", "is_text", "joined", "parts_of"]

_replace = msgspec.structs.replace


class HeldText:
    """The chunks of one source from the first undecided character on, in order.

    Positions are characters of the answer's text, counted from the first one held. A non-text chunk
    behind held text is released once all text before it has been released.
    """

    __slots__ = ("_begun", "_chunks", "_inside", "_part")

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._begun = 0  # characters of the first chunk's text that were released
        self._part = 0  # if the first chunk is a batch: number of its parts that were released,
        self._inside = 0  # and number of characters of the next part

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def append(self, chunk: Chunk) -> None:
        """Hold `chunk` behind the others."""
        self._chunks.append(chunk)

    def take(self, length: int) -> list[Chunk]:
        """Take `length` characters off the front, with the other chunks that this releases.

        Chunks are returned unchanged or split; both parts of a split token keep its confidence.
        """
        taken: list[Chunk] = []
        chunks = self._chunks
        while chunks:
            first = chunks[0]
            text = first.text if type(first) is Token else text_of(first)
            rest = len(text) - self._begun
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
        """Drop `length` characters, and return only the non-text chunks that `take` would."""
        return [part for part in parts_of(self.take(length)) if not is_text(part)]

    def take_all(self) -> list[Chunk]:
        """Take everything."""
        return self.take(sys.maxsize)

    def drop_all(self) -> list[Chunk]:
        """Drop all text, and return only the non-text chunks."""
        return self.drop(sys.maxsize)

    def _cut(self, first: Chunk, length: int) -> Chunk:
        """Return the next `length` characters of the first chunk, in time proportional to these."""
        if type(first) is Token:
            return cut_piece(first, self._begun, length)
        assert type(first) is Batch  # noqa: S101 - nothing else has text
        parts: list[Token | Reasoning] = []
        while self._part < len(first.chunks):
            part = first.chunks[self._part]
            rest = len(text_of(part)) - self._inside
            if rest > length:
                if length:
                    parts.append(cut_piece(part, self._inside, length))
                    self._inside += length
                break
            parts.append(cut_piece(part, self._inside, rest) if self._inside else part)
            self._part += 1
            self._inside = 0
            length -= rest
        return Batch(tuple(parts), "".join(map(text_of, parts)), source=first.source)


def is_text(chunk: Chunk) -> bool:
    """Return whether `chunk` is a token of the answer's text, and not only a state."""
    return type(chunk) is Token and not is_bare_state(chunk)


def parts_of(chunks: list[Chunk]) -> list[Chunk]:
    """Return `chunks` with each batch replaced by its parts."""
    parts: list[Chunk] = []
    for chunk in chunks:
        if type(chunk) is Batch:
            parts.extend(chunk.chunks)
        else:
            parts.append(chunk)
    return parts


def joined(chunks: list[Chunk], source: str | None, number: int | None = None) -> Token:
    """Return the text in `chunks` as one token, with their joint confidence."""
    texts: list[str] = []
    tokens = 0
    for chunk in chunks:
        if (type(chunk) is Token or type(chunk) is Batch) and chunk.text:
            texts.append(chunk.text)
            tokens += chunk.tokens if type(chunk) is Token else tokens_of(chunk)
    confidence = _confidence_of(chunks)
    return Token("".join(texts), confidence, number, tokens=tokens, source=source)


def _confidence_of(chunks: list[Chunk]) -> float | None:
    """Return the joint probability of all tokens in `chunks`; `None` if any is unknown."""
    product = None
    for part in parts_of(chunks):
        if type(part) is Token and part.text:
            if part.confidence is None:
                return None
            product = part.confidence if product is None else product * part.confidence
    return product


def cut_piece(piece: Token | Reasoning, start: int, length: int) -> Token | Reasoning:
    """Return `length` characters of `piece`, with its confidence; the last part has its tokens."""
    end = start + length
    text = piece.text[start:end]
    if type(piece) is not Token:
        return _replace(piece, text=text)
    tokens = piece.tokens if end >= len(piece.text) else 0
    return _replace(piece, text=text, tokens=tokens, logprobs=None)
