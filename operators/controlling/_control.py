"""`Control`: the hand on a running stream."""

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
    """What a control controls: a subscription of `pausable`."""

    status: Status
    scheduler: abc.SchedulerBase

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def stop(self) -> None: ...


class Control:
    """Pauses, resumes and stops the stream that has `pausable(control)` in its pipe.

    It serves one subscription at a time, and another one after that has ended. Called from
    another thread than that of the stream's event loop, its methods take effect at the loop's next
    turn.

    Args:
        max_pause: seconds after which a paused stream is stopped, above 0: it holds a connection
            or a slot of an engine all the while.

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

    @property
    def status(self) -> Status:
        """What has happened.

        `"ready"` before the first subscription, `"running"`, `"paused"`, then `"completed"`,
        `"failed"`, or `"cancelled"`: by `stop`, by a pause that took too long, or by a subscriber
        that left.
        """
        if self._stream is None:
            return "ready"
        status, scheduler = self._stream.status, self._stream.scheduler
        if isinstance(scheduler, StreamScheduler) and scheduler.loop.is_closed():
            return "cancelled" if status in ("running", "paused") else status
        return status

    def pause(self) -> None:
        """Hold the stream: the source waits, and what comes all the same is kept in order.

        Pausing a paused stream does nothing.

        Raises:
            StreamStateError: the stream has not begun, or has ended.
        """
        stream = self._live("paused")
        _act(stream, stream.pause)

    def resume(self) -> None:
        """Let the stream go on, with what was kept first. A running stream is left as it is.

        Raises:
            StreamStateError: the stream has not begun, or has ended.
        """
        stream = self._live("resumed")
        _act(stream, stream.resume)

    def stop(self) -> None:
        """End the stream now: the source is disposed, `End("cancelled")` and completion go down.

        What a pause has kept is dropped. A stream that has ended is left as it is.

        Raises:
            StreamStateError: the stream has not begun.
        """
        if self._stream is None or self._is_live:
            stream = self._live("stopped")
            _act(stream, stream.stop)

    def attach(self, stream: Controlled) -> None:
        """Take charge of a subscription. Called by `pausable`.

        Raises:
            StreamStateError: another one has not ended yet.
        """
        if self._is_live:
            raise StreamStateError(
                f"this control has a stream that is {self.status}: a second subscription at the "
                "same time needs a Control of its own"
            )
        self._stream = stream

    @property
    def _is_live(self) -> bool:
        return self.status in ("running", "paused")

    def _live(self, what: str) -> Controlled:
        if self._stream is None or not self._is_live:
            when = "has not begun" if self._stream is None else f"is {self.status}"
            raise StreamStateError(f"a stream that {when} can't be {what}")
        return self._stream


def _act(stream: Controlled, action: Callable[[], None]) -> None:
    """Do it on the stream's own thread; what a subscriber raises is for its sink."""

    def act() -> None:
        try:
            action()
        except Exception as error:
            fail_stream(stream.scheduler, error)

    run_on_loop(stream.scheduler, act)
