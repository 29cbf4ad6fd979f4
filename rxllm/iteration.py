"""Reading an Observable in a loop: `async for` on an event loop, `for` without one.

Both hold the source while the reader is busy, and stop it when the reader leaves.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Final, Generic, TypeVar

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.background import BackgroundLoop, background_loop
from rxllm.errors import StreamCancelledError
from rxllm.valve import StreamScheduler, Valve, report_failure

__all__ = ["to_async", "to_sync"]

_T = TypeVar("_T")

_CAPACITY: Final = 16


def to_async(stream: Observable[_T], *, capacity: int = _CAPACITY) -> AsyncGenerator[_T, None]:
    """Iterate over an Observable: `async for item in to_async(stream)`.

    A `Stream` can be iterated over directly; this takes any Observable, and a capacity.

    - Subscribes at the first step. Completion ends the loop, an error is raised by it, and so is
      the exception of an operator on the way.
    - Leaving the loop early stops the stream once the iterator is closed: at once with
      `async with contextlib.aclosing(to_async(stream)) as chunks:`, else when Python collects it.
    - Demand: the stream's valve is closed while `capacity` items wait here, and opened again when
      half of them have been taken. So at most `capacity` items wait, and those that a source
      without demand (RxPY's `of`, a subject) pushes all the same.

    Args:
        stream: the Observable.
        capacity: items that may wait here, 1 or more.

    Raises:
        TypeError: `stream` is not an Observable.
        ValueError: `capacity` is below 1.
    """
    if not isinstance(stream, Observable):
        raise TypeError(
            f"to_async takes a stream, such as model.stream(prompt); got {type(stream).__name__}"
        )
    if capacity < 1:
        raise ValueError(f"capacity must be 1 or more (items that may wait), got {capacity}")
    return _iterate(stream, capacity)


async def _iterate(stream: Observable[_T], capacity: int) -> AsyncGenerator[_T, None]:
    loop = asyncio.get_running_loop()
    news = asyncio.Event()
    reading = _Reading(stream, capacity, loop, news.set)
    reading.start()
    items = reading.items
    try:
        while True:
            while items:
                yield items.popleft()
                reading.reopen()
            if reading.ended:
                break
            news.clear()
            await news.wait()
        if reading.failure is not None:
            raise reading.failure
    finally:
        await reading.stop()


def to_sync(stream: Observable[_T]) -> Generator[_T, None, None]:
    """Iterate over an Observable without an event loop of one's own: what `for` on a `Stream` does.

    The stream runs on one background event loop of this process; the body of the loop runs on the
    caller's thread, the callbacks of operators on the background one.

    - Subscribes at the first step. Completion ends the loop, an error is raised by it, and so is
      the exception of an operator on the way.
    - Leaving the loop (`break`, an exception, Ctrl-C) stops the model at once and waits up to 5 s
      for its clean-up.
    - Demand: as `to_async`, with a capacity of 16 items.

    Raises:
        TypeError: an event loop is running in this thread, which the loop would block.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _iterate_in_background(stream)
    raise TypeError(
        "`for` would block the event loop that is running here: write `async for chunk in stream`"
    )


def _iterate_in_background(stream: Observable[_T]) -> Generator[_T, None, None]:
    handover = _Handover(stream, background_loop())
    try:
        handover.start()  # in here, so that Ctrl-C finds it to be closed
        while True:
            item = handover.take()
            if item is _END:
                return
            yield item
    finally:
        handover.close()


class _Reading(Generic[_T]):
    """One subscription, used on its event loop: items that wait, and the valve that bounds them."""

    def __init__(
        self,
        stream: Observable[_T],
        capacity: int,
        loop: asyncio.AbstractEventLoop,
        on_news: Callable[[], object],
    ) -> None:
        self.items: deque[_T] = deque()
        self.low = capacity // 2
        self.valve = Valve()
        self.ended = False
        self.failure: Exception | None = None
        self._stream = stream
        self._capacity = capacity
        self._loop = loop
        self._on_news = on_news
        self._scheduler = StreamScheduler(loop, self.valve, self.fail)
        self._subscription = SingleAssignmentDisposable()

    def start(self) -> None:
        self._subscription.disposable = self._stream.subscribe(
            self._on_next, self.end, self.end, scheduler=self._scheduler
        )

    async def stop(self) -> None:
        self._dispose()
        self.valve.dispose()
        await self._scheduler.settle()

    def _on_next(self, item: _T) -> None:
        self.items.append(item)
        if len(self.items) >= self._capacity:
            self.valve.close()
            self.reopen()  # another thread may have taken them meanwhile
        self._on_news()

    def reopen(self) -> None:
        """Open the valve, unless too many items wait."""
        if len(self.items) <= self.low:
            self.valve.open()

    def end(self, error: Exception | None = None) -> None:
        """No more items come."""
        if not self.ended:
            self.failure = error
            self.ended = True
            self._on_news()

    def fail(self, error: Exception) -> None:
        """End with what an operator or subscriber raised."""
        if self.ended:
            report_failure(self._loop, error)
        else:
            self.end(error)
            self._dispose()

    def _dispose(self) -> None:
        try:
            self._subscription.dispose()
        except Exception as error:
            report_failure(self._loop, error)


_END: Final[Any] = object()


class _Handover(Generic[_T]):
    """Items on their way from the background loop's thread to the one that reads."""

    def __init__(self, stream: Observable[_T], background: BackgroundLoop) -> None:
        self._background = background
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._opening = False  # asked for on the other thread
        self._reading = _Reading(stream, _CAPACITY, background.loop, self._notify)

    def start(self) -> None:
        """Subscribe at the next turn of the background loop."""
        self._background.loop.call_soon_threadsafe(self._start)

    def take(self) -> Any:
        """The next item, or `_END`.

        Raises:
            Exception: the error of the stream.
            StreamCancelledError: this is a fork of the process that began to read.
        """
        if os.getpid() != self._process:
            raise StreamCancelledError("a stream can't be read on in a forked process")
        reading = self._reading
        with self._changed:
            while not (reading.items or reading.ended):
                self._changed.wait()
            if not reading.items:
                if reading.failure is not None:
                    raise reading.failure
                return _END
            item = reading.items.popleft()
        if len(reading.items) <= reading.low and not (reading.valve.is_open or self._opening):
            self._opening = True
            self._background.loop.call_soon_threadsafe(self._open)
        return item

    def close(self) -> None:
        """Stop the stream, and wait for its clean-up (not if called on the background thread)."""
        if os.getpid() != self._process:
            return
        stop = self._reading.stop()
        try:
            stopping = asyncio.run_coroutine_threadsafe(stop, self._background.loop)
        except RuntimeError:  # the process ends: the loop was closed, and has cancelled all
            stop.close()
            return
        if not self._background.is_current_thread:
            stopping.result()

    def _start(self) -> None:
        try:
            self._reading.start()
        except Exception as error:
            self._reading.end(error)

    def _open(self) -> None:
        self._opening = False
        try:
            self._reading.reopen()
        except Exception as error:
            self._reading.fail(error)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify()
