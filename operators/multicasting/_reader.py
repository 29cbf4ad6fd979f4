"""One subscriber of a shared stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from reactivex import abc
from reactivex.disposable import SerialDisposable

from rxllm.chunks import Batch, Chunk, is_restart
from rxllm.errors import LaggedBehindError
from rxllm.operators.multicasting._backlogs import OnLag, backlog
from rxllm.operators.multicasting._report import report
from rxllm.restart import surviving
from rxllm.trampoline import Trampoline
from rxllm.valve import StreamScheduler, valve_of

__all__ = ["Reader", "Shared"]


class Shared(Protocol):
    """The source of a reader."""

    def hold(self, reader: Reader) -> None:
        """Pause the source for `reader`."""
        ...

    def release(self, reader: Reader) -> None:
        """End the pause for `reader`."""
        ...

    def leave(self, reader: Reader) -> None:
        """Remove `reader`."""
        ...


class Reader:
    """One subscription: the replayed chunks, a queue, and the subscriber's own valve.

    An exception of the subscriber never propagates from here: it is reported, and the reader
    leaves.

    Args:
        shared: the source.
        observer: the subscriber.
        scheduler: the subscriber's scheduler.
        on_lag: the policy for chunks that must wait.
        capacity: chunks that may wait in the queue.
        past: the chunks to replay first.
    """

    def __init__(
        self,
        shared: Shared,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
        on_lag: OnLag,
        capacity: int,
        past: Iterable[Chunk],
    ) -> None:
        self.scheduler = scheduler
        self.wait: SerialDisposable = SerialDisposable()  # while the source waits for a slot
        self._shared = shared
        self._observer = observer
        self._on_lag = on_lag
        self._high = capacity
        self._low = capacity // 2
        self._past = deque(past)
        self._queue = backlog(on_lag, capacity)
        self._ending: tuple[Exception | None] | None = None
        self._left = False
        self._trampoline = Trampoline()
        self._busy = bool(self._past)  # chunks wait or are being sent, or the reader has left
        self._valve = valve_of(scheduler)
        self._valve_subscription = self._valve.on_change(self.drain)

    @property
    def lag(self) -> int:
        """How many chunks the subscriber is behind."""
        past = (len(each.chunks) if type(each) is Batch else 1 for each in self._past)
        return sum(past) + self._queue.lag

    def offer(self, chunk: Chunk) -> None:
        """Send or queue `chunk`."""
        if not self._busy and self._valve.is_open:
            self._send(chunk)
            return
        if self._left or self._ending is not None:
            return  # it has left, or is being evicted
        self._busy = True
        if is_restart(chunk):
            self._take_back(chunk.source)
        if self._on_lag == "evict" and len(self._queue) >= self._high:
            self._evict()
            return
        self._queue.append(chunk)
        self._hold()
        self.drain()

    def end(self, error: Exception | None) -> None:
        """Complete or fail after the waiting chunks."""
        self._ending = (error,)
        self.drain()

    def drain(self, _: bool = True) -> None:
        """Send waiting chunks while the valve is open."""
        self._trampoline.repeat(self._send_next)

    def leave(self) -> None:
        """Stop reading, and no longer hold the source."""
        if self._left:
            return
        self._left = self._busy = True
        self._valve_subscription.dispose()
        self._drop_all()
        self._shared.leave(self)

    def _send_next(self) -> bool:
        """Send the first waiting chunk, or the end; False if neither can be sent now."""
        if self._left:
            return False
        if self._past or self._queue:
            if not self._valve.is_open:
                return False
            if self._past:
                self._send(self._past.popleft())
            else:
                self._send(self._queue.popleft())
                self._hold()
            return True
        self._busy = False
        if self._ending is not None:
            self._end(self._ending[0])
        return False

    def _end(self, error: Exception | None) -> None:
        self.leave()
        if error is None:
            self._notify(self._observer.on_completed)
        else:
            self._notify(self._observer.on_error, error)

    def _evict(self) -> None:
        error = LaggedBehindError(
            f"the subscriber was {self.lag} chunks behind and was evicted: increase capacity or "
            "choose another on_lag policy"
        )
        self._drop_all()
        self.end(error)

    def _drop_all(self) -> None:
        self._past.clear()
        self._queue = backlog(self._on_lag, self._high)

    def _take_back(self, source: str | None) -> None:
        self._past = deque(surviving(self._past, source))
        self._queue.take_back(source)

    def _hold(self) -> None:
        if self._on_lag != "block":
            return
        waiting = len(self._queue)
        if waiting >= self._high:
            self._shared.hold(self)
        elif waiting <= self._low:
            self._shared.release(self)

    def _send(self, chunk: Chunk) -> None:
        try:
            self._observer.on_next(chunk)
        except (Exception, asyncio.CancelledError) as error:
            self.leave()
            self._fail("a subscriber of a shared stream raised and was removed", error)

    def _notify(self, callback: Callable[..., None], *arguments: Exception) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            self._fail("a subscriber of a shared stream raised at its end", error)

    def _fail(self, message: str, error: BaseException) -> None:
        """Raise it in the sink of this subscriber; the others aren't affected."""
        if isinstance(self.scheduler, StreamScheduler) and self.scheduler.has_sink:
            self.scheduler.fail(error)
        else:
            report(self.scheduler, message, error)
