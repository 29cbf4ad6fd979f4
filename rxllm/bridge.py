"""The way in: `from_async` makes a `Stream` of an asynchronous iterator, `run` starts a script."""

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
    """Make a `Stream` of an asynchronous iterator: each subscription calls `factory`.

    - Completion: when the iterator ends. Error: what the iterator raises, into `on_error`.
    - Disposal: synchronous and silent. The iterator's task is cancelled, its `finally` blocks run,
      and whoever subscribed with a `StreamScheduler` can await that (`settle`). An error out of
      this clean-up goes to the loop's exception handler.
    - Demand: no item is pulled and none is passed on while the subscriber's valve is closed, so
      that one item at most waits here (with `batched`, the rest of one sequence).
    - An operator or subscriber that raises closes the iterator; its exception goes to the sink, to
      the loop's exception handler if there is none, and never into `on_error`, where a retry would
      call the model again.

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
    """Run a stream, a sink or any awaitable in a new event loop, and return what it returns.

    A stream is read to its end, and its `Result` returned.

    Ctrl-C cancels `main`, so that its streams are stopped, and is raised as `KeyboardInterrupt`
    after the clean-up. Streams that were stopped shortly before the end get 5 s to clean up.
    With the extra `fast` installed, the loop is uvloop's.

    Args:
        main: what to await.

    Raises:
        RuntimeError: an event loop is running already: `await` it there.
        TypeError: `main` can't be awaited (a coroutine function that was not called, say), or is a
            stream of something else than chunks.

    >>> async def main():
    ...     return "done"
    >>> run(main())
    'done'
    """
    if not isinstance(main, Observable | Awaitable):
        hint = "; call it: run(main())" if asyncio.iscoroutinefunction(main) else ""
        raise TypeError(
            "run takes a stream or something to await, such as run(sinks.console(stream)); "
            f"got {type(main).__name__}{hint}"
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        if asyncio.iscoroutine(main):
            main.close()
        raise RuntimeError("an event loop is running: write `await ...` in place of `run(...)`")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_until_settled(main))


async def _until_settled(main: Observable[Chunk] | Awaitable[Any]) -> Any:
    try:
        # `await` on an Observable of RxPY would give its last chunk, and know no demand.
        return await (consume(main) if isinstance(main, Observable) else main)
    finally:
        stopping = stopping_pumps(asyncio.get_running_loop())
        if stopping:
            await asyncio.wait(stopping, timeout=5.0)
