"""What a `StreamRegistry` knows of one stream, and its hand on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from rxllm.chunks import Status
from rxllm.operators.controlling._control import Control

__all__ = ["StreamInfo", "TrackedStream"]


class StreamInfo(msgspec.Struct, frozen=True, rename="camel"):
    """What was known of a stream at one moment, to be shown or sent.

    Attributes:
        id: its name in the registry.
        status: `"running"`, `"paused"`, `"completed"`, `"failed"` or `"cancelled"`.
        started: when it was subscribed to, in Unix seconds.
        last_activity: when it last passed on a chunk, was paused or resumed, in Unix seconds;
            `started` if it never did.
        duration: seconds from its start until now, or to its end.
    """

    id: str
    status: Status
    started: float
    last_activity: float
    duration: float


class TrackedStream:
    """One subscription of a stream in a `StreamRegistry`. Made by `track`.

    Attributes:
        id: its name in the registry.
        started: when it was subscribed to, in Unix seconds.
    """

    def __init__(self, stream_id: str, clock: Callable[[], float], max_pause: float) -> None:
        self.id = stream_id
        self.started: float = time.time()
        self.control: Final = Control(max_pause)
        self._clock = clock
        self.begun: float = clock()
        self.touched: float = self.begun
        self.ended: float | None = None

    def __repr__(self) -> str:
        return f"<stream {self.id!r}: {self.status}>"

    @property
    def status(self) -> Status:
        """What has happened: `"running"`, `"paused"`, `"completed"`, `"failed"`, `"cancelled"`."""
        return self.control.status

    @property
    def is_live(self) -> bool:
        """True while it runs or is paused."""
        return self.status in ("running", "paused")

    @property
    def duration(self) -> float:
        """Seconds from the start until now, or to the end."""
        return self._now - self.begun

    @property
    def idle(self) -> float:
        """Seconds from the last chunk (or pause, or resumption) until now, or to the end."""
        return self._now - self.touched

    @property
    def last_activity(self) -> float:
        """When a chunk was last passed on, or the stream paused or resumed, in Unix seconds."""
        return self.started + (self.touched - self.begun)

    @property
    def info(self) -> StreamInfo:
        """What is known now, as a value."""
        return StreamInfo(self.id, self.status, self.started, self.last_activity, self.duration)

    def pause(self) -> None:
        """Hold the stream, as `Control.pause` does.

        Raises:
            StreamStateError: the stream has ended.
        """
        self.control.pause()
        self.touched = self._clock()

    def resume(self) -> None:
        """Let the stream go on, as `Control.resume` does.

        Raises:
            StreamStateError: the stream has ended.
        """
        self.control.resume()
        self.touched = self._clock()

    def cancel(self) -> None:
        """Stop the stream, as `Control.stop` does; one that has ended is left as it is."""
        self.control.stop()

    @property
    def _now(self) -> float:
        return self._clock() if self.ended is None else self.ended
