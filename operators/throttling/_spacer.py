"""Pieces of text sent at an interval: what `smooth` and `typewriter` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from reactivex import abc

from rxllm.chunks import Batch, Chunk, Token, is_bare_state
from rxllm.operators._deadline_timer import RESOLUTION, DeadlineTimer
from rxllm.operators._graphemes import border, settled
from rxllm.operators._held_text import HeldText, is_text, joined
from rxllm.operators._pacer import Pacer
from rxllm.restart import forget, matching_sources

__all__ = ["LONGEST_PIECE", "Cut", "Spacer", "by_character"]

LONGEST_PIECE: Final = 1024
"""Length at which text without a piece border is cut, in characters."""

Cut: TypeAlias = Callable[[str, int, int], int | None]
"""Takes a text, the start of a piece, and how many characters have been searched before. Returns
the end of the piece, or `None` if it isn't known yet. A piece that starts within the searched part
ends after it."""


def by_character(text: str, start: int, _: int) -> int | None:
    """A piece is one grapheme; the caller moves the end to the next border."""
    return start + 1


class Spacer(Pacer):
    """Cuts the text of each source into pieces and sends them at an interval.

    A piece is sent `seconds` after the previous one, or sooner, so that all waiting pieces are sent
    within `max_lag` of their arrival; none is sent before it arrives. Time while the subscriber's
    valve is closed doesn't count. Text that isn't a piece after `max_lag` is sent as it is, except
    for its last grapheme.

    Args:
        observer: receives the pieces.
        scheduler: the subscribe-time scheduler; `None` means the running loop and no demand.
        cut: finds the end of a piece, which is moved to the next grapheme border.
        seconds: interval between two pieces.
        max_lag: maximum time that text waits, in seconds; infinity disables catching up.
    """

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        cut: Cut,
        seconds: float,
        max_lag: float,
    ) -> None:
        super().__init__(observer, scheduler)
        self._cut = cut
        self._seconds = seconds
        self._max_lag = max_lag
        self._unfinished: dict[str | None, _Unfinished] = {}
        self._last = float("-inf")  # when the last piece was sent, or was due
        self._lag_timer = DeadlineTimer(self.scheduler, self._on_lag)
        self.subscription.add(self._lag_timer)

    def pieces(self, chunk: Chunk, now: float) -> Iterable[tuple[float, Chunk]]:
        if type(chunk) is Token and not is_bare_state(chunk):
            yield from self._text(chunk, now)
        elif type(chunk) is Batch:
            for part in chunk.chunks:
                yield from self.pieces(part, now)
        else:
            for piece in self.rest(chunk.source):
                yield now, piece
            yield now, chunk

    def rest(self, source: str | None) -> Iterable[Chunk]:
        for each in matching_sources(self._unfinished, source):
            unfinished = self._unfinished.pop(each)
            if unfinished.text:
                yield unfinished.take(len(unfinished.text))

    def forget(self, source: str | None) -> None:
        forget(self._unfinished, source)

    def due(self, since: float) -> float:
        if not is_text(self.queue[0][1]):
            return since
        newest = max(self.queue[-1][0], self.opened)
        gap = (newest + self._max_lag - self._last) / len(self.queue)
        return min(self._last + min(gap, self._seconds), since + self._max_lag)

    def left(self, chunk: Chunk, due: float) -> None:
        if is_text(chunk):
            # Make up for a late timer, but by no more than the time of one piece.
            self._last = max(due, self.clock() - self._seconds)

    def _text(self, token: Token, now: float) -> Iterable[tuple[float, Chunk]]:
        unfinished = self._unfinished.get(token.source)
        if unfinished is None:
            unfinished = self._unfinished[token.source] = _Unfinished(token.source)
        known = len(unfinished.text)
        unfinished.append(token)
        since = now if unfinished.since is None else unfinished.since
        start, text = 0, unfinished.text
        while start < len(text):
            end = self._end_of_piece(text, start, known)
            if end is None:
                break
            yield since, unfinished.take(end - start)
            start, since = end, now
        unfinished.text = text[start:]
        unfinished.since = since
        if unfinished.text:
            self._lag_timer.set(now + self._max_lag)

    def _end_of_piece(self, text: str, start: int, known: int) -> int | None:
        end = self._cut(text, start, known)
        if end is None or end - start > LONGEST_PIECE:
            end = start + LONGEST_PIECE
        if end >= len(text):
            return None
        end = border(text, start, end)
        return end if end < len(text) else None

    def _on_lag(self) -> None:
        """Queue unfinished text that has waited too long."""
        if not self._downstream.is_open:
            return  # checked again when the valve opens
        now, first = self.clock(), float("inf")
        for unfinished in self._unfinished.values():
            if unfinished.since is None:
                continue
            since = max(unfinished.since, self.opened)
            if since + self._max_lag > now + RESOLUTION:
                first = min(first, since)
                continue
            unfinished.since = None
            length = settled(unfinished.text)
            if length:
                self.queue.append((since, unfinished.take(length)))
                unfinished.text = unfinished.text[length:]
        self._lag_timer.set(first + self._max_lag)
        self.drain()

    def _on_valve(self, is_open: bool) -> None:
        super()._on_valve(is_open)
        if is_open and self._unfinished:
            self._lag_timer.set(self.opened + self._max_lag)


class _Unfinished:
    """The text of one source that isn't a complete piece yet."""

    __slots__ = ("_held", "_source", "since", "text")

    def __init__(self, source: str | None) -> None:
        self._source = source
        self._held = HeldText()
        self.text = ""
        self.since: float | None = None  # None if the text has no deadline

    def append(self, token: Token) -> None:
        if token.text:
            self._held.append(token)
            self.text += token.text

    def take(self, length: int) -> Token:
        """Take the next piece. The caller updates `text`, since it cuts many pieces from it."""
        return joined(self._held.take(length), self._source)
