"""One reader of a stream."""

from __future__ import annotations

import asyncio
from typing import Protocol

from reactivex import abc

from rxllm.errors import LaggedBehindError
from rxllm.trampoline import Trampoline
from rxllm.valve import Valve
from rxllm.web.stream_store import Frame

__all__ = ["Reader"]


class Log(Protocol):
    """What a reader reads: an `EventLog`."""

    position: int
    stall: float
    ending: Frame | None

    def next_frame(self, after: int) -> Frame | None: ...
    def forget(self, reader: Reader) -> None: ...
    def balance(self) -> None: ...


class Reader:
    """One reader: a place in the log, and the demand of whoever reads.

    No failure of the reader gets out of here: its sink gets it (the loop's exception handler, if it
    has none), and the reader leaves.
    """

    __slots__ = (
        "_left",
        "_log",
        "_observer",
        "_timer",
        "_trampoline",
        "_valve",
        "_valve_subscription",
        "cursor",
    )

    def __init__(
        self, log: Log, observer: abc.ObserverBase[Frame], valve: Valve, cursor: int
    ) -> None:
        self.cursor: int = cursor
        self._log = log
        self._observer = observer
        self._valve = valve
        self._left = False
        self._trampoline = Trampoline()
        self._timer: asyncio.TimerHandle | None = None
        self._valve_subscription = valve.on_change(self._on_valve)

    @property
    def is_open(self) -> bool:
        """Whether it can take something now."""
        return self._valve.is_open

    def drain(self) -> None:
        """Send what it has not had yet, as long as it can take it."""
        self._trampoline.repeat(self._send_next)

    def watch(self) -> None:
        """Begin to count the time in which it takes nothing, if something waits for it."""
        if self._timer is None and not self._left and not self._valve.is_open:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._log.stall, self._evict)

    def leave(self) -> None:
        """Get nothing any more."""
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
        """Send one frame, or the end; False if neither can be sent now."""
        if self._left:
            return False
        log = self._log
        frame = log.next_frame(self.cursor) if self._valve.is_open else None
        if frame is not None:
            self._send(frame)
            return True
        if self.cursor >= log.position and log.ending is not None:
            self._end(None)
        return False

    def _send(self, frame: Frame) -> None:
        self.cursor = frame.position
        try:
            self._observer.on_next(frame)
        except Exception as error:
            self.leave()
            self._report(error)

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
                f"nothing was taken for {self._log.stall:g} s, and {behind} events waited"
            )
        )

    def _report(self, error: Exception) -> None:
        """Hand what the reader has raised to its sink, which may wait for more else."""
        try:
            self._valve.fail(error)
        except Exception:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a reader of a stream raised, and is out", "exception": error}
            )
