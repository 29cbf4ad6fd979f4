"""The shape of an operator that lets chunks go later than they came, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.chunks import Chunk, has_output, is_restart
from rxllm.operators._deadline_timer import RESOLUTION, DeadlineTimer
from rxllm.restart import survives_restart
from rxllm.trampoline import Trampoline
from rxllm.valve import Valve, clock_of, scheduler_or_default, valve_of, with_valve

__all__ = ["CAPACITY", "RESOLUTION", "Pacer", "is_paced"]

CAPACITY: Final = 1024
"""Pieces that may wait before upstream is held."""


class Pacer:
    """One subscription: a queue, the valve that keeps it bounded, and one timer.

    What comes is cut into pieces, which wait in the queue. The first one leaves when it is due and
    the subscriber's valve is open. An operator says, by its own class, how a chunk is cut
    (`pieces`, `rest`, `forget`) and when a piece is due (`due`), and hears of each that leaves
    (`left`) and of the moment when the subscriber can take the next one (`ready`).

    - Completion waits behind the queue. An error does not: what is held leaves first, at once.
    - What `pieces` raises is such an error too. What `due` raises is the error of the piece that
      it was asked about: that one and all behind it are dropped.
    - A restart drops what is held of its source, but for what `survives_restart`, and waits behind
      that and what is held of the others.
    - Disposal drops what is held. So does an exception out of the observer, which then goes on.
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
        capacity: int = CAPACITY,
    ) -> None:
        self._observer = observer
        self.scheduler = scheduler_or_default(scheduler)
        self.clock = clock_of(self.scheduler)
        self.queue: deque[tuple[float, Chunk]] = deque()  # since when it waits, and what
        self.opened = float("-inf")  # when the subscriber's valve opened last
        self._high = capacity
        self._low = capacity // 2
        self._downstream = valve_of(self.scheduler)
        watching = self._downstream.on_change(self._on_valve)  # before upstream hears of it
        self._valve = Valve(downstream=self._downstream)
        self._upstream = SingleAssignmentDisposable()
        self._deadline_timer = DeadlineTimer(self.scheduler, self.drain)
        self._due: float | None = None  # of the first piece, once it was asked for
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
        """What `chunk` is queued as, with what was kept back of the text before it.

        Each piece with the moment from which on it waits.
        """
        return ((now, chunk),)

    def rest(self, source: str | None) -> Iterable[Chunk]:
        """What `pieces` has kept back of `source` (None: of all), now that no text follows it."""
        return ()

    def forget(self, source: str | None) -> None:
        """Drop what is kept of `source` (None: of all): it begins again."""

    def due(self, since: float) -> float:
        """When the first piece of the queue may leave, in seconds of `clock`.

        Asked once, when it has come to the front and the subscriber's valve is open.

        Args:
            since: since when it waits; not earlier than the valve has opened.
        """
        raise NotImplementedError

    def left(self, chunk: Chunk, due: float) -> None:
        """`chunk` leaves now. Not called for what an error flushes.

        Args:
            chunk: what was the first piece of the queue.
            due: when it was due; later than that, if the valve opened or it came to the front
                later. What is left of the difference to `clock()` is the lateness of the timer.
        """

    def ready(self) -> None:
        """The subscriber can take the next piece.

        Called when it has taken one and its valve is open, and else when that opens.
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
        """Queue what has come, and let go what is due."""
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
        """Let everything go at once, and then fail."""
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
        """Let go what is due, and set the timer for the rest. Called when the queue has grown."""
        self._hold()
        self._trampoline.repeat(self._send_next)

    def _send_next(self) -> bool:
        """Let the first piece go, or complete; False if nothing can leave now."""
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
        self._let_go(due)
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

    def _let_go(self, due: float) -> None:
        _, chunk = self.queue.popleft()
        self._due = None
        self.left(chunk, max(due, self.opened))
        self._observer.on_next(chunk)
        if self._downstream.is_open:
            self.ready()
        self._hold()

    def _hold(self) -> None:
        """Hold upstream while too much waits."""
        waiting = len(self.queue)
        if waiting >= self._high:
            self._valve.close()
        elif waiting <= self._low:
            self._valve.open()

    def _drop(self, source: str | None) -> None:
        self.forget(source)
        first = self.queue[0] if self.queue else None
        kept = [entry for entry in self.queue if survives_restart(entry[1], source)]
        self.queue.clear()
        self.queue.extend(kept)
        if not kept or kept[0] is not first:
            self._due = None

    def _on_valve(self, is_open: bool) -> None:
        if is_open:
            self.opened = self.clock()
            if not self._trampoline.is_running:  # else it is still taking a piece
                self.ready()
            self.drain()


def is_paced(chunk: Chunk) -> bool:
    """Whether it is text or reasoning that says something."""
    return has_output(chunk) and not chunk.is_state
