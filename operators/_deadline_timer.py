"""One timer for many deadlines."""

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
    """Calls a function once the earliest of the times has come that it was set to.

    Only an earlier time touches the timer. Whoever is called looks what is due, and sets the alarm
    to the next time that it knows of.

    Args:
        scheduler: whose time it is.
        ring: what is called.
    """

    __slots__ = ("_at", "_clock", "_ring", "_scheduler", "_timer")

    def __init__(self, scheduler: abc.SchedulerBase, ring: Callable[[], object]) -> None:
        self._scheduler = scheduler
        self._clock = clock_of(scheduler)
        self._ring = ring
        self._timer = SerialDisposable()
        self._at = float("inf")

    def set(self, at: float) -> None:
        """Ring at `at`, in seconds of the scheduler's clock, or before; infinity is never."""
        if self._at <= at + RESOLUTION:
            return
        self._at = at
        wait = max(0.0, at - self._clock())
        self._timer.disposable = self._scheduler.schedule_relative(wait, self._on_timer)

    def dispose(self) -> None:
        """Never ring again."""
        self._timer.dispose()

    def _on_timer(self, *_: object) -> None:
        self._at = float("inf")
        self._ring()
