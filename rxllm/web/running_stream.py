"""One stream that is kept in the memory of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, Notice, Outcome, Reasoning, Token, ToolCall
from rxllm.errors import RxLLMError, StreamError
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

_MOMENT: Final = 1.0  # between two readers of which one takes over from the other
_FIRST_READER: Final = 10.0  # seconds that the first reader may take, if the grace is shorter


class StoreLimits(Protocol):
    """What a store is told of its limits; see `rxllm.server.limits.Limits` for their meaning."""

    @property
    def grace(self) -> float: ...
    @property
    def ended_streams(self) -> int: ...
    @property
    def reader_lag(self) -> int: ...
    @property
    def reader_stall(self) -> float: ...
    @property
    def stream_events(self) -> int: ...
    @property
    def stream_characters(self) -> int: ...


class RunningStream:
    """One stream: its subscription, what it has said, and the time it has left without a reader.

    Args:
        stream_id: its name.
        model: the model that it was asked of.
        grace: seconds that it runs without a reader.
        key: who asks for the same stream again has the same key.
        limits: what is kept, and what readers may do.
        on_ended: called when it has ended.
        on_expired: called when its time after the end is over.
    """

    def __init__(
        self,
        stream_id: str,
        model: str | None,
        grace: float,
        key: str | None,
        limits: StoreLimits,
        *,
        on_ended: Callable[[RunningStream], object],
        on_expired: Callable[[RunningStream], object],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.log: Final = EventLog(
            stream_id, limits.reader_lag, limits.reader_stall, self._on_readers
        )
        self._run: Final = Runner(stream_id, self._on_chunk, self._on_run_ended, model)
        self.scheduler: Final = StreamScheduler(loop, self.log.valve, self._run.fail)
        self.tracked: ops.TrackedStream
        self.key = key
        self._limits = limits
        self._on_ended = on_ended
        self._on_expired = on_expired
        self._model = model
        self._grace = max(grace, _MOMENT)
        self._timer: asyncio.TimerHandle | None = None

    def start(self, stream: Observable[Chunk], registry: ops.StreamRegistry) -> None:
        """Subscribe."""
        self._wait(max(self._grace, _FIRST_READER))
        self._run.start(stream, self.scheduler)
        self.tracked = registry[self.log.id]

    async def first(self) -> Frame:
        """As `StreamHandle.first`."""
        position = 0
        while True:
            await self.log.begun.wait()
            frame = self.log.next_frame(position)
            if frame is None:
                continue  # what it began with was taken back
            message = frame.message
            if not (isinstance(message, StreamChunk) and isinstance(message.chunk, Notice)):
                return frame
            position = frame.position

    async def read(self, after: int = 0) -> Observable[Frame]:
        """As `StreamHandle.read`."""
        return self.log.read(after)

    @property
    def summary(self) -> StreamSummary:
        """What is known now."""
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
        """Stop the stream; one that has ended is left as it is."""
        if self.log.ending is None:
            self.tracked.cancel()

    def cancel_if_unread(self) -> None:
        """As `StreamHandle.cancel_if_unread`."""
        if not self.log.readers:
            self.cancel()

    @property
    def may_be_joined(self) -> bool:
        """Whether who asks the same again is given this one: it lives, or has completed."""
        return self._outcome in (None, "completed")

    def stop_timer(self) -> None:
        """Wait for nobody."""
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
            most = f"more than {limits.stream_events} events"
            self._run.fail(StreamError(f"the stream has {most}, the limit of this server"))
        elif self.log.size > limits.stream_characters:
            most = f"more than {limits.stream_characters} characters"
            self._run.fail(StreamError(f"the stream has {most}, the limit of this server"))

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
        self._timer = asyncio.get_running_loop().call_later(seconds, self._timeout)

    def _timeout(self) -> None:
        self._timer = None
        if self.log.ending is None:
            self.tracked.cancel()
        else:
            self._on_expired(self)


def _size(chunk: Chunk) -> int:
    """Characters to be held. What may hold anything is encoded: better now than in front of a
    reader."""
    if type(chunk) is Token or type(chunk) is Reasoning:
        return len(chunk.text)
    if type(chunk) is Batch:
        return sum(len(part.text) for part in chunk.chunks)
    if type(chunk) is ToolCall:
        return len(chunk.arguments)
    return len(to_json(chunk))
