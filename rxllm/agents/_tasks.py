"""Coroutines of a run, as tasks that end with its subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from reactivex import abc
from reactivex.disposable import Disposable

from rxllm.errors import StreamCancelledError
from rxllm.valve import StreamScheduler, fail_stream, running_loop

__all__ = ["start_task"]


def start_task(
    scheduler: abc.SchedulerBase,
    awaitable: Awaitable[Any],
    on_done: Callable[[Any], object],
    on_error: Callable[[Exception], object],
) -> abc.DisposableBase:
    """Await `awaitable` in a task, and call `on_done` with its result or `on_error`.

    Disposal cancels the task, whose clean-up the sink awaits; neither function is called then. An
    exception during the clean-up goes to the loop's exception handler, and an exception of the two
    functions to the sink.

    Raises:
        NoEventLoopError: `scheduler` has no event loop, and none is running.
    """
    loop = scheduler.loop if isinstance(scheduler, StreamScheduler) else running_loop()
    is_disposed = has_begun = False

    async def wait() -> Any:
        nonlocal has_begun
        has_begun = True
        return await awaitable

    def settle(task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if not has_begun and isinstance(awaitable, Coroutine):
            awaitable.close()  # or Python warns that it was never awaited
        if is_disposed:
            if error is not None:
                message = "a tool failed while it was being cancelled"
                loop.call_exception_handler({"message": message, "exception": error})
            return
        try:
            if task.cancelled():
                on_error(StreamCancelledError("the call was cancelled from outside"))
            elif error is None:
                on_done(task.result())
            elif isinstance(error, Exception):
                on_error(error)
            elif not isinstance(error, KeyboardInterrupt | SystemExit):  # these stop the loop
                on_error(RuntimeError(f"{type(error).__name__}: {error}"))
        except Exception as failure:
            fail_stream(scheduler, failure)

    def dispose() -> None:
        nonlocal is_disposed
        is_disposed = True
        task.cancel()

    task = loop.create_task(wait(), name="rxllm tool")
    if isinstance(scheduler, StreamScheduler):
        scheduler.tasks.add(task)
        task.add_done_callback(scheduler.tasks.discard)
    task.add_done_callback(settle)
    return Disposable(dispose)
