"""Streams of chunks written as marble diagrams, run in virtual time.

A character is one second. Virtual time starts at 0 and doesn't advance by itself.

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
    """A subscription and the events it received. Created by `Marbles.subscribe`.

    Attributes:
        events: (time in seconds, chunk), (time, `COMPLETED`) or (time, exception), in order.
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
        """Dispose the subscription."""
        self._subscription.dispose()

    def _append(self, event: object) -> None:
        self.events.append((self._clock(), event))


class Marbles:
    """A test bench for streams: sources from marble diagrams, virtual time, a valve.

    In a diagram, `-` is a second, an element is sent as `Token(element)`, the elements of `(a,b)`
    are sent simultaneously (though each character still takes a second), `|` completes, `#` fails.
    `S`, `E` and `R` stand for `Start("request-1", "model")`, `End("stop")` and `Notice("restart")`;
    `lookup` adds or replaces names. Adjacent characters form one element; spaces are ignored, and a
    number is normalized as Python prints it (`007` is `Token("7")`).

    Args:
        seconds: duration of one character.

    Attributes:
        scheduler: the `TestScheduler`; its clock starts at 0.
        valve: the demand of all subscriptions made here.
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
        """Return a source that plays `diagram` from its beginning to each subscriber.

        Args:
            diagram: the events.
            lookup: the meanings of elements.
            error: the meaning of `#`, or `None` for an `RxLLMError`.
            source: set on each chunk as its `source`.
            demand: whether events wait while the subscriber's valve is closed.

        Raises:
            ValueError: `diagram` can't be parsed, or continues after its end.
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
        """Return a source that plays `diagram` once, starting now, and ignores demand.

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
        """Return the (time, event) pairs of `diagram`, to compare with those of a run.

        Arguments and errors are those of `cold`. Exceptions are equal only to themselves, so pass
        the same `error` as to the source.
        """
        return self._read(diagram, lookup, error, source)

    def subscribe(self, stream: Observable[Any]) -> Recording:
        """Subscribe now, with the scheduler and valve of this bench, and record the events."""
        return Recording(stream, with_valve(self.scheduler, self.valve))

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Call `action` at `time` seconds of virtual time, before anything scheduled later."""

        def act(*_: object) -> None:
            action()

        self.scheduler.schedule_absolute(float(time), act)

    def advance_to(self, time: float) -> None:
        """Advance virtual time to `time` seconds.

        Raises:
            ValueError: virtual time has already reached `time`.
        """
        now = clock_of(self.scheduler)()
        if time <= now:
            raise ValueError(f"virtual time is already {now:g} s: advance to a later time")
        self.scheduler.advance_to(float(time))

    def run(
        self, stream: Observable[Any], *, until: float | None = None
    ) -> list[tuple[float, Any]]:
        """Subscribe now, advance to `until` (by default 1000 s from now), and return the events.

        Raises:
            ValueError: virtual time has already reached `until`.
        """
        recording = self.subscribe(stream)
        self.advance_to(clock_of(self.scheduler)() + 1000.0 if until is None else until)
        return recording.events

    @property
    def timers(self) -> list[float]:
        """The due times of all pending timers, in seconds, including those of sources."""
        queue = self.scheduler._queue.items  # noqa: SLF001 - there is no public access
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
