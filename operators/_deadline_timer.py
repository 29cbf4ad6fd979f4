"""A single timer for many deadlines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reactivex import abc
from reactivex.disposable import SerialDisposable

from rxllm.valve import clock_of

__all__ = ["RESOLUTION", "DeadlineTimer"]

RESOLUTION: Final = 1e-6
"""Seconds: RxPY's virtual schedulers count in whole microseconds."""


class DeadlineTimer(abc.DisposableBase):
    """Calls a function at the earliest of the deadlines that were set.

    Only an earlier deadline reschedules the timer. The callback checks what is due, and sets the
    next deadline that it knows of.

    Args:
        scheduler: the scheduler that provides the clock and the timer.
        callback: called at the deadline.
    """

    __slots__ = ("_at", "_callback", "_clock", "_scheduler", "_timer")

    def __init__(self, scheduler: abc.SchedulerBase, callback: Callable[[], object]) -> None:
        self._scheduler = scheduler
        self._clock = clock_of(scheduler)
        self._callback = callback
        self._timer = SerialDisposable()
        self._at = float("inf")

    def set(self, at: float) -> None:
        """Call back at `at` (seconds of the scheduler's clock) or earlier; infinity means never."""
        if self._at <= at + RESOLUTION:
            return
        self._at = at
        wait = max(0.0, at - self._clock())
        self._timer.disposable = self._scheduler.schedule_relative(wait, self._on_timer)

    def dispose(self) -> None:
        """Cancel the timer."""
        self._timer.dispose()

    def _on_timer(self, *_: object) -> None:
        self._at = float("inf")
        self._callback()
