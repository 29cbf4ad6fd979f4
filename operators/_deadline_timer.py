"""A single timer for many deadlines, which may be patient with those it judges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reactivex import abc
from reactivex.disposable import SerialDisposable

from rxllm.patient_timer import LATE, MOMENT
from rxllm.valve import clock_of

__all__ = ["RESOLUTION", "DeadlineTimer", "start_patient_timer"]

RESOLUTION: Final = 1e-6
"""Seconds: RxPY's virtual schedulers count in whole microseconds."""


class DeadlineTimer(abc.DisposableBase):
    """Calls a function at the earliest of the deadlines that were set.

    Only an earlier deadline reschedules the timer. The callback checks what is due, and sets the
    next deadline that it knows of.

    Args:
        scheduler: the scheduler that provides the clock and the timer.
        callback: called at the deadline.
        is_patient: a timer that fires late, because the process was stopped, waits a moment more,
            as `rxllm.patient_timer` does: what has arrived in the meantime is read before the
            callback judges a model, and may set another deadline or dispose the timer.
    """

    __slots__ = ("_at", "_callback", "_clock", "_is_patient", "_scheduler", "_timer", "_was_late")

    def __init__(
        self,
        scheduler: abc.SchedulerBase,
        callback: Callable[[], object],
        *,
        is_patient: bool = False,
    ) -> None:
        self._scheduler = scheduler
        self._clock = clock_of(scheduler)
        self._callback = callback
        self._timer = SerialDisposable()
        self._at = float("inf")
        self._is_patient = is_patient
        self._was_late = False

    def set(self, at: float) -> None:
        """Call back at `at` (seconds of the scheduler's clock) or earlier; infinity means never."""
        if self._at <= at + RESOLUTION:
            return
        self._start(at, self._clock())

    def dispose(self) -> None:
        """Cancel the timer."""
        self._timer.dispose()

    def _start(self, at: float, now: float) -> None:
        self._at = at
        wait = max(0.0, at - now)
        self._timer.disposable = self._scheduler.schedule_relative(wait, self._on_timer)

    def _on_timer(self, *_: object) -> None:
        if self._is_patient and not self._was_late and (now := self._clock()) - self._at > LATE:
            self._was_late = True
            self._start(now + MOMENT, now)
            return
        self._was_late = False
        self._at = float("inf")
        self._callback()


def start_patient_timer(
    scheduler: abc.SchedulerBase, seconds: float, callback: Callable[[], object]
) -> DeadlineTimer:
    """Return a patient timer that calls back in `seconds`."""
    timer = DeadlineTimer(scheduler, callback, is_patient=True)
    timer.set(clock_of(scheduler)() + seconds)
    return timer
