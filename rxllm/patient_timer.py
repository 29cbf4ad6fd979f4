"""`PatientTimer`: a time limit for others that doesn't count a pause of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

__all__ = ["LATE", "MOMENT", "PatientTimer"]

LATE: Final = 0.05
"""Seconds after which a timer was held up by the process: a closed lid, SIGSTOP, a blocked loop.

On a busy machine some timers are late by a few hundredths, which only makes them later by a moment.
"""

MOMENT: Final = 0.1
"""Seconds in which the event loop then handles what has arrived meanwhile."""


class PatientTimer:
    """Calls `callback(*args)` in `seconds` on the running event loop, unless cancelled.

    A timer that fires late would blame a peer whose data waits in the socket. It waits a moment
    more, so that the loop reads the data first and may cancel the timer.
    """

    __slots__ = ("_args", "_callback", "_due", "_handle", "_loop", "_was_late")

    def __init__(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._callback = callback
        self._args = args
        self._due = self._loop.time() + seconds
        self._was_late = False
        self._handle = self._loop.call_at(self._due, self._on_time)

    def cancel(self) -> None:
        """Don't call the callback. Idempotent."""
        self._handle.cancel()

    def _on_time(self) -> None:
        if self._loop.time() - self._due > LATE and not self._was_late:
            self._was_late = True
            self._handle = self._loop.call_later(MOMENT, self._on_time)
        else:
            self._callback(*self._args)
