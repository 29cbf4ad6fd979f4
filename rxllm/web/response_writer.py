"""Frames on their way to one client: gathered, written, held back while the client is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.errors import LaggedBehindError
from rxllm.valve import StreamScheduler, Valve, report_failure
from rxllm.web.connection import connection_of
from rxllm.web.start import start_eagerly

__all__ = ["ResponseWriter", "check_times"]

_HIGH_WATER: Final = 64 * 1024  # bytes gathered in one turn, after which a source has to wait
_MAX_BACKLOG: Final = 4 * 1024 * 1024
_APART: Final = 0.001  # s; frames that come this far apart have nothing to be gathered with


class ResponseWriter:
    """Frames on their way to one client. Made in a running event loop; `run` it once.

    A frame that comes alone is written at once. Those that follow closely are gathered, and written
    in one call at the end of the loop's turn.

    Args:
        transport: to the client, or `None` if it has disconnected.
        write: writes to it; may wait until it has taken what it was sent.
        heartbeat: seconds without a write after which `ping` is sent; None: never.
        ping: what says that the connection lives.
        max_stall: seconds in which a slow client has to take what the transport holds for it.

    Attributes:
        left: the client has gone, or was given up.
        error: why it was given up, or why the frames failed.
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
        self.left = False
        self.error: Exception | None = None
        self._transport = transport
        self._write = write
        self._heartbeat = heartbeat if ping is not None else None
        self._ping = ping or b""
        self._max_stall = max_stall
        self._loop = asyncio.get_running_loop()
        self._valve = Valve()
        self._subscription = SingleAssignmentDisposable()
        self._gathered: list[bytes] = []
        self._backlog = 0
        self._ended = False
        self._is_planned = False
        self._writing: asyncio.Task[None] | None = None
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._written_at = self._loop.time()
        self._heartbeat_timer: asyncio.TimerHandle | None = None
        self._stalls: asyncio.TimerHandle | None = None

    async def run(self, frames: Observable[bytes]) -> None:
        """Subscribe, and return when all is written or the client has left, and all cleaned up.

        Raises nothing of its own, and no error of the frames: see `error`.
        """
        scheduler = StreamScheduler(self._loop, self._valve, self._on_failure)
        self._connection = connection_of(self._transport)
        try:
            with self._connection.watch(self._look):
                self._look()
                if not self.left:
                    self._plan_heartbeat()
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
            return  # a source that pushes all at once has not seen the disposal yet
        if not (self._is_planned or self._gathered or self._writing is not None):
            now = self._loop.time()
            if now - self._written_at > _APART and self._connection.is_writable:
                self._begin_write([frame], now)
                return
        self._gather(frame)
        if self._backlog > _MAX_BACKLOG and not self._connection.is_writable:
            self._give_up(f"{self._backlog} bytes wait for a client that does not take them")

    def _gather(self, frame: bytes) -> None:
        self._gathered.append(frame)
        self._backlog += len(frame)
        if self._backlog > _HIGH_WATER:
            self._valve.close()
        self._plan()

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._loop.call_soon(self._write_gathered)

    def _write_gathered(self) -> None:
        self._is_planned = False
        if self.left or self._writing is not None or not self._connection.is_writable:
            return  # planned again when that has changed
        if self._gathered:
            frames, self._gathered, self._backlog = self._gathered, [], 0
            self._begin_write(frames, self._loop.time())
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
            self._writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Task[None]) -> None:
        self._writing = None
        # Cancelled, if not by us, is what it waited for: somebody else's wait for this client.
        error = None if writing.cancelled() else writing.exception()
        if error is None:
            self._plan()
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
        """What makes the frames has raised."""
        if self._ended or self.left:
            report_failure(self._loop, error)
        else:
            self._on_error(error)

    def _on_completed(self) -> None:
        self._ended = True
        self._plan()

    def _look(self) -> None:
        """Take in what has become of the connection."""
        if self._connection.is_lost:
            self._leave()
        elif self._connection.is_writable:
            self._end_stall()
            self._plan()
        elif self._stalls is None:
            self._valve.close()
            self._stalls = self._loop.call_later(
                self._max_stall,
                self._give_up,
                f"a client took nothing for {self._max_stall:g} s",
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
            self._connection.abort()  # or it waits for who has gone to take what is left
        self._finish_if_written()

    def _stop(self) -> None:
        self._end_stall()
        if self._heartbeat_timer is not None:
            self._heartbeat_timer.cancel()
        try:
            self._subscription.dispose()
        except Exception as error:  # it must not keep others from being cleaned up
            self._loop.call_exception_handler(
                {"message": "an operator raised while its stream was disposed", "exception": error}
            )

    def _end_stall(self) -> None:
        if self._stalls is not None:
            self._stalls.cancel()
            self._stalls = None

    def _plan_heartbeat(self) -> None:
        if self._heartbeat is not None:
            due = self._written_at + self._heartbeat
            self._heartbeat_timer = self._loop.call_at(due, self._send_heartbeat, self._heartbeat)

    def _send_heartbeat(self, heartbeat: float) -> None:
        if self._ended or self.left:
            return
        now = self._loop.time()
        if now - self._written_at >= heartbeat:
            if self._connection.is_writable and not self._gathered:
                self._gather(self._ping)
            self._written_at = now
        self._plan_heartbeat()


def check_times(heartbeat: float | None, max_stall: float) -> None:
    """Raise a `ValueError` if one of them is no time."""
    for name, seconds in (("heartbeat", heartbeat), ("max_stall", max_stall)):
        if seconds is not None and not seconds > 0:
            raise ValueError(f"{name} is a time in seconds, above 0, not {seconds!r}")
