"""Entry points: `from_async` wraps an asynchronous iterator, `run` runs a stream in a script."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Sequence,
)
from typing import Any, Literal, TypeVar, overload

from reactivex import Observable, abc

from rxllm.background import loop_factory
from rxllm.chunks import Chunk
from rxllm.consumer import consume
from rxllm.pump import pump, stopping_pumps
from rxllm.result import Result
from rxllm.stream import Stream

__all__ = ["from_async", "run"]

_T = TypeVar("_T")


@overload
def from_async(
    factory: Callable[[], AsyncIterable[_T]], *, batched: Literal[False] = False
) -> Stream[_T]: ...
@overload
def from_async(
    factory: Callable[[], AsyncIterable[Sequence[_T]]], *, batched: Literal[True]
) -> Stream[_T]: ...
def from_async(factory: Callable[[], AsyncIterable[Any]], *, batched: bool = False) -> Stream[Any]:
    """Make a `Stream` from an asynchronous iterator; each subscription calls `factory`.

    - Completion: when the iterator ends. Error: an exception of the iterator goes to `on_error`.
    - Disposal: synchronous and silent. The iterator's task is cancelled and its `finally` blocks
      run; a subscriber with a `StreamScheduler` can await this clean-up (`settle`). An exception
      raised by the clean-up goes to the loop's exception handler.
    - Demand: no item is pulled or passed on while the subscriber's valve is closed, so at most one
      item waits here (with `batched`, the rest of one sequence).
    - An operator or subscriber that raises closes the iterator; its exception goes to the sink, or
      to the loop's exception handler if there is no sink, and never to `on_error`, where a retry
      would call the model again.

    Args:
        factory: called at each subscription; returns an asynchronous iterable. An asynchronous
            generator function is one.
        batched: each item is a sequence of items that arrived together and are passed on one by
            one.

    Raises:
        ValueError: `factory` is not callable (for example, it is an asynchronous generator, which
            could be subscribed to only once).

    >>> async def numbers():
    ...     for number in range(3):
    ...         yield number
    >>> async def main():
    ...     return [number async for number in from_async(numbers)]
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

    return Stream(subscribe, "from_async")


@overload
def run(main: Observable[Chunk]) -> Result: ...
@overload
def run(main: Awaitable[_T]) -> _T: ...
def run(main: Observable[Chunk] | Awaitable[Any]) -> Any:
    """Run a stream, a sink or any awaitable in a new event loop, and return its result.

    A stream is read to its end, and its `Result` is returned.

    Ctrl-C cancels `main`, which stops its streams, and is raised as `KeyboardInterrupt` after the
    clean-up. Streams that were stopped shortly before the end get 5 s to clean up. With the extra
    `fast` installed, the loop is uvloop's.

    Args:
        main: the stream or awaitable.

    Raises:
        RuntimeError: an event loop is already running: use `await` there.
        TypeError: `main` can't be awaited (for example, a coroutine function that was not called),
            or is a stream of items other than chunks.

    >>> async def main():
    ...     return "done"
    >>> run(main())
    'done'
    """
    if not isinstance(main, Observable | Awaitable):
        hint = "; call it: run(main())" if asyncio.iscoroutinefunction(main) else ""
        raise TypeError(
            "run takes a stream or an awaitable, such as run(sinks.console(stream)); "
            f"got {type(main).__name__}{hint}"
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        if asyncio.iscoroutine(main):
            main.close()
        raise RuntimeError("an event loop is already running: write `await ...`, not `run(...)`")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_until_settled(main))


async def _until_settled(main: Observable[Chunk] | Awaitable[Any]) -> Any:
    try:
        # `await` on an RxPY Observable would return its last chunk, without demand.
        return await (consume(main) if isinstance(main, Observable) else main)
    finally:
        stopping = stopping_pumps(asyncio.get_running_loop())
        if stopping:
            await asyncio.wait(stopping, timeout=5.0)
