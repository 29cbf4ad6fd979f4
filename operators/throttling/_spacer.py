"""Pieces of text that leave one after another: what `smooth` and `typewriter` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from reactivex import abc

from rxllm.chunks import Batch, Chunk, Token, text_of
from rxllm.operators._deadline_timer import RESOLUTION, DeadlineTimer
from rxllm.operators._graphemes import border, settled
from rxllm.operators._held_text import HeldText, confidence_of
from rxllm.operators._pacer import Pacer
from rxllm.restart import forget, matching_sources

__all__ = ["LONGEST_PIECE", "Cut", "Spacer", "by_character"]

LONGEST_PIECE: Final = 1024
"""Characters after which a text that has no end of a piece is cut all the same."""

Cut: TypeAlias = Callable[[str, int, int], int | None]
"""Where the piece that begins at a place of a text ends, if that is known yet. The third argument
is how much of the text has been looked at before: a piece that begins in there ends behind it."""


def by_character(text: str, start: int, _: int) -> int | None:
    """A piece is one grapheme: the end is moved behind it."""
    return start + 1


class Spacer(Pacer):
    """Cuts the text of each source into pieces, which leave some time apart.

    A piece leaves `seconds` after the one before it, or sooner, so that all that wait have left
    `max_lag` after they came; and none leaves before it has come. Time in which the subscriber's
    valve is closed does not count. Text that is no piece after `max_lag` leaves as it is, but for
    its last grapheme.

    Args:
        observer: who gets the pieces.
        scheduler: the subscribe-time scheduler; None means the running loop and no demand.
        cut: where a piece ends; moved to the next border of graphemes.
        seconds: between two pieces.
        max_lag: seconds; infinite, if nothing may leave sooner.
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
        self._last = float("-inf")  # when a piece left, or should have
        self._look = DeadlineTimer(self.scheduler, self._on_look)
        self.subscription.add(self._look)

    def pieces(self, chunk: Chunk, now: float) -> Iterable[tuple[float, Chunk]]:
        if type(chunk) is Token:
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
        if type(self.queue[0][1]) is not Token:
            return since
        newest = max(self.queue[-1][0], self.opened)
        gap = (newest + self._max_lag - self._last) / len(self.queue)
        return min(self._last + min(gap, self._seconds), since + self._max_lag)

    def left(self, chunk: Chunk, due: float) -> None:
        if type(chunk) is Token:
            # A late timer is made up for, but no more than one piece's time.
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
            self._look.set(now + self._max_lag)

    def _end_of_piece(self, text: str, start: int, known: int) -> int | None:
        end = self._cut(text, start, known)
        if end is None or end - start > LONGEST_PIECE:
            end = start + LONGEST_PIECE
        if end >= len(text):
            return None
        end = border(text, start, end)
        return end if end < len(text) else None

    def _on_look(self) -> None:
        """Let go the unfinished text that is too old."""
        if not self._downstream.is_open:
            return  # to be looked at anew when it opens
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
        self._look.set(first + self._max_lag)
        self.drain()

    def _on_valve(self, is_open: bool) -> None:
        super()._on_valve(is_open)
        if is_open and self._unfinished:
            self._look.set(self.opened + self._max_lag)


class _Unfinished:
    """The text of one source that is no piece yet."""

    __slots__ = ("_held", "_source", "since", "text")

    def __init__(self, source: str | None) -> None:
        self._source = source
        self._held = HeldText()
        self.text = ""
        self.since: float | None = None  # None: what there is may wait for what comes next

    def append(self, token: Token) -> None:
        if token.text:
            self._held.append(token)
            self.text += token.text

    def take(self, length: int) -> Token:
        """The next piece. `text` is left to the caller, who cuts many pieces from it."""
        taken = self._held.take(length)
        return Token("".join(map(text_of, taken)), confidence_of(taken), source=self._source)
