"""What `words`, `sentences` and `lines` share: each piece of the text becomes one token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol, TypeAlias

import msgspec
from reactivex import Observable

from rxllm.arguments import check_callable, check_int
from rxllm.chunks import Batch, Chunk, Token
from rxllm.operators._graphemes import graphemes
from rxllm.operators._held_text import HeldText, is_text, joined
from rxllm.operators._text_operator import TextState, text_operator
from rxllm.restart import survives_restart
from rxllm.stream import Stream

__all__ = ["Borders", "Kind", "TextCount", "pieces"]

Kind: TypeAlias = Literal["words", "sentences", "lines"]


class TextCount(msgspec.Struct, frozen=True, gc=False):
    """How much text a stream had, reported when it ends.

    Attributes:
        kind: what was counted: `"words"`, `"sentences"` or `"lines"`.
        count: how many; 0 if the text was only white space (lines are counted even then).
        characters: length of the whole text, including white space.
        source: the stream, after a merge.
    """

    kind: Kind
    count: int
    characters: int
    source: str | None = None


class Borders(Protocol):
    """Finds where the pieces of a text start."""

    def feed(self, text: str) -> list[int]:
        """Read the next `text`; return the borders found, as offsets from the first text fed."""


def pieces(
    kind: Kind,
    borders: Callable[[], Borders],
    on_result: Callable[[TextCount], object] | None,
    longest: int,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Turn each piece between two borders into one token, numbered from 1.

    Args:
        kind: what is counted. White space alone counts as a line, but not as a word or a sentence.
        borders: creates the border finder; called again after a piece that was too long.
        on_result: called with the count at the end of each source.
        longest: maximum length of a piece in characters, 1 or more: a longer piece is split.

    Raises:
        TypeError: `on_result` can't be called, or `longest` is not an integer.
        ValueError: `longest` is less than 1.
    """
    if on_result is not None:
        on_result = check_callable("on_result", on_result, "a function of a TextCount")
    longest = check_int("longest", longest, "the maximum number of characters in a piece")
    return text_operator(kind, lambda source: _Pieces(kind, borders, on_result, longest, source))


class _Pieces(TextState):
    """The text of one source."""

    __slots__ = (
        "_begun",
        "_borders",
        "_characters",
        "_count",
        "_held",
        "_kind",
        "_length",
        "_longest",
        "_make_borders",
        "_on_result",
        "_parts",
        "_source",
    )

    def __init__(
        self,
        kind: Kind,
        make_borders: Callable[[], Borders],
        on_result: Callable[[TextCount], object] | None,
        longest: int,
        source: str | None,
    ) -> None:
        self._kind = kind
        self._make_borders = make_borders
        self._on_result = on_result
        self._longest = longest
        self._source = source
        self._borders = make_borders()
        self._held = HeldText()
        self._parts: list[str] = []  # the text of the open piece
        self._length = 0  # of the open piece
        self._begun = 0  # where it starts, in characters fed to the borders
        self._count = self._characters = 0

    def text(self, chunk: Token | Batch) -> list[Chunk]:
        if isinstance(chunk, Token):
            return self._token(chunk)
        return [
            out
            for part in chunk.chunks
            for out in (self._token(part) if type(part) is Token else self.other(part))
        ]

    def other(self, chunk: Chunk) -> Iterable[Chunk]:
        if not self._held:
            return (chunk,)
        self._held.append(chunk)
        return ()

    def end(self) -> Iterator[Chunk]:
        if self._held:
            yield from self._piece("".join(self._parts))
        if self._on_result is not None and self._characters:
            count = TextCount(self._kind, self._count, self._characters, self._source)
            self._on_result(count)

    def restart(self) -> Iterable[Chunk]:
        return filter(survives_restart, self._held.drop_all())

    def _token(self, token: Token) -> list[Chunk]:
        text = token.text
        if not text:
            return []
        self._held.append(token)
        self._characters += len(text)
        if self._length + len(text) <= self._longest:
            return self._read(text)
        sent: list[Chunk] = []
        start = 0
        while start < len(text):  # a piece never exceeds the limit by more than one character
            room = self._longest + 1 - self._length
            sent += self._read(text[start : start + room])
            start += room
            if self._length > self._longest:
                sent += self._cut()
        return sent

    def _read(self, text: str) -> list[Chunk]:
        self._parts.append(text)
        self._length += len(text)
        borders = self._borders.feed(text)
        if not borders:
            return []
        sent: list[Chunk] = []
        whole = "".join(self._parts)
        start, begun = 0, self._begun
        for border in borders:
            piece = whole[start : border - begun]
            if len(piece) > self._longest:  # by its line ending
                length = self._allowed(piece)
                sent += self._piece(piece[:length])
                piece = piece[length:]
            sent += self._piece(piece)
            start = border - begun
        self._begun += start
        self._length -= start
        self._parts = [whole[start:]]
        return sent

    def _cut(self) -> list[Chunk]:
        """Split the open piece, which is one character too long."""
        whole = "".join(self._parts)
        length = self._allowed(whole)
        sent = self._piece(whole[:length])
        self._borders, self._begun, self._length, self._parts = self._make_borders(), 0, 0, []
        return sent + self._read(whole[length:])

    def _allowed(self, piece: str) -> int:
        """Where to split a piece that is one character too long: before its last grapheme."""
        return len(piece) - len(graphemes(piece)[-1]) or self._longest

    def _piece(self, text: str) -> list[Chunk]:
        """One piece, and the non-text chunks that waited behind it."""
        number = None
        if self._kind == "lines" or not text.isspace():
            number = self._count = self._count + 1
        taken = self._held.take(len(text))
        piece = joined(taken, self._source, number)
        return [piece, *(chunk for chunk in taken if not is_text(chunk))]
