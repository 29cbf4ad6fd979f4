"""One upstream, and all that read from it."""

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
from rxllm.valve import StreamScheduler, Valve, scheduler_or_default, with_valve

__all__ = ["Hub", "Replay"]

Replay: TypeAlias = Literal["all", "none"]


class Hub:
    """Connects to `source` when the first subscriber comes, and lets go of it after the last one.

    Args:
        source: what is shared.
        replay: what late joiners get.
        grace: seconds between the last one's leaving and the disposal.
    """

    def __init__(self, source: Observable[Chunk], replay: Replay, grace: float) -> None:
        self._source = source
        self._replay = replay
        self._grace = grace
        self._connection: _Connection | None = None
        self._lock = Lock()  # subscribers of several event loops may come at once

    @property
    def readers(self) -> tuple[Reader, ...]:
        """Those that read now, in the order of their coming."""
        return () if self._connection is None else self._connection.readers

    def join(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        on_lag: OnLag,
        capacity: int,
    ) -> Reader:
        """Start reading. What it returns has to leave."""
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
        """Begin anew with the next subscriber."""
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
        self._said = Coalesced() if replay == "all" else None
        self._valve = Valve()
        # Tasks of its own: the sink of the subscriber that came first does not wait for them.
        self._scheduler = (
            StreamScheduler(scheduler.loop, self._valve, self._on_failure)
            if isinstance(scheduler, StreamScheduler)
            else with_valve(scheduler, self._valve)
        )
        self._upstream = SingleAssignmentDisposable()
        self._leaving = SerialDisposable()
        self._holding: set[Reader] = set()
        self._trampoline = Trampoline(self._upstream)
        self._ended = False
        self._error: Exception | None = None

    @property
    def is_stranded(self) -> bool:
        """True if its event loop was closed before the upstream had come to its end."""
        scheduler = self._scheduler
        return not self._ended and (
            isinstance(scheduler, StreamScheduler) and scheduler.loop.is_closed()
        )

    def check_loop(self, scheduler: abc.SchedulerBase) -> None:
        """Refuse who would read a live stream on another event loop.

        Raises:
            StreamStateError: as said.
        """
        theirs, ours = scheduler, self._scheduler
        if not (isinstance(theirs, StreamScheduler) and isinstance(ours, StreamScheduler)):
            return
        if not self._ended and theirs.loop is not ours.loop:
            raise StreamStateError(
                "this shared stream runs on another event loop: subscribe to it there, or wait "
                "for its end"
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
        past = self._said.chunks() if self._said is not None else ()
        reader = Reader(self, observer, scheduler, on_lag, capacity, past)
        self.readers = (*self.readers, reader)
        self._leaving.disposable = Disposable()
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
        if not (self.readers or self._ended or self._grace):
            self._disconnect()
            self._hand_tasks_to(reader)
            return
        self.release(reader)
        if not (self.readers or self._ended):
            self._leaving.disposable = self._scheduler.schedule_relative(
                self._grace, self._disconnect
            )

    def _on_next(self, chunk: Chunk) -> None:
        self._trampoline.run(self._dispatch, chunk)

    def _on_end(self, error: Exception | None = None) -> None:
        self._trampoline.run(self._end, error)

    def _on_failure(self, error: Exception) -> None:
        """An operator upstream has raised: this is the sink, and its readers get the error."""
        if self._ended or not self.readers:
            report(
                self._scheduler, "an operator of a shared stream raised, and nobody reads it", error
            )
            return
        self._upstream.dispose()
        self._end(error)

    def _dispatch(self, chunk: Chunk) -> None:
        if self._said is not None:
            if is_restart(chunk):
                self._said.forget(chunk.source)
            else:
                self._said.append(chunk)
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
        """The error, if any, as an object for one reader alone, who may write into it."""
        return None if self._error is None else separate_error(self._error)

    def _disconnect(self, *_: object) -> None:
        self._hub.disconnected(self)
        self._leaving.dispose()
        self._upstream.dispose()
        self._valve.dispose()

    def _hand_tasks_to(self, reader: Reader) -> None:
        """Let the sink behind `reader` wait for the clean-up of the upstream."""
        theirs, ours = reader.scheduler, self._scheduler
        if isinstance(theirs, StreamScheduler) and isinstance(ours, StreamScheduler):
            for task in tuple(ours.tasks):
                theirs.tasks.add(task)
                task.add_done_callback(theirs.tasks.discard)
