"""The arguments of `guard`, and how its check is called."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from reactivex import abc

from rxllm.errors import NoEventLoopError, StreamCancelledError
from rxllm.valve import StreamScheduler, running_loop

__all__ = ["OnViolation", "Rules", "outcome_of", "report_failure"]

OnViolation: TypeAlias = Literal["stop", "error", "replace"]


class Rules(NamedTuple):
    """The arguments of `guard`."""

    check: Callable[[str], bool | Awaitable[bool]]
    every: int
    context: int
    on_violation: OnViolation
    replacement: str

    def ask(self, text: str, scheduler: abc.SchedulerBase) -> bool | asyncio.Future[bool]:
        """Whether `text` is approved, or the task that will decide it."""
        verdict = self.check(text)
        return _started(verdict, scheduler) if inspect.isawaitable(verdict) else bool(verdict)


def _started(verdict: Awaitable[bool], scheduler: abc.SchedulerBase) -> asyncio.Future[bool]:
    """`verdict` as a task that the sink of `scheduler` waits for."""
    if isinstance(scheduler, StreamScheduler):
        task = asyncio.ensure_future(verdict, loop=scheduler.loop)
        tasks = cast("set[Any]", scheduler.tasks)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task
    try:
        return asyncio.ensure_future(verdict, loop=running_loop())
    except NoEventLoopError:
        if inspect.iscoroutine(verdict):
            verdict.close()
        raise


def outcome_of(task: asyncio.Future[bool]) -> bool | Exception | None:
    """The result or exception of a check; `None` if the exception stopped the loop."""
    if task.cancelled():
        return StreamCancelledError("a check of guard() was cancelled from outside")
    error = task.exception()
    if error is None:
        return bool(task.result())
    return error if isinstance(error, Exception) else None


def report_failure(task: asyncio.Future[bool]) -> None:
    """Report the failure of an abandoned check to the loop's exception handler."""
    if not task.cancelled() and (error := task.exception()) is not None:
        message = "a check of guard() failed while it was being cancelled"
        task.get_loop().call_exception_handler({"message": message, "exception": error})
