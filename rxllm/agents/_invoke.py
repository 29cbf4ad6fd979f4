"""Calls of functions of any kind: plain ones in threads, so that they don't block the loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeGuard

from reactivex import Observable

__all__ = ["invoke"]


def invoke(function: Callable[..., Any], call: Callable[[], Any], *, thread: bool) -> Any:
    """Call a function.

    Args:
        function: says by its type what a call returns.
        call: calls it.
        thread: run a plain function, and the steps of a plain generator, in a thread, with the
            context variables of the caller.

    Returns:
        A value, an Observable, an asynchronous iterator, or an awaitable of one of these.
    """
    if inspect.iscoroutinefunction(function):
        return _settled_later(call, thread)
    if thread and not _returns_at_once(function):
        return _settled_later(partial(_in_thread, _without_stop_iteration, call), thread)
    returned = call()
    return _settled(returned, thread) if _is_awaitable(returned) else _iterable(returned, thread)


def _returns_at_once(function: Callable[..., Any]) -> bool:
    """Whether a call only makes a coroutine or a generator, as the type of the function tells."""
    return any(
        is_one(each)
        for each in (function, type(function).__call__)
        for is_one in (
            inspect.iscoroutinefunction,
            inspect.isasyncgenfunction,
            inspect.isgeneratorfunction,
        )
    )


async def _settled_later(call: Callable[[], Any], thread: bool) -> Any:
    """Make the coroutine once it is awaited: the call may be cancelled before that."""
    return await _settled(call(), thread)


async def _settled(returned: Any, thread: bool) -> Any:
    """Await what a function returned, which may be an awaitable again."""
    while _is_awaitable(returned):
        returned = await returned
    return _iterable(returned, thread)


def _is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    """Whether to await a value. A stream can be awaited too, but is the output."""
    return inspect.isawaitable(value) and not isinstance(value, Observable)


def _iterable(returned: Any, thread: bool) -> Any:
    return _iterate(returned, thread) if inspect.isgenerator(returned) else returned


def _without_stop_iteration(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except StopIteration as error:  # which a future can't hold
        raise RuntimeError("the function raised StopIteration") from error


async def _iterate(generator: Generator[Any, Any, Any], thread: bool) -> AsyncGenerator[Any, None]:
    """Yield the items of a plain generator, then what it returns unless that is `None`.

    Each step is taken when its item is asked for. If a step in a thread is cancelled, it continues
    there, and the generator is closed after it; nothing waits for that.
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
    context, lock = copy_context(), threading.Lock()

    def run_alone(function: Callable[[], Any]) -> Any:
        with lock:
            return context.run(function)

    return lambda function: _in_thread(run_alone, function)


def _in_thread(function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
    """Call a function in a thread of its own, from now.

    A function that hangs takes no thread from others, and the program doesn't wait for it at its
    end: both are so in the threads of `asyncio.to_thread`.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    call = partial(copy_context().run, function, *arguments)

    def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            set_outcome(outcome)

    def work() -> None:
        try:
            outcome = partial(settle, future.set_result, call())
        except BaseException as error:
            outcome = partial(settle, future.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(outcome)

    threading.Thread(target=work, name="rxllm tool", daemon=True).start()
    return future


async def _run_here(function: Callable[[], Any]) -> Any:
    return function()
