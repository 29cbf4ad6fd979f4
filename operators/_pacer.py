"""The base of operators that delay chunks, keeping their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.chunks import Chunk, Reasoning, Token, has_output, is_restart
from rxllm.operators._deadline_timer import RESOLUTION, DeadlineTimer
from rxllm.restart import committed, survives_restart
from rxllm.trampoline import Trampoline
from rxllm.valve import Valve, clock_of, scheduler_or_default, valve_of, with_valve

__all__ = ["CAPACITY", "RESOLUTION", "Pacer", "is_paced"]

CAPACITY: Final = 1024
"""Pieces that may be queued before upstream is held."""


class Pacer:
    """One subscription: a queue, the valve that keeps it bounded, and one timer.

    Chunks are split into pieces, which are queued. The first piece is released once it is due and
    the subscriber's valve is open. A subclass defines how a chunk is split (`pieces`, `rest`,
    `forget`) and when a piece is due (`due`), and is notified of each release (`left`) and when
    the subscriber can take the next piece (`ready`).

    - Completion waits behind the queue. An error does not: queued pieces are released at once,
      before it.
    - An exception raised by `pieces` is handled as such an error. One raised by `due` takes the
      place of the piece in question: that piece and all behind it are dropped.
    - A restart drops the queued pieces of its source, except those that `survives_restart`, and
      waits behind these and the pieces of other sources.
    - Disposal drops the queue. So does an exception raised by the observer, which is propagated.
    - Demand: upstream is held once `capacity` pieces are queued, and resumed when half of them
      have been released. So at most `capacity` pieces are queued, plus those of one more chunk, and
      whatever a source that ignores demand still pushes.

    Args:
        observer: receives the pieces.
        scheduler: the subscribe-time scheduler; `None` means the running loop and no demand.
        capacity: pieces, 1 or more.
    """

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        capacity: int = CAPACITY,
    ) -> None:
        self._observer = observer
        self.scheduler = scheduler_or_default(scheduler)
        self.clock = clock_of(self.scheduler)
        self.queue: deque[tuple[float, Chunk]] = deque()  # (waiting since, piece)
        self.opened = float("-inf")  # when the subscriber's valve last opened
        self._high = capacity
        self._low = capacity // 2
        self._downstream = valve_of(self.scheduler)
        watching = self._downstream.on_change(self._on_valve)  # before upstream is notified
        self._valve = Valve(downstream=self._downstream)
        self._upstream = SingleAssignmentDisposable()
        self._deadline_timer = DeadlineTimer(self.scheduler, self.drain)
        self._due: float | None = None  # of the first piece, once computed
        self._completed = False
        self.subscription = CompositeDisposable(
            self._upstream,
            self._deadline_timer,
            watching,
            self._valve,
            Disposable(self.queue.clear),
        )
        self._trampoline = Trampoline(self.subscription)

    def pieces(self, chunk: Chunk, now: float) -> Iterable[tuple[float, Chunk]]:
        """Return the pieces to queue for `chunk`, including text kept before it.

        Each piece comes with the time from which it waits.
        """
        return ((now, chunk),)

    def rest(self, source: str | None) -> Iterable[Chunk]:
        """Return the text of `source` kept by `pieces`, now complete; `None` means all sources."""
        return ()

    def forget(self, source: str | None) -> None:
        """Drop the kept text of `source`, which restarts; `None` means all sources."""

    def due(self, since: float) -> float:
        """Return when the first piece of the queue may be released, in seconds of `clock`.

        Called once per piece, when it is at the front and the subscriber's valve is open.

        Args:
            since: when it began to wait; not earlier than the valve opened.
        """
        raise NotImplementedError

    def left(self, chunk: Chunk, due: float) -> None:
        """Called when `chunk` is released. Not called for pieces flushed by an error.

        Args:
            chunk: the former first piece of the queue.
            due: when it was due, or when the valve opened or it reached the front, if that was
                later. The remaining difference to `clock()` is the lateness of the timer.
        """

    def ready(self) -> None:
        """Called when the subscriber can take the next piece.

        That is after it has taken one, if its valve is open, or else when the valve opens.
        """

    def start(self, source: Observable[Chunk]) -> abc.DisposableBase:
        """Subscribe to `source`."""
        self._upstream.disposable = source.subscribe(
            self.on_next,
            self.on_error,
            self.on_completed,
            scheduler=with_valve(self.scheduler, self._valve),
        )
        return self.subscription

    def on_next(self, chunk: Chunk) -> None:
        """Queue the chunk, and release what is due."""
        if is_restart(chunk):
            self._drop(chunk.source)
        try:
            for piece in self.pieces(chunk, self.clock()):
                self.queue.append(piece)
        except Exception as error:
            self.on_error(error)
        else:
            self.drain()

    def on_error(self, error: Exception) -> None:
        """Release everything at once, then fail."""
        last = [*(piece for _, piece in self.queue), *self.rest(None)]
        self.subscription.dispose()
        for piece in last:
            self._observer.on_next(piece)
        self._observer.on_error(error)

    def on_completed(self) -> None:
        """Complete once the queue is empty."""
        self._completed = True
        now = self.clock()
        self.queue.extend((now, piece) for piece in self.rest(None))
        self.drain()

    def drain(self) -> None:
        """Release what is due, and set the timer for the rest. Called when the queue has grown."""
        self._hold()
        self._trampoline.repeat(self._send_next)

    def _send_next(self) -> bool:
        """Release the first piece, or complete; False if nothing can be sent now."""
        if not self.queue:
            if self._completed:
                self.subscription.dispose()
                self._observer.on_completed()
            return False
        if not self._downstream.is_open:
            return False
        due = self._due_of_first()
        if due is None:
            return False
        if due - self.clock() > RESOLUTION:
            self._deadline_timer.set(due)
            return False
        self._release(due)
        return True

    def _due_of_first(self) -> float | None:
        if self._due is None:
            since = max(self.queue[0][0], self.opened)
            try:
                self._due = max(self.due(since), self.clock())
            except Exception as error:
                self.subscription.dispose()
                self._observer.on_error(error)
        return self._due

    def _release(self, due: float) -> None:
        _, chunk = self.queue.popleft()
        self._due = None
        self.left(chunk, max(due, self.opened))
        self._observer.on_next(chunk)
        if self._downstream.is_open:
            self.ready()
        self._hold()

    def _hold(self) -> None:
        """Hold upstream while the queue is too long."""
        waiting = len(self.queue)
        if waiting >= self._high:
            self._valve.close()
        elif waiting <= self._low:
            self._valve.open()

    def _drop(self, source: str | None) -> None:
        self.forget(source)
        first = self.queue[0] if self.queue else None
        lasting = committed([chunk for _, chunk in self.queue], source)
        kept = [
            entry
            for position, entry in enumerate(self.queue)
            if position < lasting or survives_restart(entry[1], source)
        ]
        self.queue.clear()
        self.queue.extend(kept)
        if not kept or kept[0] is not first:
            self._due = None

    def _on_valve(self, is_open: bool) -> None:
        if is_open:
            self.opened = self.clock()
            if not self._trampoline.is_running:  # otherwise it is still taking a piece
                self.ready()
            self.drain()


def is_paced(chunk: Chunk) -> bool:
    """Whether `chunk` is non-empty text or reasoning."""
    if type(chunk) is Token or type(chunk) is Reasoning:
        return bool(chunk.text)
    return has_output(chunk) and not chunk.is_state
