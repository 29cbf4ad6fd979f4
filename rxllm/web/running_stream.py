"""A running stream, kept in the memory of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Batch, Carried, Chunk, Notice, Outcome, Reasoning, Token, ToolCall
from rxllm.errors import RxLLMError, StreamError
from rxllm.patient_timer import PatientTimer
from rxllm.valve import StreamScheduler
from rxllm.web.encoding import to_json
from rxllm.web.event_log import EventLog
from rxllm.web.runner import Runner
from rxllm.web.stream_messages import (
    Complete,
    StreamChunk,
    StreamFailed,
    StreamStatus,
    StreamSummary,
)
from rxllm.web.stream_store import Frame

__all__ = ["RunningStream", "StoreLimits"]

_MIN_GRACE: Final = 1.0  # seconds, so that one reader can take over from another
_MIN_FIRST_GRACE: Final = 10.0  # seconds to wait for the first reader, at least


class StoreLimits(Protocol):
    """The limits of a store; `rxllm.server.limits.Limits` describes them."""

    @property
    def grace(self) -> float: ...
    @property
    def ended_streams(self) -> int: ...
    @property
    def reader_stall(self) -> float: ...
    @property
    def stream_events(self) -> int: ...
    @property
    def stream_characters(self) -> int: ...


class RunningStream:
    """One stream: its subscription, its events, and its remaining time without a reader.

    Args:
        stream_id: the stream's id.
        model: the requested model.
        grace: seconds that the stream runs without a reader.
        key: identifies the request; a repeated request has the same key.
        owner: whose stream it is.
        limits: how much is kept, and what readers may do.
        buffer_size: events that all readers may lag behind before the model waits.
        on_ended: called when the stream has ended.
        on_expired: called when the stream no longer has to be kept after its end.
    """

    def __init__(
        self,
        stream_id: str,
        model: str | None,
        grace: float,
        key: str | None,
        owner: str | None,
        limits: StoreLimits,
        buffer_size: int,
        *,
        on_ended: Callable[[RunningStream], object],
        on_expired: Callable[[RunningStream], object],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.log: Final = EventLog(stream_id, buffer_size, limits.reader_stall, self._on_readers)
        self._run: Final = Runner(stream_id, self._on_chunk, self._on_run_ended, model)
        self.scheduler: Final = StreamScheduler(loop, self.log.valve, self._run.fail)
        self.tracked: ops.TrackedStream
        self.key = key
        self._owner = owner
        self._limits = limits
        self._on_ended = on_ended
        self._on_expired = on_expired
        self._model = model
        self._grace = max(grace, _MIN_GRACE)
        self._timer: PatientTimer | None = None

    def start(self, stream: Observable[Carried], registry: ops.StreamRegistry) -> None:
        """Subscribe."""
        self._wait(max(self._grace, _MIN_FIRST_GRACE))
        self._run.start(stream, self.scheduler)
        self.tracked = registry[self.log.id]

    async def first(self) -> Frame:
        """As `StreamHandle.first`."""
        position = 0
        while True:
            await self.log.begun.wait()
            frame = self.log.next_frame(position)
            if frame is None:
                continue  # a restart invalidated its first events
            message = frame.message
            if not (isinstance(message, StreamChunk) and isinstance(message.chunk, Notice)):
                return frame
            position = frame.position

    async def read(self, after: int = 0, *, exact: bool = False) -> Observable[Frame]:
        """As `StreamHandle.read`."""
        return self.log.read(after, exact=exact)

    @property
    def summary(self) -> StreamSummary:
        """The current summary."""
        info = self.tracked.info
        return StreamSummary(
            id=info.id,
            status=self._status(info.status),
            started=info.started,
            last_activity=info.last_activity,
            duration=info.duration,
            model=self._model,
            position=self.log.position,
            readers=self.log.readers,
            owner=self._owner,
            progress=info.progress,
            estimated_end=info.estimated_end,
        )

    @property
    def _outcome(self) -> Outcome | None:
        ending = self.log.ending
        return None if ending is None else ending.outcome

    def _status(self, tracked: StreamStatus) -> StreamStatus:
        if (outcome := self._outcome) is not None:
            return outcome
        return "waiting" if tracked == "running" and not self.log.position else tracked

    def cancel(self) -> None:
        """Cancel the stream. Does nothing if it has ended."""
        if self.log.ending is None:
            self.tracked.cancel()

    def cancel_if_unread(self) -> None:
        """As `StreamHandle.cancel_if_unread`."""
        if not self.log.readers and self.log.ending is None:
            self.tracked.control.stop()  # nobody has asked for that

    @property
    def may_be_joined(self) -> bool:
        """Whether a repeated request can join this stream: it is running, or has completed."""
        return self._outcome in (None, "completed")

    def stop_timer(self) -> None:
        """Stop the timer of the grace time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_chunk(self, chunk: Chunk) -> None:
        try:
            size = _size(chunk)
        except (TypeError, ValueError) as error:
            self._run.fail(error)
            return
        self.log.append(chunk, size)
        limits = self._limits
        if self.log.events >= limits.stream_events:
            limit = f"{limits.stream_events} events"
            self._run.fail(StreamError(f"the stream exceeds this server's limit of {limit}"))
        elif self.log.size > limits.stream_characters:
            limit = f"{limits.stream_characters} characters"
            self._run.fail(StreamError(f"the stream exceeds this server's limit of {limit}"))

    def _on_run_ended(self, message: Complete | StreamFailed) -> None:
        error = self._run.error
        if error is not None and not isinstance(error, RxLLMError):
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the stream {self.log.id!r} failed", "exception": error}
            )
        self.log.end(message)
        self._wait(self._limits.grace)
        self._on_ended(self)

    def _on_readers(self, count: int) -> None:
        if self.log.ending is not None:
            return
        self.stop_timer()
        if not count:
            self._wait(self._grace)

    def _wait(self, seconds: float) -> None:
        self.stop_timer()
        self._timer = PatientTimer(seconds, self._timeout)

    def _timeout(self) -> None:
        self._timer = None
        if self.log.ending is None:
            self.tracked.control.stop()
        else:
            self._on_expired(self)


def _size(chunk: Chunk) -> int:
    """Return the size of a chunk in characters.

    A chunk that may hold any value is encoded: it is better to fail here than at a reader.
    """
    if (type(chunk) is Token or type(chunk) is Reasoning) and chunk.state is None:
        return len(chunk.text)
    if type(chunk) is Batch:
        return sum(len(part.text) for part in chunk.chunks)
    if type(chunk) is ToolCall and chunk.state is None:
        return len(chunk.arguments)
    return len(to_json(chunk))
