"""Streams that are kept in the memory of this process."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxllm import operators as ops
from rxllm.chunks import Chunk, Json, encode
from rxllm.errors import RxLLMError, StreamError, StreamStateError
from rxllm.server.event_log import EventLog
from rxllm.server.failures import DrainingError, failed
from rxllm.server.limits import Limits
from rxllm.server.messages import Complete, Failed, StreamSummary
from rxllm.server.streams import Frame, StreamNotFoundError
from rxllm.sinks._result import Recorder
from rxllm.valve import StreamScheduler

__all__ = ["MemoryStreams"]

_MOMENT: Final = 1.0  # between two readers of which one takes over from the other
_FIRST_READER: Final = 10.0  # seconds that the first reader may take, if the grace is shorter


class MemoryStreams:
    """A `StreamStore` in this process.

    The streams it is given are `tracked` by `registry` under their ids: the registry pauses and
    stops them, and shuts them down.

    A stream costs its chunks and a few kilobytes: some 150 bytes an event, up to
    `limits.stream_events` of them; a reader costs a place in it.

    Args:
        registry: which streams live.
        limits: how long streams are kept, and what readers may do.
    """

    def __init__(self, registry: ops.StreamRegistry, limits: Limits) -> None:
        self._registry = registry
        self._limits = limits
        self._streams: dict[str, _Kept] = {}
        self._ended: deque[_Kept] = deque()

    async def begin(
        self,
        stream: Observable[Chunk],
        stream_id: str,
        *,
        model: str | None = None,
        grace: float | None = None,
    ) -> None:
        """As `StreamStore.begin`."""
        if self._registry.refusing:
            raise DrainingError("the server is being shut down, and takes no new streams")
        if stream_id in self._streams or any(
            live.id == stream_id for live in self._registry.active
        ):
            raise StreamStateError(f"there is a stream {stream_id!r} already")
        kept = _Kept(self, stream_id, model, self._limits.grace if grace is None else grace)
        self._streams[stream_id] = kept
        kept.start(stream, self._registry)

    async def read(self, stream_id: str, after: int = 0) -> Observable[Frame]:
        """As `StreamStore.read`."""
        return self._find(stream_id).log.read(after)

    async def first(self, stream_id: str) -> Frame:
        """As `StreamStore.first`."""
        log = self._find(stream_id).log
        await log.begun.wait()
        return log.frames(0)[0]

    async def pause(self, stream_id: str) -> None:
        """As `StreamStore.pause`."""
        self._find(stream_id).tracked.pause()

    async def resume(self, stream_id: str) -> None:
        """As `StreamStore.resume`."""
        self._find(stream_id).tracked.resume()

    async def cancel(self, stream_id: str) -> None:
        """As `StreamStore.cancel`."""
        self._find(stream_id).tracked.cancel()

    async def describe(self, stream_id: str) -> StreamSummary:
        """As `StreamStore.describe`."""
        return self._find(stream_id).summary

    async def list(self) -> list[StreamSummary]:
        """As `StreamStore.list`."""
        return [kept.summary for kept in self._streams.values()]

    async def close(self) -> None:
        """As `StreamStore.close`."""
        streams = list(self._streams.values())
        for kept in streams:
            kept.cancel()
        for kept in streams:
            await kept.scheduler.settle()
            self.forget(kept)

    @property
    def limits(self) -> Limits:
        """How long streams are kept."""
        return self._limits

    def ended(self, kept: _Kept) -> None:
        """Keep a stream that has ended for its time, and not too many."""
        self._ended.append(kept)
        while len(self._ended) > self._limits.ended_streams:
            self.forget(self._ended[0])

    def forget(self, kept: _Kept) -> None:
        """Nobody can find the stream any more; those who read it still can."""
        kept.stop_timer()
        if self._streams.get(kept.log.id) is kept:
            del self._streams[kept.log.id]
        if kept in self._ended:
            self._ended.remove(kept)

    def _find(self, stream_id: str) -> _Kept:
        kept = self._streams.get(stream_id)
        if kept is None:
            raise StreamNotFoundError(f"there is no stream {stream_id!r}, or not any more")
        return kept


class _Kept:
    """One stream: its subscription, what it has said, and the time it has left without a reader."""

    def __init__(
        self, store: MemoryStreams, stream_id: str, model: str | None, grace: float
    ) -> None:
        limits = store.limits
        loop = asyncio.get_running_loop()
        self.log = EventLog(stream_id, limits.reader_lag, limits.reader_stall, self._on_readers)
        self.scheduler = StreamScheduler(loop, self.log.valve)
        self.tracked: ops.TrackedStream
        self._store = store
        self._model = model
        self._grace = max(grace, _MOMENT)
        self._record = Recorder(loop.time)
        self._subscription = SingleAssignmentDisposable()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, stream: Observable[Chunk], registry: ops.StreamRegistry) -> None:
        """Subscribe."""
        self._wait(max(self._grace, _FIRST_READER))
        self._subscription.disposable = stream.subscribe(
            self._on_next, self._on_error, self._on_completed, scheduler=self.scheduler
        )
        self.tracked = registry[self.log.id]

    @property
    def summary(self) -> StreamSummary:
        """What is known now."""
        info = self.tracked.info
        return StreamSummary(
            id=info.id,
            status=info.status,
            started=info.started,
            last_activity=info.last_activity,
            duration=info.duration,
            model=self._model,
            position=self.log.position,
            readers=self.log.readers,
        )

    def cancel(self) -> None:
        """Stop the stream; one that has ended is left as it is."""
        self.stop_timer()
        self.tracked.cancel()

    def stop_timer(self) -> None:
        """Wait for nobody."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_next(self, chunk: Chunk) -> None:
        if self.log.ending is not None:
            return  # a source that pushes all at once has not seen the disposal yet
        try:
            if type(chunk) is Json:
                encode(chunk)  # it may hold anything: better now than in front of a reader
            self._record.add(chunk)
        except (TypeError, ValueError) as error:
            self._subscription.dispose()
            self._on_error(error)
            return
        self.log.append(chunk)
        most = self._store.limits.stream_events
        if self.log.position >= most:
            self._subscription.dispose()
            self._on_error(StreamError(f"the stream has more than {most} events"))

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, RxLLMError):
            error.partial = error.partial or self._record.text
        else:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the stream {self.log.id!r} failed", "exception": error}
            )
        self._end(failed(error, self.log.id))

    def _on_completed(self) -> None:
        result = self._record.result()
        self._end(
            Complete(
                id=self.log.id,
                tokens=result.timings.tokens,
                seconds=round(result.timings.elapsed, 6),
                finish_reason=result.finish_reason,
                usage=result.usage,
                model=result.model or self._model,
                text=result.text,
            )
        )

    def _end(self, message: Complete | Failed) -> None:
        if self.log.ending is not None:
            return
        self.log.end(message)
        del self._record
        self._wait(self._store.limits.grace)
        self._store.ended(self)

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
            self._store.forget(self)
