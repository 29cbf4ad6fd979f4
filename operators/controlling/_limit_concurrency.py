"""`limit_concurrency`: run a stream in a slot of a `Pool`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextvars import copy_context
from typing import Final

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable
from reactivex.disposable import SingleAssignmentDisposable as Single

from rxllm.arguments import check_callable
from rxllm.chunks import Chunk, Progress
from rxllm.errors import PoolFullError
from rxllm.operators._deadline_timer import start_patient_timer
from rxllm.operators.controlling._limit import limit
from rxllm.operators.controlling._pool import Pool, SlotPool
from rxllm.stream import Stream
from rxllm.valve import (
    StreamScheduler,
    Valve,
    begin_wait,
    clock_of,
    run_on_loop,
    scheduler_or_default,
    valve_of,
    wait_for_cleanup,
    with_valve,
)

__all__ = ["limit_concurrency"]


_REPORT_AFTER: Final = 0.5
_REPORT_SECONDS: Final = 1.0


def limit_concurrency(
    pool: SlotPool,
    *,
    client: Hashable = None,
    progress: bool = False,
    on_admit: Callable[[float], object] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Run the stream in a slot of `pool`, waiting for one if all are taken.

    ::

        S-a-b-E|
        [ limit_concurrency(pool) ]          f: a slot becomes free
        ---fS-a-b-E|
        ------------#             #: none within `pool.wait` seconds: PoolFullError

    The slot, or a place in the queue, is taken on subscription, so a stream that nobody reads
    holds none. It is released on completion, error and disposal, before the subscriber is
    notified, and goes to the next stream that waits (see `Pool`), which starts in the next turn of
    its scheduler, with the context variables of its own subscription. Put the operator before
    `retry_with_backoff`, so that each attempt takes its own slot and none is held during the
    backoff, and before `pausable`, so that a stream can be stopped while it waits and a pause that
    exceeds its limit releases the slot. A stream that holds a slot while waiting for a second one
    from the same pool can deadlock until `pool.wait` expires.

    - Completion, error: passed on after the slot is released.
    - Restart: passed on; the slot is kept.
    - Disposal: upstream is disposed, then the slot or the place in the queue is released; the
      same if a subscriber raises.
    - Demand: passes through; nothing is held. A stream whose subscriber can't keep up keeps its
      slot, unless the pool lends it (`lend_after`): then the source is held until it has one again.
      The wait for the first slot continues while the valve is closed.

    Args:
        pool: the pool that provides the slots: a `Pool`, or a `rxllm.redis.RedisPool`.
        client: whose stream it is, among whom the pool is fair. By default all belong to one.
        progress: whether a stream that waits emits `Progress` with the stage `"queue"` and its
            `place`: after half a second, then each second if that has changed, and 0 when it has
            its slot.
        on_admit: called with the seconds that a stream has waited, when it has its slot.

    Raises:
        TypeError: `pool` is not a `SlotPool`, `client` not hashable, or `on_admit` not callable.
        PoolFullError: into `on_error`: the queue is full, or no slot became free in time.
        StoreUnavailableError: into `on_error`: the processes that share the pool have lost contact.

    >>> from rxllm.testing import Marbles
    >>> marbles, pool = Marbles(), Pool(1)
    >>> first = marbles.subscribe(marbles.cold("a---|").pipe(limit_concurrency(pool)))
    >>> pool
    Pool(limit=1, queue=100, wait=30.0): 1 active, 0 waiting
    >>> for time, event in marbles.run(marbles.cold("b-|").pipe(limit_concurrency(pool))):
    ...     print(time, getattr(event, "text", event))
    4.0 b
    6.0 |
    """
    if not isinstance(pool, SlotPool):
        raise TypeError(f"pool must be a Pool, got {type(pool).__name__}")
    hash(client)  # raises a TypeError
    if on_admit is not None:
        check_callable("on_admit", on_admit, "what is called when a stream has its slot")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        if pool.limiter is not None:
            source = limit(pool.limiter)(source)

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            scheduler = scheduler_or_default(scheduler)
            stream = _Subscription(source, observer, scheduler, pool, client)
            stream.waiting = _Waiting(stream, scheduler, pool, progress, on_admit)
            return stream.start()

        return Stream(subscribe, "limit_concurrency", of_chunks=True)

    return operator


class _Subscription:
    """One subscription."""

    def __init__(
        self,
        source: Observable[Chunk],
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
        pool: SlotPool,
        client: Hashable,
    ) -> None:
        self.client = client
        self.waiting: _Waiting
        self._source = source
        self._observer = observer
        self._scheduler = scheduler
        self._pool = pool
        self._context = copy_context()
        self._has_begun = False
        self._upstream = Single()
        self._timer = SerialDisposable()  # for the wait, then for the start
        self._subscription = CompositeDisposable(
            self._upstream, self._timer, Disposable(self._leave)
        )
        self._demand: _Demand | None = None
        if isinstance(pool, Pool) and pool.lend_after is not None:
            self._demand = _Demand(self, scheduler, pool, pool.lend_after)
            self._scheduler = with_valve(scheduler, self._demand.valve)

    def start(self) -> abc.DisposableBase:
        if self._pool.enter(self):
            self._begin()
        else:
            self._timer.disposable = start_patient_timer(
                self._scheduler, self._pool.wait, self._give_up
            )
            self.waiting.begin()
        return self._subscription

    @property
    def is_stranded(self) -> bool:
        scheduler = self._scheduler
        return isinstance(scheduler, StreamScheduler) and scheduler.loop.is_closed()

    def admit(self) -> None:
        run_on_loop(self._scheduler, self._begin_later)

    def refuse(self, error: Exception) -> None:
        def fail(*_: object) -> None:
            self._context.copy().run(self._on_error, error)

        self._timer.disposable = self._scheduler.schedule(fail)

    def _begin_later(self) -> None:
        # In a separate turn: this subscriber's code must not run inside another stream's end.
        self._timer.disposable = self._scheduler.schedule(self._begin_in_context)

    def _begin_in_context(self, *_: object) -> None:
        self._context.copy().run(self._begin)  # else in that of the stream that has just ended

    def _begin(self) -> None:
        if self._demand is not None:
            self._demand.begin()
        if self._has_begun:  # its slot was lent, and it has one again
            return
        self._has_begun = True
        try:
            self.waiting.end()
        except Exception as error:  # of `on_admit`
            self._on_error(error)
            return
        if self._subscription.is_disposed:
            return
        self._upstream.disposable = self._source.subscribe(
            self.emit, self._on_error, self._on_completed, scheduler=self._scheduler
        )

    def emit(self, chunk: Chunk) -> None:
        try:
            self._observer.on_next(chunk)
        except BaseException:
            self._subscription.dispose()
            raise

    def _give_up(self) -> None:
        self._leave()
        self._observer.on_error(
            PoolFullError(
                f"none of {self._pool.limit} slots became free within {self._pool.wait:g} s"
            )
        )

    def _on_error(self, error: Exception) -> None:
        self._leave()
        self._observer.on_error(error)

    def _on_completed(self) -> None:
        self._leave()
        self._observer.on_completed()

    def _leave(self) -> None:
        self.waiting.dispose()
        if self._demand is not None:
            self._demand.dispose()
        wait_for_cleanup(self._scheduler, self._pool.leave(self))


class _Waiting(abc.DisposableBase):
    """Reports the place of a stream in the queue, and how long it has waited."""

    def __init__(
        self,
        stream: _Subscription,
        scheduler: abc.SchedulerBase,
        pool: SlotPool,
        progress: bool,
        on_admit: Callable[[float], object] | None,
    ) -> None:
        self._stream = stream
        self._scheduler = scheduler
        self._pool = pool
        self._progress = progress
        self._on_admit = on_admit
        self._since: float | None = None
        self._wait = SerialDisposable()
        self._reported: int | None = None
        self._timer = SerialDisposable()

    def begin(self) -> None:
        """The stream waits."""
        self._since = clock_of(self._scheduler)()
        self._wait.disposable = begin_wait(self._scheduler)
        if self._progress:
            self._timer.disposable = start_patient_timer(self._scheduler, _REPORT_AFTER, self._look)

    def end(self) -> None:
        """The stream has its slot."""
        self.dispose()
        waited = self._waited()
        if self._on_admit is not None:
            self._on_admit(waited)
        if self._reported is not None:
            self._report(0, waited)

    def dispose(self) -> None:
        self._timer.dispose()
        self._wait.dispose()

    def _look(self) -> None:
        self._timer.disposable = start_patient_timer(self._scheduler, _REPORT_SECONDS, self._look)
        place = self._pool.place(self._stream)
        # `None` if it has been admitted and is about to begin, or if its place isn't known yet.
        if place is not None and place != self._reported:
            self._reported = place
            self._report(place, self._waited())

    def _waited(self) -> float:
        return 0.0 if self._since is None else clock_of(self._scheduler)() - self._since

    def _report(self, place: int, waited: float) -> None:
        self._stream.emit(Progress(0, waited, stage="queue", place=place))


class _Demand(abc.DisposableBase):
    """Lends the slot of a stream that is paused, and holds its source until it has one again.

    Args:
        stream: the stream, as the pool knows it.
        scheduler: has the valve of the subscriber.
        pool: the pool.
        after: seconds that a pause takes before the slot is lent.

    Attributes:
        valve: the valve of the source.
    """

    def __init__(
        self, stream: _Subscription, scheduler: abc.SchedulerBase, pool: Pool, after: float
    ) -> None:
        self._stream = stream
        self._scheduler = scheduler
        self._pool = pool
        self._after = after
        self._downstream = valve_of(scheduler)
        self.valve = Valve(downstream=self._downstream)
        self._is_lending = self._has_slot = False
        self._timer = SerialDisposable()
        self._watching = SerialDisposable()

    def begin(self) -> None:
        """Follow the subscriber's valve, now that the stream has a slot."""
        self._is_lending, self._has_slot = False, True
        self.valve.open()
        self._watching.disposable = self._downstream.on_change(self._on_change)
        self._on_change(self._downstream.is_open)

    def dispose(self) -> None:
        self._timer.dispose()
        self._watching.dispose()
        self.valve.dispose()

    def _on_change(self, is_open: bool) -> None:
        if not is_open:
            self._timer.disposable = start_patient_timer(self._scheduler, self._after, self._lend)
            return
        self._timer.disposable = Disposable()
        if self._is_lending:
            self._is_lending = False
            self._has_slot = self._pool.take_back(self._stream)
            if self._has_slot:
                self.valve.open()

    def _lend(self) -> None:
        if not self._has_slot:  # or it has just been admitted, and is about to begin
            return
        self._is_lending = True
        self.valve.close()
        self._pool.lend(self._stream)
