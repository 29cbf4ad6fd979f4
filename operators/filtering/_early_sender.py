"""Chunks that `guard` sends before they have been checked, and takes back if it must."""

from __future__ import annotations

from collections import deque

from rxllm.chunks import Chunk, End, ToolCall, is_lasting

__all__ = ["EarlySender"]


class EarlySender:
    """Sends chunks as they come, up to one that can't be taken back: a tool call, an `End`.

    That one waits until all content up to it has been approved, and those behind it wait for it.
    Chunks have places, counted from 1; the parts of a batch have one each.
    """

    __slots__ = ("_cleared", "_placed", "_sent", "_unsent")

    def __init__(self) -> None:
        self._placed = 0  # the last chunk
        self._cleared = 0  # the last one with nothing unapproved up to its end
        self._sent = 0
        self._unsent: deque[tuple[int, Chunk]] = deque()

    @property
    def has_sent_unapproved(self) -> bool:
        """Whether anything that has been sent is behind unapproved content."""
        return self._sent > self._cleared

    def append(self, chunk: Chunk, parts: int) -> list[Chunk]:
        """Take the next chunk, which has so many parts; return those to send now."""
        self._placed += parts
        self._unsent.append((self._placed, chunk))
        return self._unblocked()

    def clear(self, count: int) -> list[Chunk]:
        """The next `count` parts have been approved; return the chunks to send now."""
        self._cleared += count
        return self._unblocked()

    def drop_last(self, count: int) -> list[Chunk]:
        """Drop the last `count` parts, and return the chunks that were not sent."""
        self._placed -= count
        dropped: list[Chunk] = []
        while self._unsent and self._unsent[-1][0] > self._placed:
            dropped.insert(0, self._unsent.pop()[1])
        return dropped

    def drop(self) -> list[Chunk]:
        """Drop everything, and return the chunks that were not sent."""
        dropped = [chunk for _, chunk in self._unsent]
        self._unsent.clear()
        self._placed = self._cleared = self._sent = 0
        return dropped

    def _unblocked(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        while self._unsent:
            place, chunk = self._unsent[0]
            if place > self._cleared and _is_binding(chunk):
                break
            self._unsent.popleft()
            self._sent = place
            chunks.append(chunk)
        return chunks


def _is_binding(chunk: Chunk) -> bool:
    """Return whether something follows from `chunk` that can't be undone: a tool runs, say."""
    return type(chunk) is ToolCall or type(chunk) is End or is_lasting(chunk)
