"""The pings of a WebSocket, by which its client shows how far it has read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from rxllm.patient_timer import PatientTimer
from rxllm.web.start import start_eagerly

__all__ = ["Pings"]

_EVERY: Final = 16 * 1024
_WINDOW: Final = 256 * 1024


class Pings:
    """Sends pings after each 16 KiB, and after `interval` seconds in which nothing was received.

    A WebSocket answers a ping when it has read what was sent before (RFC 6455, 5.5.2), and buffers
    between the two ends may take a slow client minutes to read. So what counts is that answers
    come: a client that reads slowly is kept, and one that has sent none for `patience` seconds is
    gone. Nothing more is written while 256 KiB are unanswered, which bounds those buffers.

    Args:
        ping: sends a ping with a payload.
        on_lost: called when no answer has come in time.
        interval: seconds of silence before a ping.
        patience: seconds without an answer.
    """

    def __init__(
        self,
        ping: Callable[[bytes], Coroutine[Any, Any, None]],
        on_lost: Callable[[], object],
        *,
        interval: float,
        patience: float,
    ) -> None:
        self._ping = ping
        self._on_lost = on_lost
        self._interval = interval
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._written = self._pinged = self._read = 0  # bytes
        self._unanswered: deque[tuple[int, int]] = deque()  # numbers, and bytes before them
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._heard_at = self._loop.time()
        self._lost_timer: PatientTimer | None = None
        self._beat_timer = self._loop.call_later(interval, self._beat)
        self._beating: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Send no more pings."""
        self._beat_timer.cancel()
        if self._beating is not None:
            self._beating.cancel()
        self._stop_waiting()
        self._has_room.set()

    async def written(self, size: int) -> None:
        """Count bytes that were written, and wait until more may be."""
        self._written += size
        if self._written - self._pinged >= _EVERY:
            await self._send()
        await self._has_room.wait()

    def heard(self) -> None:
        """Something was received."""
        self._heard_at = self._loop.time()

    def answered(self, payload: bytes) -> bool:
        """Return whether a pong answers one of the pings."""
        number = int.from_bytes(payload) if len(payload) == 8 else 0
        known = [each for each in self._unanswered if each[0] <= number]
        if not known or number > self._number:
            return False
        for _ in known:
            _, self._read = self._unanswered.popleft()
        if self._written - self._read <= _WINDOW:
            self._has_room.set()
        self._stop_waiting()
        if self._unanswered:
            self._wait()
        return True

    async def _send(self) -> None:
        self._number += 1
        self._pinged = self._written
        self._unanswered.append((self._number, self._written))
        if self._written - self._read > _WINDOW:
            self._has_room.clear()
        if self._lost_timer is None:
            self._wait()
        await self._ping(self._number.to_bytes(8))

    def _wait(self) -> None:
        self._lost_timer = PatientTimer(self._patience, self._on_lost)

    def _stop_waiting(self) -> None:
        if self._lost_timer is not None:
            self._lost_timer.cancel()
            self._lost_timer = None

    def _beat(self) -> None:
        silence = self._loop.time() - self._heard_at
        self._beat_timer = self._loop.call_later(
            self._interval if silence >= self._interval else self._interval - silence, self._beat
        )
        if silence >= self._interval and not self._unanswered:
            self._beating = start_eagerly(self._send_beat())

    async def _send_beat(self) -> None:
        with suppress(ConnectionError):  # the reading loop notices
            await self._send()
