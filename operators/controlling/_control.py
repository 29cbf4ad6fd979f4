"""`Control`: a handle on a running stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from reactivex import abc

from rxllm.arguments import check_number
from rxllm.chunks import Status
from rxllm.errors import StreamStateError
from rxllm.valve import StreamScheduler, fail_stream, run_on_loop

__all__ = ["Control"]


class Controlled(Protocol):
    """The target of a `Control`: a subscription of `pausable`."""

    status: Status
    scheduler: abc.SchedulerBase

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def stop(self) -> None: ...


class Control:
    """Pauses, resumes and stops the stream that has `pausable(control)` in its pipe.

    A control serves one subscription at a time and can be reused once that has ended. The methods
    may be called from any thread; outside the thread of the stream's event loop, they take effect
    in the loop's next iteration.

    Args:
        max_pause: seconds after which a paused stream is stopped, above 0. A paused stream keeps
            holding its connection or engine slot.

    Raises:
        TypeError: `max_pause` is not a number.
        ValueError: `max_pause` is not above 0, or infinite.

    >>> control = Control()
    >>> control.status
    'ready'
    """

    def __init__(self, max_pause: float = 300.0) -> None:
        self.max_pause: float = check_number(
            "max_pause", max_pause, "the seconds a pause may last", above=0
        )
        self._stream: Controlled | None = None
        self._last: Status = "ready"

    @property
    def status(self) -> Status:
        """The status of the stream.

        `"ready"` before the first subscription, then `"running"` or `"paused"`, and finally
        `"completed"`, `"failed"` or `"cancelled"` (by `stop`, by a pause that exceeded
        `max_pause`, or because the subscriber disposed).
        """
        stream = self._stream
        if stream is None:
            return self._last
        status, scheduler = stream.status, stream.scheduler
        if isinstance(scheduler, StreamScheduler) and scheduler.loop.is_closed():
            return "cancelled" if status in ("running", "paused") else status
        return status

    def pause(self) -> None:
        """Pause the stream: the source waits, and chunks that still arrive are kept in order.

        Pausing a paused stream does nothing.

        Raises:
            StreamStateError: the stream has not started, or has ended.
        """
        stream = self._live("paused")
        _act(stream, stream.pause)

    def resume(self) -> None:
        """Resume the stream, starting with the kept chunks. Resuming a running one does nothing.

        Raises:
            StreamStateError: the stream has not started, or has ended.
        """
        stream = self._live("resumed")
        _act(stream, stream.resume)

    def stop(self) -> None:
        """Stop the stream: dispose the source, emit `End("cancelled")` and complete.

        Chunks kept during a pause are dropped. Stopping a stream that has ended does nothing.

        Raises:
            StreamStateError: the stream has not started.
        """
        if self.status in ("ready", "running", "paused"):
            stream = self._live("stopped")
            _act(stream, stream.stop)

    def attach(self, stream: Controlled) -> None:
        """Attach the control to a subscription. Called by `pausable`.

        Raises:
            StreamStateError: the previous subscription has not ended.
        """
        if self._is_live:
            raise StreamStateError(
                f"this control already has a stream, which is {self.status}: use a separate "
                "Control for each concurrent subscription"
            )
        self._stream = stream

    def release(self, stream: Controlled) -> None:
        """Keep the status of a subscription that has ended, and nothing else of it: a control may
        be kept long after its stream. Called by `pausable`."""
        if self._stream is stream:
            self._last, self._stream = stream.status, None

    @property
    def _is_live(self) -> bool:
        return self.status in ("running", "paused")

    def _live(self, what: str) -> Controlled:
        stream, status = self._stream, self.status
        if stream is None or status not in ("running", "paused"):
            when = "has not started" if status == "ready" else f"is {status}"
            raise StreamStateError(f"a stream that {when} can't be {what}")
        return stream


def _act(stream: Controlled, action: Callable[[], None]) -> None:
    """Run `action` on the stream's own thread; exceptions of a subscriber go to its sink."""

    def act() -> None:
        try:
            action()
        except Exception as error:
            fail_stream(stream.scheduler, error)

    run_on_loop(stream.scheduler, act)
