"""The text of one source, cut into windows that are checked one after another."""

from __future__ import annotations

import asyncio

from rxllm.chunks import Chunk, End, Token, text_of, tokens_of
from rxllm.operators._held_text import HeldText, is_text, joined, parts_of
from rxllm.restart import survives_restart

__all__ = ["Windows", "ends_all"]


class Windows:
    """The window being checked, the chunks behind it, and the text sent before it.

    Attributes:
        source: the stream.
        task: the running check, if it is a task.
        complete: True if no more text follows, so the last window may be short.
        passed: all text that has been sent, if it is recorded.
    """

    __slots__ = (
        "_checking",
        "_context",
        "_held",
        "_length",
        "_window",
        "complete",
        "passed",
        "source",
        "task",
    )

    def __init__(self, source: str | None) -> None:
        self.source = source
        self.task: asyncio.Future[bool] | None = None
        self.complete = False
        self.passed: list[str] = []
        self._context = ""
        self._window: list[Chunk] = []
        self._checking = 0  # characters in the window
        self._held = HeldText()
        self._length = 0  # characters held

    @property
    def waits(self) -> bool:
        """True while anything is waiting for a check."""
        return bool(self._window or self._held)

    @property
    def waiting(self) -> int:
        """The number of characters waiting."""
        return self._checking + self._length

    def append(self, chunk: Chunk) -> None:
        """Append `chunk` to the waiting chunks."""
        self._held.append(chunk)
        self._length += len(text_of(chunk))
        if type(chunk) is End:
            self.complete = True

    def next_is_ready(self, size: int) -> bool:
        """True if a window of `size` characters, or the last one, can be checked now."""
        if self._window:
            return False
        return self._length >= size or (self.complete and self._length > 0)

    def open(self, size: int) -> str:
        """Take the next window, and return the text to check: its context and its own text."""
        self._checking = min(size, self._length)
        self._length -= self._checking
        self._window = self._held.take(self._checking)
        return self._context + "".join(map(text_of, self._window))

    def release(self, context: int, *, replacement: str | None = None) -> list[Chunk]:
        """The chunks of the window, and those behind it that no longer have to wait.

        Text that isn't separated by another chunk becomes one token; `replacement` replaces all
        text of the window. The last `context` characters sent are remembered.
        """
        parts = parts_of(self._window)
        if replacement is None:
            chunks = self._joined(parts)
        else:
            tokens = sum(map(tokens_of, filter(is_text, parts)))
            chunks = []
            if replacement:
                chunks.append(Token(replacement, tokens=tokens, source=self.source))
            chunks += [part for part in parts if not is_text(part)]
        known = self._context + "".join(map(text_of, chunks))
        self._context = known[max(0, len(known) - context) :]
        self._window, self._checking = [], 0
        return chunks + self._held.take(0)

    def drop(self) -> list[Chunk]:
        """Drop the waiting content, cancel its check, and return the chunks to keep."""
        waiting = parts_of(self._window + self._held.take_all())
        self._window, self._checking, self._length = [], 0, 0
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
        return list(filter(survives_restart, waiting))

    def _joined(self, parts: list[Chunk]) -> list[Chunk]:
        chunks: list[Chunk] = []
        run: list[Chunk] = []
        for part in [*parts, None]:
            if part is not None and is_text(part):
                run.append(part)
                continue
            if any(map(text_of, run)):
                chunks.append(joined(run, self.source))
            run = []
            if part is not None:
                chunks.append(part)
        return chunks


def ends_all(chunk: Chunk) -> bool:
    """True for an `End` without a source, which ends all streams."""
    return type(chunk) is End and chunk.source is None
