"""The pump: one task that passes the items of an asynchronous iterator to an observer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from reactivex import abc
from reactivex.disposable import Disposable

from rxllm.errors import StreamCancelledError
from rxllm.valve import StreamScheduler, Valve, report_failure, running_loop, valve_of

__all__ = ["pump", "stopping_pumps"]

_stopping: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakSet[asyncio.Task[None]]]
_stopping = WeakKeyDictionary()  # by loop: each set is used only on the thread of its loop


def pump(
    observer: abc.ObserverBase[Any],
    scheduler: abc.SchedulerBase | None,
    factory: Callable[[Valve], AsyncIterable[Any]],
    *,
    batched: bool = False,
) -> abc.DisposableBase:
    """Start pumping an asynchronous iterator into `observer`: the core of `from_async`.

    Use it instead of `from_async` if the source itself needs to watch the valve.

    Args:
        observer: receives the items.
        scheduler: the subscribe-time scheduler; `None` means the running loop and no demand.
        factory: called with the subscriber's valve, returns an asynchronous iterable.
        batched: each item is a sequence of items that arrived together.

    Returns:
        A disposable that stops the pump.

    Raises:
        NoEventLoopError: no event loop is running.
    """
    loop = scheduler.loop if isinstance(scheduler, StreamScheduler) else running_loop()
    valve = valve_of(scheduler)
    fail = (
        scheduler.fail if isinstance(scheduler, StreamScheduler) else partial(report_failure, loop)
    )
    work = _Pump(observer, valve, lambda: factory(valve), batched, fail, loop)
    task = loop.create_task(work.run(), name="rxllm pump")
    stopping = _stopping.setdefault(loop, WeakSet())
    if isinstance(scheduler, StreamScheduler):
        scheduler.tasks.add(task)
        task.add_done_callback(scheduler.tasks.discard)

    def dispose() -> None:
        work.stopped = True
        stopping.add(task)
        # Inside its own on_next the pump checks the flag next, and an iterator that is closing
        # ends by itself: a cancellation would only interrupt the clean-up.
        if not (work.emitting or work.closing):
            task.cancel()

    return Disposable(dispose)


class _Pump:
    """One iterator, pumped into one observer."""

    def __init__(
        self,
        observer: abc.ObserverBase[Any],
        valve: Valve,
        factory: Callable[[], AsyncIterable[Any]],
        batched: bool,
        fail: Callable[[BaseException], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._observer = observer
        self._valve = valve
        self._factory = factory
        self._batched = batched
        self._fail = fail
        self._loop = loop
        self.stopped = self.emitting = self.closing = False

    async def run(self) -> None:
        """Pump until the iterator ends or fails, the observer raises, or `stopped` is set."""
        failure: Exception | None = None
        try:
            iterator = aiter(self._factory())
            try:
                await self._forward(iterator)
            finally:
                self.closing = True
                close = getattr(iterator, "aclose", None)
                if close is not None:
                    await close()
        except asyncio.CancelledError:
            if not self.stopped:
                self._notify(
                    self._observer.on_error,
                    StreamCancelledError("the task behind this stream was cancelled"),
                )
            raise
        except Exception as error:
            failure = error
        if self.stopped:
            if failure is not None:  # from the clean-up: no subscriber's stream has failed
                report_failure(self._loop, failure)
        elif failure is not None:
            self._notify(self._observer.on_error, failure)
        else:
            self._notify(self._observer.on_completed)

    async def _forward(self, iterator: AsyncIterator[Any]) -> None:
        valve, observer, batched = self._valve, self._observer, self._batched
        while not self.stopped:
            if not valve.is_open:
                await valve.wait_open()
            try:
                item = await anext(iterator)
            except StopAsyncIteration:
                return
            for chunk in item if batched else (item,):
                if not valve.is_open:
                    await valve.wait_open()
                self.emitting = True
                try:
                    observer.on_next(chunk)
                except (Exception, asyncio.CancelledError) as error:
                    self.stopped = True
                    self._fail(error)
                finally:
                    self.emitting = False
                if self.stopped:
                    return

    def _notify(self, callback: Callable[..., None], *arguments: Exception) -> None:
        self.stopped = True
        try:
            callback(*arguments)
        except Exception as error:
            self._fail(error)


def stopping_pumps(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[None]]:
    """Return the pumps of `loop` that are still cleaning up after their disposal."""
    return {task for task in _stopping.get(loop, ()) if not task.done()}
