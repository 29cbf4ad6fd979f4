"""The shape of an operator that lets chunks go later than they came, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from reactivex import Observable, abc
from reactivex.disposable import (
    CompositeDisposable,
    Disposable,
    SerialDisposable,
    SingleAssignmentDisposable,
)

from rxllm.chunks import Chunk, is_restart
from rxllm.valve import Valve, clock_of, scheduler_or_default, valve_of, with_valve

__all__ = ["RESOLUTION", "Pacer"]

RESOLUTION = 1e-6
"""Seconds: RxPY's virtual schedulers count in whole microseconds."""


class Pacer:
    """One subscription: a queue, the valve that keeps it bounded, and one timer.

    What comes is cut into pieces, which wait in the queue. The first one leaves when it is due and
    the subscriber's valve is open. An operator says, by its own class, how a chunk is cut
    (`pieces`, `rest`) and when a piece is due (`due`), and hears of each that leaves (`left`).

    - Completion waits behind the queue. An error does not: what is held leaves first, at once.
    - A restart drops what is held of its source, and waits behind what is held of the others.
    - Disposal drops what is held.
    - Demand: upstream is held while `capacity` pieces wait, and again let go when half of them
      have left. So at most `capacity` pieces wait, those of one chunk more, and what a source
      without demand pushes all the same.

    Args:
        observer: who gets the pieces.
        scheduler: the subscribe-time scheduler; None means the running loop and no demand.
        capacity: pieces, 1 or more.
    """

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        capacity: int,
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler_or_default(scheduler)
        self.clock = clock_of(self._scheduler)
        self.queue: deque[tuple[float, Chunk]] = deque()  # when it came, in seconds, and what
        self._high = capacity
        self._low = capacity // 2
        self._downstream = valve_of(self._scheduler)
        self.valve = Valve(downstream=self._downstream)
        self._upstream = SingleAssignmentDisposable()
        self._timer = SerialDisposable()
        self._timer_at = float("inf")
        self._draining = self._completed = False
        self._subscription = CompositeDisposable(
            self._upstream,
            self._timer,
            self._downstream.on_change(self._on_valve),
            self.valve,
            Disposable(self.queue.clear),
        )

    def pieces(self, chunk: Chunk) -> Iterable[Chunk]:
        """What `chunk` is queued as, with what was kept back of the text before it."""
        return (chunk,)

    def rest(self, source: str | None) -> Iterable[Chunk]:
        """What `pieces` has kept back of `source` (None: of all), now that no text follows it."""
        return ()

    def forget(self, source: str | None) -> None:
        """Drop what `pieces` has kept back of `source` (None: of all): it begins again."""

    def due(self) -> float:
        """When the first piece of the queue may leave, in seconds of `clock`."""
        raise NotImplementedError

    def left(self, chunk: Chunk) -> None:
        """`chunk` leaves now."""

    def start(self, source: Observable[Chunk]) -> abc.DisposableBase:
        """Subscribe to `source`."""
        self._upstream.disposable = source.subscribe(
            self.on_next,
            self.on_error,
            self.on_completed,
            scheduler=with_valve(self._scheduler, self.valve),
        )
        return self._subscription

    def on_next(self, chunk: Chunk) -> None:
        """Queue what has come, and let go what is due."""
        if is_restart(chunk):
            self._drop(chunk.source)
        self._append(self.pieces(chunk))

    def on_error(self, error: Exception) -> None:
        """Let everything go at once, and then fail."""
        last = [*(piece for _, piece in self.queue), *self.rest(None)]
        self._subscription.dispose()
        for piece in last:
            self.left(piece)
            self._observer.on_next(piece)
        self._observer.on_error(error)

    def on_completed(self) -> None:
        """Complete once the queue is empty."""
        self._completed = True
        self._append(self.rest(None))

    def drain(self) -> None:
        """Let go what is due, and set the timer for the rest."""
        if self._draining:
            return  # called from inside of on_next: the loop below goes on
        self._draining = True
        try:
            while self.queue and self._downstream.is_open:
                due = self.due()
                wait = due - self.clock()
                if wait > RESOLUTION:
                    self._wake_at(due, wait)
                    return
                self._let_go()
        finally:
            self._draining = False
        if self._completed and not self.queue:
            self._subscription.dispose()
            self._observer.on_completed()

    def hold(self) -> None:
        """Hold upstream while too much waits. Called at each change of the queue."""
        waiting = len(self.queue)
        if waiting >= self._high:
            self.valve.close()
        elif waiting <= self._low:
            self.valve.open()

    def _append(self, pieces: Iterable[Chunk]) -> None:
        now = self.clock()
        self.queue.extend((now, piece) for piece in pieces)
        self.hold()
        self.drain()

    def _let_go(self) -> None:
        _, chunk = self.queue.popleft()
        self.left(chunk)
        self.hold()
        self._observer.on_next(chunk)

    def _drop(self, source: str | None) -> None:
        self.forget(source)
        if source is None:
            self.queue.clear()
        else:
            kept = [entry for entry in self.queue if entry[1].source != source]
            self.queue.clear()
            self.queue.extend(kept)

    def _wake_at(self, due: float, wait: float) -> None:
        if self._timer_at <= due + RESOLUTION:
            return  # it wakes early enough, and looks again
        self._timer_at = due
        self._timer.disposable = self._scheduler.schedule_relative(wait, self._on_timer)

    def _on_timer(self, *_: object) -> None:
        self._timer_at = float("inf")
        self.drain()

    def _on_valve(self, _: bool) -> None:
        self.drain()
