"""What `guard` was told, and how it asks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from reactivex import abc

from rxllm.errors import NoEventLoopError, StreamCancelledError
from rxllm.valve import StreamScheduler, running_loop

__all__ = ["OnViolation", "Rules", "outcome_of", "tell_failure"]

OnViolation: TypeAlias = Literal["stop", "error", "replace"]


class Rules(NamedTuple):
    """The arguments of `guard`."""

    check: Callable[[str], bool | Awaitable[bool]]
    every: int
    context: int
    on_violation: OnViolation
    replacement: str

    def ask(self, text: str, scheduler: abc.SchedulerBase) -> bool | asyncio.Future[bool]:
        """Whether `text` is fine, or the task that will say it."""
        verdict = self.check(text)
        return _started(verdict, scheduler) if inspect.isawaitable(verdict) else bool(verdict)


def _started(verdict: Awaitable[bool], scheduler: abc.SchedulerBase) -> asyncio.Future[bool]:
    """`verdict` as a task, for whose end the sink waits that subscribed with `scheduler`."""
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
    """What a check has given or raised; None if that has stopped the loop."""
    if task.cancelled():
        return StreamCancelledError("somebody else cancelled a check of guard()")
    error = task.exception()
    if error is None:
        return bool(task.result())
    return error if isinstance(error, Exception) else None


def tell_failure(task: asyncio.Future[bool]) -> None:
    """Tell the loop's exception handler that a check has failed which nobody waits for."""
    if not task.cancelled() and (error := task.exception()) is not None:
        message = "a check of guard() failed while it was being stopped"
        task.get_loop().call_exception_handler({"message": message, "exception": error})
