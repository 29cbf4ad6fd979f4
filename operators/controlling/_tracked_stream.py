"""`TrackedStream`: an entry of a `StreamRegistry`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from rxllm.chunks import ErrorInfo, Progress, StageInfo, Status
from rxllm.operators.controlling._control import Control

__all__ = ["StreamInfo", "TrackedStream"]


class StreamInfo(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A snapshot of a stream, to display or send.

    Attributes:
        id: its id in the registry.
        status: `"running"`, `"paused"`, `"completed"`, `"failed"` or `"cancelled"`.
        started: when it was subscribed to, in Unix seconds.
        last_activity: when it last emitted a chunk or was paused or resumed, in Unix seconds;
            equals `started` if that never happened.
        duration: seconds from its start until now, or until its end.
        progress: its last `Progress`, if `progress` or `track_stages` is before `track` in its
            pipe.
        estimated_end: when it will probably end, in Unix seconds, if its progress says so;
            `None` while it is paused.
        error: why it failed.
    """

    id: str
    status: Status
    started: float
    last_activity: float
    duration: float
    progress: Progress | None = None
    estimated_end: float | None = None
    error: ErrorInfo | None = None


class TrackedStream:
    """One subscription of a stream in a `StreamRegistry`. Made by `track`.

    Attributes:
        id: its id in the registry.
        started: when it was subscribed to, in Unix seconds.
        was_stopped: whether `cancel` was called before it ended.
        error: why it failed.
    """

    def __init__(self, stream_id: str, clock: Callable[[], float], max_pause: float) -> None:
        self.id = stream_id
        self.started: float = time.time()
        self.control: Final = Control(max_pause)
        self._clock = clock
        self.begun: float = clock()
        self.touched: float = self.begun
        self.ended: float | None = None
        self.was_stopped: bool = False
        self.error: Exception | None = None
        self._progress: Progress | None = None
        self._progress_at = self._paused_at = self.begun

    def __repr__(self) -> str:
        return f"<stream {self.id!r}: {self.status}>"

    @property
    def status(self) -> Status:
        """`"running"`, `"paused"`, `"completed"`, `"failed"` or `"cancelled"`."""
        return self.control.status

    @property
    def is_live(self) -> bool:
        """True while the stream is running or paused."""
        return self.status in ("running", "paused")

    @property
    def duration(self) -> float:
        """Seconds from the start until now, or until the end."""
        return self._now - self.begun

    @property
    def idle(self) -> float:
        """Seconds from the last chunk (or pause or resumption) until now, or until the end."""
        return self._now - self.touched

    @property
    def last_activity(self) -> float:
        """When the stream last emitted a chunk or was paused or resumed, in Unix seconds."""
        return self.started + (self.touched - self.begun)

    @property
    def progress(self) -> Progress | None:
        """The last `Progress`, if `progress` or `track_stages` is before `track` in the pipe."""
        if self._progress is None or self.status != "cancelled":
            return self._progress
        return replace(self._progress, stages=tuple(map(self._cancelled, self._progress.stages)))

    @progress.setter
    def progress(self, progress: Progress) -> None:
        self._progress, self._progress_at = progress, self._clock()

    def _cancelled(self, stage: StageInfo) -> StageInfo:
        """Nothing downstream learns of a disposal, which ends the stage that was running."""
        if stage.status != "running":
            return stage
        return replace(stage, status="cancelled", ended=self.duration)

    @property
    def estimated_end(self) -> float | None:
        """When it ended or will probably end, in Unix seconds; `None` if unknown, or paused."""
        if self.ended is not None:
            return self.started + self.duration
        if self.status == "paused" or self._progress is None or self._progress.remaining is None:
            return None
        return self.started + (self._progress_at - self.begun) + self._progress.remaining

    @property
    def info(self) -> StreamInfo:
        """A snapshot of the current state."""
        return StreamInfo(
            self.id,
            self.status,
            self.started,
            self.last_activity,
            self.duration,
            self.progress,
            self.estimated_end,
            None if self.error is None else ErrorInfo.of(self.error),
        )

    def pause(self) -> None:
        """Pause the stream, as `Control.pause` does.

        Raises:
            StreamStateError: the stream has ended.
        """
        was_running = self.status == "running"
        self.control.pause()
        self.touched = self._clock()
        if was_running:
            self._paused_at = self.touched

    def resume(self) -> None:
        """Resume the stream, as `Control.resume` does.

        Raises:
            StreamStateError: the stream has ended.
        """
        was_paused = self.status == "paused"
        self.control.resume()
        now = self._clock()
        if was_paused:
            self._progress_at += now - self._paused_at  # what remains, remains from now
        self.touched = now

    def cancel(self) -> None:
        """Cancel the stream, as `Control.stop` does. Does nothing once it has ended."""
        self.was_stopped = self.was_stopped or self.is_live
        self.control.stop()

    @property
    def _now(self) -> float:
        return self._clock() if self.ended is None else self.ended
