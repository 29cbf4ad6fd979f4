"""Demand: how a subscriber makes a source wait.

Chunks flow down, demand flows up, both along one subscription. A sink subscribes with a scheduler
that carries a `Valve`; RxPY passes that scheduler upstream through its operators; a source checks
the valve before it pulls its next chunk. A closed valve holds the source; nothing polls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from reactivex import abc, typing
from reactivex.disposable import Disposable
from reactivex.internal.constants import UTC_ZERO
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.scheduler.periodicscheduler import PeriodicScheduler

from rxllm.errors import NoEventLoopError, StreamCancelledError

__all__ = [
    "StreamScheduler",
    "Valve",
    "Waits",
    "begin_wait",
    "clock_of",
    "clock_of_loop",
    "fail_stream",
    "report_failure",
    "run_on_loop",
    "running_loop",
    "runs_elsewhere",
    "scheduler_or_default",
    "valve_of",
    "wait_for_cleanup",
    "waits_of",
    "with_valve",
    "with_waits",
]

_State = TypeVar("_State")


class Valve:
    """The demand signal that a source checks before it pulls its next chunk.

    A valve has one owner, and only the owner opens and closes it. It is closed while its owner
    holds it closed or while the valve downstream of it is closed: each holder (a buffer, a control,
    a sink) chains its own, so that a sink can't open what a user has paused. All calls are made on
    the event loop's thread.

    Args:
        downstream: the valve that this one follows.

    Attributes:
        on_failure: called with an exception raised by a callback of this valve or of one upstream:
            opening a valve releases chunks, and so runs operators. Set by a `StreamScheduler` that
            has a sink.

    >>> sink = Valve()
    >>> pause = Valve(downstream=sink)
    >>> pause.close(); sink.close(); sink.open()
    >>> sink.is_open, pause.is_open
    (True, False)
    """

    __slots__ = (
        "_callbacks",
        "_changes",
        "_detach",
        "_downstream",
        "_held",
        "is_open",
        "on_failure",
    )

    def __init__(self, downstream: Valve | None = None) -> None:
        self.is_open: bool = downstream is None or downstream.is_open
        self._held = False
        self._changes = 0
        self.on_failure: Callable[[Exception], object] | None = None
        self._downstream = downstream
        self._callbacks: dict[object, Callable[[bool], None]] = {}
        self._detach = downstream.on_change(self._follow) if downstream is not None else None

    def close(self) -> None:
        """Hold the source. Closing a closed valve does nothing."""
        self._held = True
        self._update()

    def open(self) -> None:
        """Let the source continue, unless a valve downstream is closed."""
        self._held = False
        self._update()

    def dispose(self) -> None:
        """Open this valve and detach it permanently from downstream."""
        if self._detach is not None:
            self._detach.dispose()
        self._detach = self._downstream = None
        self.open()

    def on_change(self, callback: Callable[[bool], None]) -> abc.DisposableBase:
        """Call `callback(is_open)` after each change, until the returned disposable is disposed.

        A callback may open, close or dispose the valve. If it changes the valve, the remaining
        callbacks receive only the latest state. An exception raised by a callback goes to the
        nearest `on_failure` downstream; if there is none, it is raised to the caller that changed
        the valve, after all callbacks have been called.
        """
        key = object()
        self._callbacks[key] = callback

        def forget() -> None:
            self._callbacks.pop(key, None)

        return Disposable(forget)

    async def wait_open(self) -> None:
        """Wait until the valve is open; return at once if it is. Any number of tasks may wait."""
        while not self.is_open:
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def wake(_: bool, changed: asyncio.Future[None] = changed) -> None:
                if not changed.done():
                    changed.set_result(None)

            watching = self.on_change(wake)
            try:
                await changed
            finally:
                watching.dispose()

    def _follow(self, _: bool) -> None:
        self._update()

    def _update(self) -> None:
        downstream = self._downstream
        state = not self._held and (downstream is None or downstream.is_open)
        if state == self.is_open:
            return
        self.is_open = state
        self._changes += 1
        this_change = self._changes
        failure: Exception | None = None
        for key, callback in tuple(self._callbacks.items()):
            if self._changes != this_change:
                break  # a callback changed it again, and all have received the latest state
            if key in self._callbacks:
                try:
                    callback(state)
                except Exception as error:
                    failure = failure or error
        if failure is not None:
            self.fail(failure)

    def fail(self, failure: Exception) -> None:
        """Pass a callback's exception to the nearest `on_failure`, or raise it."""
        if self.on_failure is not None:
            self.on_failure(failure)
        elif self._downstream is not None:
            self._downstream.fail(failure)
        else:
            raise failure


class Waits:
    """Whether a stream waits for something that isn't the model, such as a slot of a pool.

    An operator with time limits hands one upstream with `with_waits`; an operator there that lets a
    stream wait calls `begin_wait`. Those further downstream are notified, too.

    Args:
        downstream: that of the subscriber, or `None`.
        on_change: called with True when a wait begins, and with False when none is left.
    """

    def __init__(self, downstream: Waits | None, on_change: Callable[[bool], object]) -> None:
        self._downstream = downstream
        self._on_change = on_change
        self._count = 0

    def begin(self) -> None:
        """A wait begins."""
        self._count += 1
        if self._count == 1:
            self._on_change(True)
        if self._downstream is not None:
            self._downstream.begin()

    def end(self) -> None:
        """A wait ends."""
        self._count -= 1
        if not self._count:
            self._on_change(False)
        if self._downstream is not None:
            self._downstream.end()


class StreamScheduler(AsyncIOScheduler):
    """An `AsyncIOScheduler` with the valve, the pump tasks and the failures of a subscription.

    `now` is the loop's monotonic clock (as a datetime, counted from the epoch), so that a step of
    the wall clock can't freeze timers. Absolute times are therefore given as
    `scheduler.now + timedelta(...)`.

    An exception raised by an `on_next`, `on_error` or `on_completed` between source and sink has
    nowhere to go in Rx: it isn't an error of the stream, and must not trigger a retry. The source,
    or the action of this scheduler that made the call, passes it to `fail`, which takes it directly
    to the sink.

    Args:
        loop: the event loop on which everything runs.
        valve: the subscriber's valve; `None` means one that is always open.
        on_failure: called with the exception of a subscriber or operator; the sink then disposes
            the stream and raises it. If `None`, it goes to the loop's exception handler.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        valve: Valve | None = None,
        on_failure: Callable[[Exception], object] | None = None,
    ) -> None:
        super().__init__(loop)
        self.loop = loop
        self.valve: Valve = valve if valve is not None else Valve()
        self.tasks: set[asyncio.Task[None]] = set()
        self.waits: Waits | None = None
        self._on_failure = on_failure
        if on_failure is not None:
            self.valve.on_failure = on_failure

    @property
    def now(self) -> datetime:
        """The loop's monotonic time."""
        return UTC_ZERO + timedelta(seconds=self.loop.time())

    def chained(self, valve: Valve) -> StreamScheduler:
        """Return a scheduler with the same loop, tasks and sink, and another valve."""
        chained = StreamScheduler(self.loop, valve)
        chained.tasks, chained._on_failure = self.tasks, self._on_failure
        chained.waits = self.waits
        return chained

    def with_sink(self, on_failure: Callable[[Exception], object]) -> StreamScheduler:
        """Return a scheduler with the same loop, tasks and valve, and another failure callback."""
        scheduler = StreamScheduler(self.loop, self.valve, on_failure)
        scheduler.tasks, scheduler.waits = self.tasks, self.waits
        return scheduler

    @property
    def has_sink(self) -> bool:
        """Whether a sink handles failures."""
        return self._on_failure is not None

    def fail(self, error: BaseException) -> None:
        """Pass the exception of a subscriber or operator to the sink.

        An `asyncio.CancelledError`, which would look like a cancellation of the sink, becomes a
        `StreamCancelledError`.
        """
        if self._on_failure is None:
            report_failure(self.loop, error)
            return
        if not isinstance(error, Exception):
            cancelled = StreamCancelledError("an operator or subscriber raised CancelledError")
            cancelled.__cause__ = error
            error = cancelled
        self._on_failure(error)

    def invoke_action(
        self, action: typing.ScheduledAction[_State], state: _State | None = None
    ) -> abc.DisposableBase:
        """Run a scheduled action; an exception that it raises is passed to `fail`."""
        try:
            return super().invoke_action(action, state)
        except (Exception, asyncio.CancelledError) as error:
            self.fail(error)
            return Disposable()

    async def settle(self, seconds: float = 5.0) -> None:
        """Wait up to `seconds` for the pump tasks of the subscription to clean up.

        Tasks that are still running after that are reported to the loop's exception handler.
        """
        if not self.tasks:
            return
        _, late = await asyncio.wait(tuple(self.tasks), timeout=seconds)
        for task in late:
            self.loop.call_exception_handler(
                {"message": f"a stream did not clean up within {seconds} s", "task": task}
            )


class _ValvedScheduler(PeriodicScheduler):
    """Any other scheduler, with a valve."""

    def __init__(self, inner: abc.SchedulerBase, valve: Valve) -> None:
        super().__init__()
        self.inner = inner
        self.valve = valve
        self.waits = waits_of(inner)

    @property
    def now(self) -> datetime:
        return self.inner.now

    def schedule(
        self, action: typing.ScheduledAction[_State], state: _State | None = None
    ) -> abc.DisposableBase:
        return self.inner.schedule(self._wrap_action(action), state)

    def schedule_relative(
        self,
        duetime: typing.RelativeTime,
        action: typing.ScheduledAction[_State],
        state: _State | None = None,
    ) -> abc.DisposableBase:
        return self.inner.schedule_relative(duetime, self._wrap_action(action), state)

    def schedule_absolute(
        self,
        duetime: typing.AbsoluteTime,
        action: typing.ScheduledAction[_State],
        state: _State | None = None,
    ) -> abc.DisposableBase:
        return self.inner.schedule_absolute(duetime, self._wrap_action(action), state)

    def _wrap_action(
        self, action: typing.ScheduledAction[_State]
    ) -> typing.ScheduledAction[_State]:
        def run(_: abc.SchedulerBase, state: _State | None = None) -> abc.DisposableBase | None:
            return action(self, state)

        return run


def with_valve(scheduler: abc.SchedulerBase | None, valve: Valve) -> abc.SchedulerBase:
    """Return `scheduler` carrying `valve`, for an operator that holds chunks to pass upstream.

    Any scheduler works (also a `TestScheduler`); `None` means the running event loop's.

    Raises:
        NoEventLoopError: `scheduler` is `None` and no event loop is running.
    """
    scheduler = scheduler_or_default(scheduler)
    if isinstance(scheduler, StreamScheduler):
        return scheduler.chained(valve)
    return _ValvedScheduler(scheduler, valve)


def with_waits(scheduler: abc.SchedulerBase | None, waits: Waits) -> abc.SchedulerBase:
    """Return `scheduler` carrying `waits`, to pass upstream; any scheduler, as for `with_valve`.

    Raises:
        NoEventLoopError: `scheduler` is `None` and no event loop is running.
    """
    carrying = with_valve(scheduler, valve_of(scheduler))
    carrying.waits = waits  # type: ignore[attr-defined]  # both kinds have it
    return carrying


def begin_wait(scheduler: abc.SchedulerBase | None) -> abc.DisposableBase:
    """Tell the operators downstream that the stream waits, until the result is disposed."""
    waits = waits_of(scheduler)
    if waits is None:
        return Disposable()
    waits.begin()
    return Disposable(waits.end)


def waits_of(scheduler: abc.SchedulerBase | None) -> Waits | None:
    """Return what `scheduler` carries, if it does."""
    waits = getattr(scheduler, "waits", None)
    return waits if isinstance(waits, Waits) else None


def valve_of(scheduler: abc.SchedulerBase | None) -> Valve:
    """Return the valve that `scheduler` carries, or a new, always-open one if it carries none."""
    valve = getattr(scheduler, "valve", None)
    return valve if isinstance(valve, Valve) else Valve()


def clock_of_loop(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return `loop.time`, or the function behind it on asyncio's own loops, which is cheaper."""
    is_asyncio = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
    return time.monotonic if is_asyncio else loop.time


def clock_of(scheduler: abc.SchedulerBase | None) -> Callable[[], float]:
    """Return a function that returns the scheduler's time in seconds, as cheaply as `loop.time()`.

    `None` means the running event loop's clock.

    Raises:
        NoEventLoopError: `scheduler` is `None` and no event loop is running.
    """
    scheduler = scheduler_or_default(scheduler)
    if isinstance(scheduler, StreamScheduler):
        return clock_of_loop(scheduler.loop)
    if isinstance(scheduler, _ValvedScheduler):
        return clock_of(scheduler.inner)
    given = scheduler
    return lambda: (given.now - UTC_ZERO).total_seconds()


def scheduler_or_default(scheduler: abc.SchedulerBase | None) -> abc.SchedulerBase:
    """Return `scheduler`, or the running event loop's if it is `None`.

    Raises:
        NoEventLoopError: `scheduler` is `None` and no event loop is running.
    """
    return scheduler if scheduler is not None else StreamScheduler(running_loop())


def fail_stream(scheduler: abc.SchedulerBase, error: BaseException) -> None:
    """Pass the exception of an operator or subscriber to the sink behind `scheduler`.

    For code that calls `on_next` neither as a source nor in an action of the scheduler, such as the
    end of a task or a control. If there is no sink, the exception is raised.
    """
    if isinstance(scheduler, StreamScheduler) and scheduler.has_sink:
        scheduler.fail(error)
    else:
        raise error


def wait_for_cleanup(scheduler: abc.SchedulerBase, task: asyncio.Task[None] | None) -> None:
    """Make the sink behind `scheduler` wait for `task`, if any, when its stream is over."""
    if task is not None and isinstance(scheduler, StreamScheduler):
        scheduler.tasks.add(task)
        task.add_done_callback(scheduler.tasks.discard)


def run_on_loop(scheduler: abc.SchedulerBase, action: Callable[[], object]) -> None:
    """Call `action` on the event loop of `scheduler`, from any thread.

    The call is immediate, unless that loop is running in another thread; then it happens in the
    loop's next iteration.
    """
    if isinstance(scheduler, StreamScheduler) and runs_elsewhere(scheduler.loop):
        scheduler.loop.call_soon_threadsafe(action)
    else:
        action()


def runs_elsewhere(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` is running in a thread other than this one."""
    try:
        return loop.is_running() and asyncio.get_running_loop() is not loop
    except RuntimeError:
        return True


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Raises:
        NoEventLoopError: no event loop is running.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise NoEventLoopError(
            "a model stream needs a running event loop: subscribe inside a coroutine, "
            "and start that with rxllm.run(...)"
        ) from None


def report_failure(loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
    """Report to the loop's handler the exception of a subscriber that has no sink to raise it."""
    loop.call_exception_handler(
        {"message": "a subscriber or operator of a stream raised", "exception": error}
    )
