"""One reader of an event log."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from reactivex import abc

from rxllm.errors import LaggedBehindError
from rxllm.patient_timer import PatientTimer
from rxllm.trampoline import Trampoline
from rxllm.valve import Valve
from rxllm.web.stream_store import Frame

__all__ = ["LogReader", "Reader", "ReaderElsewhere"]


class Log(Protocol):
    """The part of an `EventLog` that a reader uses."""

    position: int
    stall: float
    ending: Frame | None

    def next_frame(self, after: int, exact: bool = False) -> Frame | None: ...
    def forget(self, reader: LogReader) -> None: ...
    def balance(self) -> None: ...


class LogReader(Protocol):
    """The part of a reader that an `EventLog` uses."""

    cursor: int

    @property
    def valve(self) -> Valve: ...
    def drain(self) -> None: ...
    def watch(self) -> None: ...


class ReaderElsewhere:
    """Stands in a log for the readers of another process, which gets the events in another way.

    While its valve is closed, its readers are far behind.
    """

    def __init__(self, log: Log) -> None:
        self.cursor: int = log.position
        self.valve: Final = Valve()
        self._log = log
        self._valve_subscription = self.valve.on_change(self._on_valve)

    def drain(self) -> None:
        """Count the events so far as received."""
        self.cursor = self._log.position

    def watch(self) -> None:
        """Nothing: the other process watches its readers."""

    def leave(self) -> None:
        """Remove it from the log."""
        self._valve_subscription.dispose()
        self._log.forget(self)

    def _on_valve(self, is_open: bool) -> None:
        if is_open:
            self.drain()
            self._log.balance()


class Reader:
    """One reader: a position in the log, and the demand of its subscriber.

    An exception raised by the subscriber never escapes: it goes to the reader's sink (or to the
    loop's exception handler, if there is none), and the reader leaves.
    """

    __slots__ = (
        "_exact",
        "_known_calls",
        "_left",
        "_log",
        "_observer",
        "_timer",
        "_trampoline",
        "_valve_subscription",
        "cursor",
        "valve",
    )

    def __init__(
        self,
        log: Log,
        observer: abc.ObserverBase[Frame],
        valve: Valve,
        cursor: int,
        exact: bool = False,
    ) -> None:
        self.cursor: int = cursor
        self._exact = exact
        self._log = log
        self._observer = observer
        self.valve: Final = valve
        self._left = False
        self._known_calls: set[object] | None = None if cursor <= 0 else set()
        self._trampoline = Trampoline()
        self._timer: PatientTimer | None = None
        self._valve_subscription = valve.on_change(self._on_valve)

    def drain(self) -> None:
        """Send the frames that the reader hasn't received yet, while its valve is open."""
        self._trampoline.repeat(self._send_next)

    def watch(self) -> None:
        """Start the stall timer if the valve is closed. Call it when an event is waiting."""
        if self._timer is None and not self._left and not self.valve.is_open:
            self._timer = PatientTimer(self._log.stall, self._evict)

    def leave(self) -> None:
        """Stop receiving events. Idempotent."""
        if self._left:
            return
        self._left = True
        self._valve_subscription.dispose()
        self._stop_timer()
        self._log.forget(self)

    def _on_valve(self, is_open: bool) -> None:
        if not is_open:
            if self.cursor < self._log.position:
                self.watch()
            return
        self._stop_timer()
        self.drain()
        if not self._left:
            self._log.balance()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send_next(self) -> bool:
        """Send the next frame, or the end; return whether there is more to send."""
        if self._left:
            return False
        log = self._log
        frame = log.next_frame(self.cursor, self._exact) if self.valve.is_open else None
        if frame is not None:
            self.cursor = frame.position
            if self._known_calls is not None:
                frame = self._as_known(frame, self._known_calls)
            try:
                self._observer.on_next(frame)
            except Exception as error:
                self.leave()
                self._report(error)
            return self.cursor < log.position or log.ending is not None
        if self.cursor >= log.position and log.ending is not None:
            self._end(None)
        return False

    def _as_known(self, frame: Frame, known: set[object]) -> Frame:
        """Return the frame whole if the beginning of its call came before this reader."""
        call = frame.call
        if call is None or call in known:
            return frame
        known.add(call)
        return frame.whole

    def _end(self, error: Exception | None) -> None:
        if self._left:
            return
        self.leave()
        try:
            if error is None:
                self._observer.on_completed()
            else:
                self._observer.on_error(error)
        except Exception as failure:
            self._report(failure)

    def _evict(self) -> None:
        self._timer = None
        behind = self._log.position - self.cursor
        self._end(
            LaggedBehindError(
                f"the reader stalled for {self._log.stall:g} s while {behind} events were waiting"
            )
        )

    def _report(self, error: Exception) -> None:
        """Pass an exception of the subscriber to its sink, which might otherwise wait for ever."""
        try:
            self.valve.fail(error)
        except Exception:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a reader of a stream raised, and was removed", "exception": error}
            )
