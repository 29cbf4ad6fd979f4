"""A running stream, kept in the memory of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Batch, Carried, Chunk, Outcome, Reasoning, Token, ToolCall
from rxllm.errors import RxLLMError, StreamError
from rxllm.patient_timer import PatientTimer
from rxllm.valve import StreamScheduler
from rxllm.web.encoding import to_json
from rxllm.web.event_log import EventLog
from rxllm.web.event_reader import ReaderElsewhere
from rxllm.web.runner import Runner
from rxllm.web.stream_messages import (
    Complete,
    StreamFailed,
    StreamStatus,
    StreamSummary,
)
from rxllm.web.stream_store import Frame

__all__ = ["RunningStream", "StoreLimits", "StreamDetails", "live_summary", "size_of"]

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
    def stream_seconds(self) -> float: ...
    @property
    def stream_characters(self) -> int: ...


class StreamDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream is begun with.

    Args:
        id: the stream's id.
        grace: seconds that the stream runs without a reader.
        model: the requested model.
        key: identifies the request; a repeated request has the same key.
        owner: whose stream it is.
        asked: the request, for other processes; see `StreamStore.begin`.
        is_resumable: whether another process may continue the stream.
    """

    id: str
    grace: float
    model: str | None = None
    key: str | None = None
    owner: str | None = None
    asked: bytes | None = None
    is_resumable: bool = False


class RunningStream:
    """One stream: its subscription, its events, and its remaining time without a reader.

    Args:
        details: what it was begun with.
        limits: how much is kept, and what readers may do.
        buffer_size: events that all readers may lag behind before the model waits.
        on_ended: called when the stream has ended.
        on_expired: called when the stream no longer has to be kept after its end.
        log: the events that another process has had from it; a new log if `None`.
        first_position: of the first event that is added, or `None` for the next.
    """

    def __init__(
        self,
        details: StreamDetails,
        limits: StoreLimits,
        buffer_size: int,
        *,
        on_ended: Callable[[RunningStream], object],
        on_expired: Callable[[RunningStream], object],
        log: EventLog | None = None,
        first_position: int | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.details: Final = details
        self._run: Final = Runner(details.id, self._on_chunk, self._on_run_ended, details.model)
        if log is None:
            log = EventLog(details.id, buffer_size, limits.reader_stall, self._on_readers)
        else:
            log.on_readers = self._on_readers
            self._run.seed([each for each in log.events_after(0, log.events)[2] if each])
        self.log: Final = log
        self.scheduler: Final = StreamScheduler(loop, self.log.valve, self._run.fail)
        self.tracked: ops.TrackedStream
        self._next_position = first_position
        self._limits = limits
        self._on_ended = on_ended
        self._on_expired = on_expired
        self._grace = max(details.grace, _MIN_GRACE)
        self._timer: PatientTimer | None = None
        self._elsewhere: dict[str, ReaderElsewhere] = {}

    def start(self, stream: Observable[Carried], registry: ops.StreamRegistry) -> None:
        """Subscribe."""
        if not self.log.readers:
            self._wait(max(self._grace, _MIN_FIRST_GRACE))
        self._run.start(stream, self.scheduler)
        self.tracked = registry[self.log.id]

    def detach(self) -> EventLog:
        """Stop the stream without an event, and return its log: it goes on in another process."""
        self.stop_timer()
        for node in tuple(self._elsewhere):
            self.follow(node, False)
        self.stop_timer()
        self._run.stop()
        return self.log

    @property
    def followers(self) -> tuple[str, ...]:
        """The processes that have readers of the stream."""
        return tuple(self._elsewhere)

    def follow(self, node: str, has_readers: bool) -> None:
        """Note whether another process has readers of the stream."""
        if has_readers and node not in self._elsewhere:
            reader = self._elsewhere[node] = ReaderElsewhere(self.log)
            self.log.add(reader)
            self.log.balance()
        elif not has_readers and node in self._elsewhere:
            self._elsewhere.pop(node).leave()

    def hold(self, node: str, is_held: bool) -> None:
        """Note whether all readers of another process are far behind."""
        reader = self._elsewhere.get(node)
        if reader is not None and is_held:
            reader.valve.close()
            self.log.balance()
        elif reader is not None:
            reader.valve.open()

    async def first(self) -> Frame:
        """As `StreamHandle.first`."""
        return await self.log.first()

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
            model=self.details.model,
            position=self.log.position,
            readers=self.log.readers,
            owner=self.details.owner,
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
            size = size_of(chunk)
        except (TypeError, ValueError) as error:
            self._run.fail(error)
            return
        position, self._next_position = self._next_position, None
        self.log.append(chunk, size, position)
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
        self.log.end(message, self._next_position)
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


def live_summary(info: ops.StreamInfo, owner: str | None) -> StreamSummary:
    """Return the summary of a stream that is in no store, without its error, whose message may have
    anything."""
    fields = msgspec.structs.asdict(info)
    del fields["error"]
    return StreamSummary(**fields, owner=owner)


def size_of(chunk: Chunk) -> int:
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
