"""Iteration over an Observable: `async for` on an event loop, `for` without one.

Both hold the source while the loop body is busy, and stop it when the loop is left.
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

    - Subscribes at the first step. Completion ends the loop; the loop raises the stream's error, or
      the exception of an operator upstream.
    - Leaving the loop early stops the stream once the iterator is closed: at once with
      `async with contextlib.aclosing(to_async(stream)) as chunks:`, otherwise when Python collects
      it.
    - Demand: the stream's valve is closed while `capacity` items wait here, and reopened when half
      of them have been taken. So at most `capacity` items wait, plus those that a source without
      demand (RxPY's `of`, a subject) pushes regardless.

    Args:
        stream: the Observable.
        capacity: the number of items that may wait here, 1 or more.

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
    reading = _Subscription(stream, capacity, loop, news.set)
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
    """Iterate over an Observable without a running event loop, as `for` on a `Stream` does.

    The stream runs on this process's background event loop; the loop body runs on the caller's
    thread, the callbacks of operators on the background thread.

    - Subscribes at the first step. Completion ends the loop; the loop raises the stream's error, or
      the exception of an operator upstream.
    - Leaving the loop (`break`, an exception, Ctrl-C) stops the model at once and waits up to 5 s
      for its clean-up.
    - Demand: as in `to_async`, with a capacity of 16 items.

    Raises:
        TypeError: an event loop is running in this thread; `for` would block it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _iterate_in_background(stream)
    raise TypeError(
        "`for` would block the event loop running in this thread: write `async for chunk in stream`"
    )


def _iterate_in_background(stream: Observable[_T]) -> Generator[_T, None, None]:
    handover = _Handover(stream, background_loop())
    try:
        handover.start()  # inside the `try`, so that Ctrl-C closes it
        while True:
            item = handover.take()
            if item is _END:
                return
            yield item
    finally:
        handover.close()


class _Subscription(Generic[_T]):
    """One subscription, used on its event loop: the waiting items and the valve limiting them."""

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
            self.reopen()  # another thread may have taken some meanwhile
        self._on_news()

    def reopen(self) -> None:
        """Open the valve, unless too many items wait."""
        if len(self.items) <= self.low:
            self.valve.open()

    def end(self, error: Exception | None = None) -> None:
        """Record that no more items will arrive."""
        if not self.ended:
            self.failure = error
            self.ended = True
            self._on_news()

    def fail(self, error: Exception) -> None:
        """End with an exception raised by an operator or subscriber."""
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
    """Hands items over from the background loop's thread to the reading thread."""

    def __init__(self, stream: Observable[_T], background: BackgroundLoop) -> None:
        self._background = background
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._opening = False  # requested on the other thread
        self._reading = _Subscription(stream, _CAPACITY, background.loop, self._notify)

    def start(self) -> None:
        """Subscribe in the next iteration of the background loop."""
        self._background.loop.call_soon_threadsafe(self._start)

    def take(self) -> Any:
        """Wait for the next item and return it, or `_END`.

        Raises:
            Exception: the stream's error.
            StreamCancelledError: this process is a fork of the one that started reading.
        """
        if os.getpid() != self._process:
            raise StreamCancelledError("a running stream can't be read in a forked process")
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
        """Stop the stream and wait for its clean-up, except on the background thread."""
        if os.getpid() != self._process:
            return
        stop = self._reading.stop()
        try:
            stopping = asyncio.run_coroutine_threadsafe(stop, self._background.loop)
        except RuntimeError:  # the process is exiting: the closed loop has cancelled all tasks
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
