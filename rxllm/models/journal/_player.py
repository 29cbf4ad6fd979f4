"""The replay of one recording to one subscriber."""

from __future__ import annotations

from collections.abc import Sequence

from reactivex import abc
from reactivex.disposable import CompositeDisposable, SerialDisposable

from rxllm.chunks import Chunk
from rxllm.models.journal._reader import Event
from rxllm.trampoline import Trampoline
from rxllm.valve import clock_of, valve_of

__all__ = ["Player"]


class Player:
    """One subscription: emits each event once it is due and the valve is open.

    An event that the valve has held delays those after it by as much.

    Args:
        events: the chunks, and at last the completion or the error.
        in_time: wait for the time of each event; otherwise each is due at once.
        observer: receives them.
        scheduler: has the clock and the valve.
    """

    def __init__(
        self,
        events: Sequence[Event],
        in_time: bool,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
    ) -> None:
        self._events = events
        self._in_time = in_time
        self._observer = observer
        self._scheduler = scheduler
        self._clock = clock_of(scheduler)
        self._begun = self._clock()  # when the recording would have begun, had it never been held
        self._valve = valve_of(scheduler)
        self._position = 0
        self._is_held = False
        self._is_waiting = True  # for the timer
        self._timer = SerialDisposable()
        self._subscription = CompositeDisposable(self._timer, self._valve.on_change(self._resume))
        self._trampoline = Trampoline(self._subscription)

    def start(self) -> abc.DisposableBase:
        """Start, and return what stops it."""
        if not self._wait():
            self._timer.disposable = self._scheduler.schedule(self._fall_due)
        return self._subscription

    def _wait(self) -> bool:
        """Start the timer of the next event; False if it is due."""
        seconds = self._begun + self._events[self._position][0] - self._clock()
        if not self._in_time or seconds <= 0:
            return False
        self._is_waiting = True
        self._timer.disposable = self._scheduler.schedule_relative(seconds, self._fall_due)
        return True

    def _fall_due(self, *_: object) -> None:
        self._is_waiting = False
        self._resume()

    def _resume(self, *_: object) -> None:
        self._trampoline.repeat(self._play_next)

    def _play_next(self) -> bool:
        """Emit the next event; False if it has to wait, or was the last one."""
        if self._is_waiting:
            return False
        if not self._valve.is_open:
            self._is_held = True
            return False
        seconds, event = self._events[self._position]
        if self._is_held:
            self._is_held = False
            self._begun = self._clock() - seconds
        self._position += 1
        if event is None or isinstance(event, Exception):
            self._end(event)
            return False
        self._wait()
        self._observer.on_next(event)
        return True

    def _end(self, error: Exception | None) -> None:
        self._subscription.dispose()
        if error is None:
            self._observer.on_completed()
        else:
            self._observer.on_error(error)
