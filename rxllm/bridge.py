"""The two ways between asynchronous iterators and Observables, and the way in from a script.

`from_async` makes a cold Observable of anything that yields chunks, `to_async` iterates over an
Observable, `run` starts an event loop for a program's main coroutine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Sequence,
)
from typing import Any, Literal, TypeVar, overload

from reactivex import Observable, abc

from rxllm.pump import pump, stopping_pumps
from rxllm.valve import StreamScheduler, Valve

__all__ = ["from_async", "run", "to_async"]

_T = TypeVar("_T")


@overload
def from_async(
    factory: Callable[[], AsyncIterable[_T]], *, batched: Literal[False] = False
) -> Observable[_T]: ...
@overload
def from_async(
    factory: Callable[[], AsyncIterable[Sequence[_T]]], *, batched: Literal[True]
) -> Observable[_T]: ...
def from_async(
    factory: Callable[[], AsyncIterable[Any]], *, batched: bool = False
) -> Observable[Any]:
    """Make a cold Observable of an asynchronous iterator: each subscription calls `factory`.

    - Completion: when the iterator ends. Error: what the iterator raises, into `on_error`.
    - Disposal: synchronous and silent. The iterator's task is cancelled, its `finally` blocks run,
      and whoever subscribed with a `StreamScheduler` can await that (`settle`). An error out of
      this clean-up goes to the loop's exception handler.
    - Demand: no item is pulled and none is passed on while the subscriber's valve is closed, so
      that one item at most waits here (with `batched`, the rest of one sequence).
    - A subscriber that raises closes the iterator; its exception goes to the loop's exception
      handler and never into `on_error`, where a retry would call the model again.

    Args:
        factory: called at each subscription; gives an asynchronous iterable, such as a call of an
            asynchronous generator function.
        batched: each item is a sequence of items that came at once, passed on one by one.

    Raises:
        ValueError: `factory` can't be called (an asynchronous generator was passed, say, which
            could be subscribed to only once).

    >>> async def numbers():
    ...     for number in range(3):
    ...         yield number
    >>> async def main():
    ...     return [number async for number in to_async(from_async(numbers))]
    >>> run(main())
    [0, 1, 2]
    """
    if not callable(factory):
        raise ValueError(
            "from_async takes a function that returns an asynchronous iterator, and calls it at "
            f"each subscription; got {type(factory).__name__}: pass the function itself"
        )

    def subscribe(
        observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return pump(observer, scheduler, lambda _: factory(), batched=batched)

    return Observable(subscribe)


def to_async(stream: Observable[_T], *, capacity: int = 16) -> AsyncGenerator[_T, None]:
    """Iterate over an Observable: `async for chunk in to_async(stream)`.

    - Subscribes at the first step. Completion ends the loop, an error is raised by it.
    - Leaving the loop early stops the stream once the iterator is closed: at once with
      `async with contextlib.aclosing(to_async(stream)) as chunks:`, else when Python collects it.
    - Demand: the stream's valve is closed while `capacity` items wait here, and opened again when
      half of them have been taken. So at most `capacity` items wait, and those that a source
      without demand (RxPY's `of`, a subject) pushes all the same.

    Args:
        stream: the Observable.
        capacity: items that may wait here, 1 or more.

    Raises:
        ValueError: `capacity` is below 1.
    """
    if capacity < 1:
        raise ValueError(f"capacity is the number of items that may wait, 1 or more: {capacity}")
    return _iterate(stream, capacity)


async def _iterate(stream: Observable[_T], capacity: int) -> AsyncGenerator[_T, None]:
    loop = asyncio.get_running_loop()
    valve = Valve()
    scheduler = StreamScheduler(loop, valve)
    items: deque[_T] = deque()
    news = asyncio.Event()
    ended = False
    failure: Exception | None = None

    def on_next(item: _T) -> None:
        items.append(item)
        if len(items) >= capacity:
            valve.close()
        news.set()

    def on_end(error: Exception | None = None) -> None:
        nonlocal ended, failure
        ended, failure = True, error
        news.set()

    subscription = stream.subscribe(on_next, on_end, on_end, scheduler=scheduler)
    try:
        while True:
            while items:
                yield items.popleft()
                if len(items) <= capacity // 2:
                    valve.open()
            if ended:
                break
            news.clear()
            await news.wait()
        if failure is not None:
            raise failure
    finally:
        subscription.dispose()
        valve.dispose()
        await scheduler.settle()


def run(main: Awaitable[_T]) -> _T:
    """Run `main` (a sink, or any awaitable) in a new event loop, and return what it returns.

    Ctrl-C cancels `main`, so that its streams are stopped, and is raised as `KeyboardInterrupt`
    after the clean-up. Streams that were stopped shortly before the end get 5 s to clean up.
    With the extra `fast` installed, the loop is uvloop's.

    Args:
        main: what to await.

    Raises:
        RuntimeError: an event loop is running already: `await` it there.
        TypeError: `main` can't be awaited, or is a bare stream: give it to a sink.

    >>> async def main():
    ...     return "done"
    >>> run(main())
    'done'
    """
    # An Observable can be awaited too, but gives its last chunk only, and knows no demand.
    if isinstance(main, Observable) or not isinstance(main, Awaitable):
        raise TypeError(
            f"run takes something to await, such as a sink: run(sinks.console(stream)); "
            f"got {type(main).__name__}"
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        if asyncio.iscoroutine(main):
            main.close()
        raise RuntimeError("an event loop is running: write `await ...` in place of `run(...)`")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_until_settled(main))


async def _until_settled(main: Awaitable[_T]) -> _T:
    try:
        return await main
    finally:
        stopping = stopping_pumps(asyncio.get_running_loop())
        if stopping:
            await asyncio.wait(stopping, timeout=5.0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop  # type: ignore[no-any-return]
