"""Base for operators that rewrite the text within its chunks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from rxllm.chunks import Batch, Chunk, Reasoning, Token, text_of
from rxllm.operators._held_text import HeldText
from rxllm.operators._text_operator import TextState
from rxllm.restart import survives_restart

__all__ = ["Writer", "WrittenText"]

_replace = msgspec.structs.replace


class Writer(Protocol):
    """Rewrites one text from start to end.

    Attributes:
        ahead: how many of the characters that follow a text `write` needs.
    """

    @property
    def ahead(self) -> int: ...

    def decided(self, text: str) -> int:
        """How many characters of the next `text` don't depend on what follows it."""

    def write(self, text: str, after: str) -> str:
        """Rewrite the next characters; `after` holds up to `ahead` of those that follow."""


class WrittenText(TextState):
    """The text of one source, sent as soon as its new form is known."""

    __slots__ = ("_held", "_text", "_writer")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._held = HeldText()
        self._text = ""  # the held text

    def text(self, chunk: Token | Batch) -> Iterable[Chunk]:
        text = self._text + chunk.text
        decided = self._writer.decided(text)
        if not self._held and decided == len(text):
            return (self._written(chunk, text, 0),)
        self._held.append(chunk)
        self._text = text[decided:]
        return self._all_written(self._held.take(decided))

    def other(self, chunk: Chunk) -> Iterable[Chunk]:
        if not self._held:
            return (chunk,)
        self._held.append(chunk)
        return ()

    def restart(self) -> Iterable[Chunk]:
        return filter(survives_restart, self._held.drop_all())

    def end(self) -> Iterable[Chunk]:
        self._text = ""
        return self._all_written(self._held.take_all())

    def _all_written(self, chunks: list[Chunk]) -> list[Chunk]:
        text, place = "".join(map(text_of, chunks)) + self._text, 0
        written: list[Chunk] = []
        for chunk in chunks:
            if isinstance(chunk, Token | Batch):
                written.append(self._written(chunk, text, place))
                place += len(chunk.text)
            else:
                written.append(chunk)
        return written

    def _written(self, chunk: Token | Batch, text: str, place: int) -> Token | Batch:
        """`chunk`, whose text is at `place` in `text`, rewritten."""
        if isinstance(chunk, Token):
            return self._changed(chunk, text, place)
        parts: list[Token | Reasoning] = []
        for part in chunk.chunks:
            parts.append(self._changed(part, text, place) if isinstance(part, Token) else part)
            place += len(text_of(part))
        return _replace(chunk, chunks=tuple(parts), text="".join(map(text_of, parts)))

    def _changed(self, token: Token, text: str, place: int) -> Token:
        behind = place + len(token.text)
        after = text[behind : behind + self._writer.ahead]
        return _replace(token, text=self._writer.write(token.text, after))
