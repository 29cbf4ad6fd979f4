"""Streams of chunks written as marble diagrams, run in virtual time.

A character is one second. Virtual time begins at 0 and does not pass by itself.

>>> from reactivex import operators as rx
>>> marbles = Marbles()
>>> source = marbles.cold("S-a-b-(E,|)")
>>> marbles.run(source.pipe(rx.skip(1))) == marbles.expect("--a-b-(E,|)")
True
>>> source.subscriptions
[(0.0, 6.0)]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from reactivex import Observable, abc
from reactivex.observable import marbles as rx_marbles
from reactivex.testing import TestScheduler

from rxllm.chunks import Chunk, End, Notice, Start, Token
from rxllm.errors import RxLLMError
from rxllm.testing.sources import COMPLETED, ColdChunks, HotChunks
from rxllm.valve import Valve, clock_of, with_valve

__all__ = ["Marbles", "Recording"]

_NAMES: Final[dict[str, Chunk]] = {
    "S": Start("request-1", "model"),
    "E": End("stop"),
    "R": Notice("restart"),
}


class Recording:
    """What a subscriber got, and its hand on the subscription. Made by `Marbles.subscribe`.

    Attributes:
        events: (time in seconds, chunk), (time, `COMPLETED`) or (time, exception), in their order.
    """

    def __init__(self, stream: Observable[Any], scheduler: abc.SchedulerBase) -> None:
        self.events: list[tuple[float, Any]] = []
        self._clock = clock_of(scheduler)
        self._subscription = stream.subscribe(
            self._append, self._append, lambda: self._append(COMPLETED), scheduler=scheduler
        )

    @property
    def chunks(self) -> list[Any]:
        """The chunks alone, without times, completion or error."""
        values = [event for _, event in self.events if event is not COMPLETED]
        return [value for value in values if not isinstance(value, Exception)]

    def dispose(self) -> None:
        """Leave the stream."""
        self._subscription.dispose()

    def _append(self, event: object) -> None:
        self.events.append((self._clock(), event))


class Marbles:
    """A bench for streams: sources from marble diagrams, virtual time, a valve.

    In a diagram `-` is a second, an element is sent as `Token(element)`, `(a,b)` are sent at once
    (and take a second a character all the same), `|` completes, `#` fails. `S`, `E` and `R` stand
    for `Start("request-1", "model")`, `End("stop")` and `Notice("restart")`; `lookup` adds names
    or replaces these. Characters that stand together are one element; spaces are left out, and a
    number is written as Python writes it (`007` is `Token("7")`).

    Args:
        seconds: how long one character is.

    Attributes:
        scheduler: the `TestScheduler`; its clock starts at 0.
        valve: the demand of everything subscribed to here.
    """

    def __init__(self, *, seconds: float = 1.0) -> None:
        self.scheduler: Final = TestScheduler()
        self.valve: Final = Valve()
        self._seconds = seconds

    def cold(
        self,
        diagram: str,
        *,
        lookup: Mapping[str, object] | None = None,
        error: Exception | None = None,
        source: str | None = None,
        demand: bool = False,
    ) -> ColdChunks:
        """A source that plays `diagram` to each subscriber from its beginning.

        Args:
            diagram: the events.
            lookup: what elements stand for.
            error: what `#` stands for; an `RxLLMError` if None.
            source: written into each chunk as the stream that it came from.
            demand: what falls due while the subscriber's valve is closed waits until it opens.

        Raises:
            ValueError: `diagram` can't be read, or goes on after its end.
        """
        return ColdChunks(self.scheduler, self._read(diagram, lookup, error, source), demand)

    def hot(
        self,
        diagram: str,
        *,
        lookup: Mapping[str, object] | None = None,
        error: Exception | None = None,
        source: str | None = None,
    ) -> HotChunks:
        """A source that plays `diagram` once, from now on, whoever listens. It knows no demand.

        Arguments and errors are those of `cold`.
        """
        return HotChunks(self.scheduler, self._read(diagram, lookup, error, source))

    def expect(
        self,
        diagram: str,
        *,
        lookup: Mapping[str, object] | None = None,
        error: Exception | None = None,
        source: str | None = None,
    ) -> list[tuple[float, Any]]:
        """The events of `diagram`, to be compared with those of a run: (time, event).

        Arguments and errors are those of `cold`. Exceptions are equal only to themselves, so pass
        the same `error` as to the source.
        """
        return self._read(diagram, lookup, error, source)

    def subscribe(self, stream: Observable[Any]) -> Recording:
        """Subscribe now, with the scheduler and the valve of this bench, and record."""
        return Recording(stream, with_valve(self.scheduler, self.valve))

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Call `action` when virtual time is `time` seconds, before what is arranged later."""

        def act(*_: object) -> None:
            action()

        self.scheduler.schedule_absolute(float(time), act)

    def advance_to(self, time: float) -> None:
        """Let virtual time pass, until it is `time` seconds.

        Raises:
            ValueError: it is that late already.
        """
        now = clock_of(self.scheduler)()
        if time <= now:
            raise ValueError(f"virtual time is {now:g} s already: advance to a later time")
        self.scheduler.advance_to(float(time))

    def run(
        self, stream: Observable[Any], *, until: float | None = None
    ) -> list[tuple[float, Any]]:
        """Subscribe now, let time pass until `until` (1000 s from now if None), return the events.

        Raises:
            ValueError: it is that late already.
        """
        recording = self.subscribe(stream)
        self.advance_to(clock_of(self.scheduler)() + 1000.0 if until is None else until)
        return recording.events

    @property
    def timers(self) -> list[float]:
        """When the timers that are still to come fall due, in seconds, sources included."""
        queue = self.scheduler._queue.items  # noqa: SLF001 - the scheduler tells it nowhere else
        to_seconds = self.scheduler.to_seconds
        return sorted(to_seconds(item.duetime) for item, _ in queue if not item.is_cancelled())

    def _read(
        self,
        diagram: str,
        lookup: Mapping[str, object] | None,
        error: Exception | None,
        source: str | None,
    ) -> list[tuple[float, Any]]:
        names = {**_NAMES, **(lookup or {})}
        failure = error if error is not None else RxLLMError("failed")
        events: list[tuple[float, Any]] = []
        messages = rx_marbles.parse(diagram, self._seconds, error=failure, raise_stopped=True)
        for time, notification in messages:
            event: Any = {"C": COMPLETED, "E": failure}.get(notification.kind)
            if event is None:
                event = names.get(str(notification.value), Token(str(notification.value)))
                if source is not None:
                    event = msgspec.structs.replace(event, source=source)
            events.append((round(self.scheduler.to_seconds(time), 6), event))
        return events
