"""The sources created by `Marbles`: they play events and record subscriptions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable
from reactivex.testing import TestScheduler

from rxllm.trampoline import Trampoline
from rxllm.valve import Valve, clock_of, valve_of

__all__ = ["COMPLETED", "ColdChunks", "HotChunks"]


class _Completed:
    def __repr__(self) -> str:
        return "|"


COMPLETED: Final = _Completed()
"""The completion of a stream in a list of events."""


class _Recorded(Observable[Any]):
    """An Observable that records the times of its subscriptions.

    Attributes:
        subscriptions: (time of subscription, time of disposal or `None`), in seconds.
    """

    def __init__(self, scheduler: TestScheduler) -> None:
        super().__init__()
        self._clock = clock_of(scheduler)
        self.subscriptions: list[tuple[float, float | None]] = []

    def _record(self) -> abc.DisposableBase:
        place, begun = len(self.subscriptions), self._clock()
        self.subscriptions.append((begun, None))

        def end() -> None:
            self.subscriptions[place] = (begun, self._clock())

        return Disposable(end)


class ColdChunks(_Recorded):
    """Plays its events from the beginning to each subscriber. Created by `Marbles.cold`."""

    def __init__(
        self, scheduler: TestScheduler, events: list[tuple[float, object]], demand: bool
    ) -> None:
        super().__init__(scheduler)
        self._scheduler = scheduler
        self._events = events
        self._demand = demand

    def _subscribe_core(
        self, observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        valve = valve_of(scheduler) if self._demand else Valve()
        due: deque[object] = deque()
        trampoline = Trampoline()

        def send_next() -> bool:
            if not (due and valve.is_open):
                return False
            _deliver(due.popleft(), observer)
            return True

        def send(_: bool = True) -> None:
            trampoline.repeat(send_next)

        def at(event: object) -> Callable[..., None]:
            def act(*_: object) -> None:
                due.append(event)
                send()

            return act

        subscription = CompositeDisposable(self._record(), valve.on_change(send))
        for time, event in self._events:
            subscription.add(self._scheduler.schedule_relative(time, at(event)))
        return subscription


class HotChunks(_Recorded):
    """Plays its events once, starting at creation, to all subscribers. Created by `Marbles.hot`."""

    def __init__(self, scheduler: TestScheduler, events: list[tuple[float, object]]) -> None:
        super().__init__(scheduler)
        self._observers: dict[object, abc.ObserverBase[Any]] = {}

        def at(event: object) -> Callable[..., None]:
            def act(*_: object) -> None:
                for observer in list(self._observers.values()):
                    _deliver(event, observer)

            return act

        for time, event in events:
            scheduler.schedule_relative(time, at(event))

    def _subscribe_core(
        self, observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        key = object()
        self._observers[key] = observer

        def leave() -> None:
            del self._observers[key]

        return CompositeDisposable(self._record(), Disposable(leave))


def _deliver(event: object, observer: abc.ObserverBase[Any]) -> None:
    if event is COMPLETED:
        observer.on_completed()
    elif isinstance(event, Exception):
        observer.on_error(event)
    else:
        observer.on_next(event)
