"""A timer that is paused while the subscriber's valve is closed."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable

from rxllm.operators._deadline_timer import start_patient_timer
from rxllm.valve import clock_of, valve_of

__all__ = ["OpenTimer"]


class OpenTimer:
    """Calls `action` once, after `seconds` during which the valve of `scheduler` was open."""

    def __init__(
        self, scheduler: abc.SchedulerBase, seconds: float, action: Callable[[], None]
    ) -> None:
        self._scheduler = scheduler
        self._clock = clock_of(scheduler)
        self._left = seconds
        self._action = action
        self._since: float | None = None  # when it started to run; None while it is paused
        self._timer = SerialDisposable()
        valve = valve_of(scheduler)
        self._running = CompositeDisposable(self._timer, valve.on_change(self._on_valve))
        self._on_valve(valve.is_open)

    def dispose(self) -> None:
        """Cancel the timer."""
        self._running.dispose()

    def _on_valve(self, is_open: bool) -> None:
        if is_open and self._since is None:
            self._since = self._clock()
            self._timer.disposable = start_patient_timer(self._scheduler, self._left, self._fire)
        elif not is_open and self._since is not None:
            self._left = max(0.0, self._left - (self._clock() - self._since))
            self._since = None
            self._timer.disposable = Disposable()

    def _fire(self) -> None:
        self.dispose()
        self._action()
