"""Plain functions and generators, run in threads so that they don't block the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

__all__ = ["in_thread", "iterate"]

_T = TypeVar("_T")


async def in_thread(function: Callable[[], _T]) -> _T:
    """Call a function in a thread, with the context variables of the caller."""
    return await asyncio.to_thread(_without_stop_iteration, function)


def _without_stop_iteration(function: Callable[[], _T]) -> _T:
    try:
        return function()
    except StopIteration as error:  # which a future can't hold
        raise RuntimeError("the function raised StopIteration") from error


async def iterate(
    generator: Generator[Any, Any, Any], *, thread: bool
) -> AsyncGenerator[Any, None]:
    """Yield the items of a plain generator, then what it returns unless that is `None`.

    Args:
        generator: each of its steps is taken when it is asked for.
        thread: take the steps in threads. On cancellation, the step in progress continues, and the
            generator is closed after it; nothing waits for that.
    """
    run = _runner() if thread else _run_here
    is_interrupted = False
    try:
        is_last = False
        while not is_last:
            item, is_last = await run(partial(_step, generator))
            if not is_last or item is not None:
                yield item
    except asyncio.CancelledError:
        is_interrupted = True
        raise
    finally:
        closing = run(generator.close)
        if not is_interrupted:
            await closing


def _step(generator: Generator[Any, Any, Any]) -> tuple[Any, bool]:
    try:
        return next(generator), False
    except StopIteration as end:
        return end.value, True


def _runner() -> Callable[[Callable[[], Any]], Awaitable[Any]]:
    """Return what runs functions in threads: one at a time, and all in the same context."""
    loop = asyncio.get_running_loop()
    context, lock = copy_context(), threading.Lock()

    def run_alone(function: Callable[[], Any]) -> Any:
        with lock:
            return context.run(function)

    return lambda function: loop.run_in_executor(None, run_alone, function)


async def _run_here(function: Callable[[], Any]) -> Any:
    return function()
