"""Reporting of failures that aren't the stream's."""

from __future__ import annotations

from typing import NoReturn

from reactivex import abc

from rxllm.valve import StreamScheduler

__all__ = ["report"]


def report(scheduler: abc.SchedulerBase, message: str, error: BaseException) -> None:
    """Report `error` to the exception handler of the scheduler's event loop.

    A scheduler without a loop raises it in a scheduled action.
    """
    if isinstance(scheduler, StreamScheduler):
        scheduler.loop.call_exception_handler({"message": message, "exception": error})
        return

    def fail(*_: object) -> NoReturn:
        raise error

    scheduler.schedule(fail)
