"""Write frames to one client: combine writes, and hold the source while the client is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.errors import LaggedBehindError
from rxllm.patient_timer import PatientTimer
from rxllm.valve import StreamScheduler, Valve, clock_of_loop, report_failure
from rxllm.web.connection import connection_of
from rxllm.web.start import start_eagerly

__all__ = ["ResponseWriter", "check_times"]

_HIGH_WATER: Final = 64 * 1024  # bytes collected in one loop iteration before the source waits
_MAX_BACKLOG: Final = 4 * 1024 * 1024
_MIN_GAP: Final = 0.001  # s; a frame this long after the last write is written at once


class ResponseWriter:
    """Writes frames to one client. Create it in a running event loop; `run` it once.

    A single frame is written at once. Frames that follow closely are collected and written in one
    call at the end of the loop iteration.

    Args:
        transport: transport to the client, or `None` if it has disconnected.
        write: writes frames to the client; may wait until the client has read them.
        heartbeat: seconds without a write after which `ping` is sent, or `None` for no heartbeat.
        ping: the frame that keeps the connection alive.
        max_stall: seconds that a slow client may stay above the transport's high-water mark.

    Attributes:
        left: whether the client disconnected, or was disconnected for being too slow.
        error: the `LaggedBehindError` of a client that was too slow, or the error of the frames.
    """

    def __init__(
        self,
        transport: asyncio.Transport | None,
        write: Callable[[list[bytes]], Coroutine[Any, Any, object]],
        *,
        heartbeat: float | None = None,
        ping: bytes | None = None,
        max_stall: float = 300.0,
    ) -> None:
        self.left: bool = False
        self.error: Exception | None = None
        self._transport = transport
        self._write = write
        self._heartbeat = heartbeat if ping is not None else None
        self._ping = ping or b""
        self._max_stall = max_stall
        self._loop = asyncio.get_running_loop()
        self._valve = Valve()
        self._subscription = SingleAssignmentDisposable()
        self._collected: list[bytes] = []
        self._backlog = 0
        self._ended = False
        self._is_scheduled = False
        self._writing: asyncio.Task[None] | None = None
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._clock = clock_of_loop(self._loop)
        self._written_at = self._clock()
        self._heartbeat_timer: asyncio.TimerHandle | None = None
        self._stall_timer: PatientTimer | None = None

    async def run(self, frames: Observable[bytes]) -> None:
        """Subscribe to `frames`; return once all are written or the client has left.

        The clean-up is awaited. An error of the frames isn't raised but kept in `error`; an
        exception from `write` is raised, except for a `ConnectionError`: the client has left.
        """
        scheduler = StreamScheduler(self._loop, self._valve, self._on_failure)
        self._connection = connection_of(self._transport)
        try:
            with self._connection.watch(self._on_change):
                self._on_change()
                if not self.left:
                    self._schedule_heartbeat()
                    self._subscription.disposable = frames.subscribe(
                        self._on_next, self._on_error, self._on_completed, scheduler=scheduler
                    )
                    await self._finished
        finally:
            self._stop()
            self._valve.dispose()
            if self._writing is not None:
                self._writing.cancel()
                await asyncio.wait([self._writing])
            await scheduler.settle()

    def _on_next(self, frame: bytes) -> None:
        if self._ended or self.left:
            return  # a synchronous source may still emit after it was disposed
        if not (self._is_scheduled or self._collected or self._writing is not None):
            now = self._clock()
            if now - self._written_at > _MIN_GAP and self._connection.is_writable:
                self._begin_write([frame], now)
                return
        self._collect(frame)
        is_held = self._writing is not None or not self._connection.is_writable
        if self._backlog > _MAX_BACKLOG and is_held:
            self._give_up(f"{self._backlog} bytes are waiting for a client that is too slow")

    def _collect(self, frame: bytes) -> None:
        self._collected.append(frame)
        self._backlog += len(frame)
        if self._backlog > _HIGH_WATER:
            self._valve.close()
        self._schedule_write()

    def _schedule_write(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._write_collected)

    def _write_collected(self) -> None:
        self._is_scheduled = False
        if self.left or self._writing is not None or not self._connection.is_writable:
            return  # scheduled again when that changes
        if self._collected:
            frames, self._collected, self._backlog = self._collected, [], 0
            self._begin_write(frames, self._clock())
        if self._ended:
            self._finish_if_written()
        elif self._writing is None and self._connection.is_writable:
            self._valve.open()

    def _begin_write(self, frames: list[bytes], now: float) -> None:
        self._written_at = now
        try:
            self._writing = start_eagerly(self._write(frames))
        except Exception as error:
            self._fail(error)
            return
        if self._writing is not None:
            self._writing.add_done_callback(self._on_written)

    def _on_written(self, writing: asyncio.Task[None]) -> None:
        self._writing = None
        # If cancelled by someone else, then only the shared wait for this client was cancelled.
        error = None if writing.cancelled() else writing.exception()
        if error is None:
            self._schedule_write()
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, ConnectionError):
            self._leave()
        elif not self._finished.done():
            self._finished.set_exception(error)

    def _finish_if_written(self) -> None:
        is_written = self._writing is None and self._connection.is_writable
        if (is_written or self.left) and not self._finished.done():
            self._finished.set_result(None)

    def _on_error(self, error: Exception) -> None:
        if not (self._ended or self.left):
            self.error = error
            self._on_completed()

    def _on_failure(self, error: Exception) -> None:
        """Handle an exception that escaped from the pipeline that makes the frames."""
        if self._ended or self.left:
            report_failure(self._loop, error)
        else:
            self._on_error(error)

    def _on_completed(self) -> None:
        self._ended = True
        self._schedule_write()

    def _on_change(self) -> None:
        """React to a change of the connection."""
        if self._connection.is_lost:
            self._leave()
        elif self._connection.is_writable:
            self._end_stall()
            self._schedule_write()
        elif self._stall_timer is None:
            self._valve.close()
            self._stall_timer = PatientTimer(
                self._max_stall,
                self._give_up,
                f"the client stalled for {self._max_stall:g} s",
            )

    def _give_up(self, reason: str) -> None:
        self.error = LaggedBehindError(reason)
        self._leave()
        self._connection.abort()

    def _leave(self) -> None:
        if self.left:
            return
        self.left = True
        self._stop()
        if not self._connection.is_writable:
            self._connection.abort()  # or closing would wait for the unsent data to be read
        self._finish_if_written()

    def _stop(self) -> None:
        self._end_stall()
        if self._heartbeat_timer is not None:
            self._heartbeat_timer.cancel()
        try:
            self._subscription.dispose()
        except Exception as error:  # it must not prevent the rest of the clean-up
            self._loop.call_exception_handler(
                {"message": "an operator raised while its stream was disposed", "exception": error}
            )

    def _end_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _schedule_heartbeat(self) -> None:
        if self._heartbeat is not None:
            due = self._written_at + self._heartbeat
            self._heartbeat_timer = self._loop.call_at(due, self._send_heartbeat, self._heartbeat)

    def _send_heartbeat(self, heartbeat: float) -> None:
        if self._ended or self.left:
            return
        now = self._clock()
        if now - self._written_at >= heartbeat:
            if self._connection.is_writable and not self._collected:
                self._collect(self._ping)
            self._written_at = now
        self._schedule_heartbeat()


def check_times(heartbeat: float | None, max_stall: float) -> None:
    """Raise a `ValueError` unless both are above 0 (seconds)."""
    for name, seconds in (("heartbeat", heartbeat), ("max_stall", max_stall)):
        if seconds is not None and not seconds > 0:
            raise ValueError(f"{name} must be above 0 (seconds), got {seconds!r}")
