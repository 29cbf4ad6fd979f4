"""A shared upstream and its readers."""

from __future__ import annotations

from threading import Lock
from typing import Literal, TypeAlias

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SerialDisposable, SingleAssignmentDisposable

from rxllm.chunks import Chunk, is_restart
from rxllm.coalesced import Coalesced
from rxllm.errors import StreamStateError, separate_error
from rxllm.operators.multicasting._backlogs import OnLag
from rxllm.operators.multicasting._reader import Reader
from rxllm.operators.multicasting._report import report
from rxllm.trampoline import Trampoline
from rxllm.valve import (
    StreamScheduler,
    Valve,
    Waits,
    begin_wait,
    scheduler_or_default,
    with_valve,
    with_waits,
)

__all__ = ["Hub", "Replay"]

Replay: TypeAlias = Literal["all", "none"]


class Hub:
    """Connects to `source` for the first subscriber, and disconnects after the last one.

    Args:
        source: the shared stream.
        replay: what late joiners get.
        grace: seconds from the departure of the last subscriber to the disposal.
    """

    def __init__(self, source: Observable[Chunk], replay: Replay, grace: float) -> None:
        self._source = source
        self._replay = replay
        self._grace = grace
        self._connection: _Connection | None = None
        self._lock = Lock()  # subscribers on several event loops may join at once

    @property
    def readers(self) -> tuple[Reader, ...]:
        """The current readers, in the order they joined."""
        return () if self._connection is None else self._connection.readers

    def join(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        on_lag: OnLag,
        capacity: int,
    ) -> Reader:
        """Start reading. The caller must call `leave` on the reader."""
        scheduler = scheduler_or_default(scheduler)
        with self._lock:
            connection = self._connection
            is_new = connection is None or connection.is_stranded
            if connection is None or is_new:
                connection = _Connection(self, scheduler, self._replay, self._grace)
                self._connection = connection
        if not is_new:
            connection.check_loop(scheduler)
            return connection.join(observer, scheduler, on_lag, capacity)
        reader = connection.join(observer, scheduler, on_lag, capacity)
        connection.start(self._source)
        return reader

    def disconnected(self, connection: _Connection) -> None:
        """Start a new connection for the next subscriber."""
        if self._connection is connection:
            self._connection = None


class _Connection:
    """One subscription to the upstream."""

    def __init__(
        self, hub: Hub, scheduler: abc.SchedulerBase, replay: Replay, grace: float
    ) -> None:
        self.readers: tuple[Reader, ...] = ()
        self._hub = hub
        self._grace = grace
        self._history = Coalesced() if replay == "all" else None
        self._valve = Valve()
        # A separate set of tasks, so that the first subscriber's sink doesn't wait for them.
        own = (
            StreamScheduler(scheduler.loop, self._valve, self._on_failure)
            if isinstance(scheduler, StreamScheduler)
            else with_valve(scheduler, self._valve)
        )
        self._scheduler = with_waits(own, Waits(None, self._on_wait))
        self._is_waiting = False
        self._upstream = SingleAssignmentDisposable()
        self._leaving = SerialDisposable()
        self._holding: set[Reader] = set()
        self._trampoline = Trampoline(self._upstream)
        self._ended = False
        self._error: Exception | None = None

    @property
    def is_stranded(self) -> bool:
        """True if its event loop was closed before the upstream ended."""
        scheduler = self._scheduler
        return not self._ended and (
            isinstance(scheduler, StreamScheduler) and scheduler.loop.is_closed()
        )

    def check_loop(self, scheduler: abc.SchedulerBase) -> None:
        """Refuse a subscriber on another event loop while the stream is live.

        Raises:
            StreamStateError: the subscriber runs on another event loop.
        """
        theirs, ours = scheduler, self._scheduler
        if not (isinstance(theirs, StreamScheduler) and isinstance(ours, StreamScheduler)):
            return
        if not self._ended and theirs.loop is not ours.loop:
            raise StreamStateError(
                "this shared stream runs on another event loop: subscribe on that loop, or after "
                "the stream has ended"
            )

    def start(self, source: Observable[Chunk]) -> None:
        self._upstream.disposable = source.subscribe(
            self._on_next, self._on_end, self._on_end, scheduler=self._scheduler
        )

    def join(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
        on_lag: OnLag,
        capacity: int,
    ) -> Reader:
        past = self._history.chunks() if self._history is not None else ()
        reader = Reader(self, observer, scheduler, on_lag, capacity, past)
        self.readers = (*self.readers, reader)
        self._leaving.disposable = Disposable()
        if self._is_waiting:
            reader.wait.disposable = begin_wait(scheduler)
        if self._ended:
            reader.end(self._own_error())
        else:
            reader.drain()
        return reader

    def hold(self, reader: Reader) -> None:
        self._holding.add(reader)
        self._valve.close()

    def release(self, reader: Reader) -> None:
        self._holding.discard(reader)
        if not self._holding:
            self._valve.open()

    def leave(self, reader: Reader) -> None:
        self.readers = tuple(each for each in self.readers if each is not reader)
        reader.wait.dispose()
        if not (self.readers or self._ended or self._grace):
            self._disconnect()
            self._hand_tasks_to(reader)
            return
        self.release(reader)
        if not (self.readers or self._ended):
            self._leaving.disposable = self._scheduler.schedule_relative(
                self._grace, self._disconnect
            )

    def _on_wait(self, waiting: bool) -> None:
        self._is_waiting = waiting
        for reader in self.readers:
            reader.wait.disposable = begin_wait(reader.scheduler) if waiting else Disposable()

    def _on_next(self, chunk: Chunk) -> None:
        self._trampoline.run(self._dispatch, chunk)

    def _on_end(self, error: Exception | None = None) -> None:
        self._trampoline.run(self._end, error)

    def _on_failure(self, error: Exception) -> None:
        """Send an exception of an upstream operator to the readers, as a sink would raise it."""
        if self._ended or not self.readers:
            report(self._scheduler, "an operator raised in a shared stream without readers", error)
            return
        self._upstream.dispose()
        self._end(error)

    def _dispatch(self, chunk: Chunk) -> None:
        if self._history is not None:
            if is_restart(chunk):
                self._history.forget(chunk.source)
            else:
                self._history.append(chunk)
        for reader in self.readers:
            reader.offer(chunk)

    def _end(self, error: Exception | None) -> None:
        self._ended, self._error = True, error
        self._leaving.dispose()
        self._valve.dispose()
        for reader in self.readers:
            self._hand_tasks_to(reader)
            reader.end(self._own_error())

    def _own_error(self) -> Exception | None:
        """A copy of the error, if any, that a single reader may modify."""
        return None if self._error is None else separate_error(self._error)

    def _disconnect(self, *_: object) -> None:
        self._hub.disconnected(self)
        self._leaving.dispose()
        self._upstream.dispose()
        self._valve.dispose()

    def _hand_tasks_to(self, reader: Reader) -> None:
        """Make the sink of `reader` wait for the clean-up of the upstream."""
        theirs, ours = reader.scheduler, self._scheduler
        if isinstance(theirs, StreamScheduler) and isinstance(ours, StreamScheduler):
            for task in tuple(ours.tasks):
                theirs.tasks.add(task)
                task.add_done_callback(theirs.tasks.discard)
