"""The shape of operators that write the text anew, character by character, in the same chunks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from rxllm.chunks import Batch, Chunk, Reasoning, Token, text_of
from rxllm.operators._held_text import HeldText
from rxllm.operators._text_operator import TextState

__all__ = ["Writer", "WrittenText"]

_replace = msgspec.structs.replace


class Writer(Protocol):
    """Writes one text anew, from its beginning on."""

    def decided(self, text: str) -> int:
        """How many characters of `text`, which comes next, don't depend on what follows it."""

    def write(self, text: str, after: str) -> str:
        """Write the next characters; `after` are those behind them, as far as they matter."""


class WrittenText(TextState):
    """The text of one source: each character leaves once it is known how it is written."""

    __slots__ = ("_held", "_text", "_writer")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._held = HeldText()
        self._text = ""  # the text that is held

    def text(self, chunk: Token | Batch) -> Iterable[Chunk]:
        text = self._text + chunk.text
        decided = self._writer.decided(text)
        if not self._held and decided == len(text):
            return (self._written(chunk, ""),)
        self._held.append(chunk)
        self._text = text[decided:]
        return self._all_written(self._held.take(decided))

    def other(self, chunk: Chunk) -> Iterable[Chunk]:
        if not self._held:
            return (chunk,)
        self._held.append(chunk)
        return ()

    def end(self) -> Iterable[Chunk]:
        self._text = ""
        return self._all_written(self._held.take_all())

    def _all_written(self, chunks: list[Chunk]) -> list[Chunk]:
        after = "".join(map(text_of, chunks)) + self._text
        written: list[Chunk] = []
        for chunk in chunks:
            if isinstance(chunk, Token | Batch):
                after = after[len(chunk.text) :]
                written.append(self._written(chunk, after))
            else:
                written.append(chunk)
        return written

    def _written(self, chunk: Token | Batch, after: str) -> Token | Batch:
        if isinstance(chunk, Token):
            return _replace(chunk, text=self._writer.write(chunk.text, after))
        parts: list[Token | Reasoning] = []
        after = chunk.text + after
        for part in chunk.chunks:
            if isinstance(part, Token):
                after = after[len(part.text) :]
                part = _replace(part, text=self._writer.write(part.text, after))
            parts.append(part)
        return _replace(chunk, chunks=tuple(parts), text="".join(map(text_of, parts)))
