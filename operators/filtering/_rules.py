"""The arguments of `guard`, and how its check is called."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast, get_args

from reactivex import abc

from rxllm.arguments import check_callable
from rxllm.errors import NoEventLoopError, StreamCancelledError
from rxllm.valve import StreamScheduler, running_loop

__all__ = [
    "Check",
    "Checked",
    "OnViolation",
    "Rules",
    "What",
    "outcome_of",
    "read_check",
    "read_what",
    "report_failure",
]

OnViolation: TypeAlias = Literal["stop", "error", "replace", "retract"]
What: TypeAlias = Literal["text", "reasoning", "arguments"]


@dataclass(frozen=True)
class Checked:
    """What a check of `guard` looks at.

    Attributes:
        what: the answer's text, its reasoning, or the arguments of a tool call (JSON text).
        tool: the name of the tool, for arguments.
        source: the stream, after a merge; of a run inside a tool, the id of the call.
    """

    what: What
    tool: str | None = None
    source: str | None = None


_Verdict: TypeAlias = bool | Awaitable[bool]
Check: TypeAlias = Callable[[str], _Verdict] | Callable[[str, Checked], _Verdict]


class Rules(NamedTuple):
    """The arguments of `guard`."""

    check: Callable[[str, Checked], _Verdict]
    every: int
    context: int
    on_violation: OnViolation
    replacement: str
    what: frozenset[What]

    def ask(
        self, text: str, about: Checked, scheduler: abc.SchedulerBase
    ) -> bool | asyncio.Future[bool]:
        """Whether `text` is approved, or the task that will decide it."""
        verdict = self.check(text, about)
        return _started(verdict, scheduler) if inspect.isawaitable(verdict) else bool(verdict)


_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


def read_check(check: Check) -> Callable[[str, Checked], _Verdict]:
    """Return `check` as a function of a text and a `Checked`, which many don't ask for."""
    check_callable("check", check, "a function of a string")
    function = cast("Callable[..., _Verdict]", check)
    try:
        parameters = inspect.signature(check).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        parameters = {}.values()
    required = [
        each for each in parameters if each.kind in _POSITIONAL and each.default is each.empty
    ]
    return function if len(required) > 1 else lambda text, _: function(text)


def read_what(what: What | Collection[What]) -> frozenset[What]:
    """Return `what` as a set.

    Raises:
        TypeError: it is neither a string nor a collection.
        ValueError: it is empty, or has another word.
    """
    if not isinstance(what, Collection):
        raise TypeError(f"what must be a string or several of them, got {what!r}")
    words = [what] if isinstance(what, str) else list(what)
    if not words or any(word not in get_args(What) for word in words):
        raise ValueError(f"what must be one or more of {get_args(What)}, got {what!r}")
    return frozenset(words)


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
