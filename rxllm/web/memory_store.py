"""A store that keeps streams in the memory of this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.errors import StreamStateError
from rxllm.web.event_log import EventLog
from rxllm.web.failures import DrainingError, StreamNotFoundError
from rxllm.web.running_stream import RunningStream, StoreLimits, StreamDetails
from rxllm.web.stream_messages import StreamSummary
from rxllm.web.stream_store import Frame, Resume, StreamHandle

__all__ = ["MemoryStreams"]


class MemoryStreams:
    """A `StreamStore` in the memory of this process.

    The streams passed to `begin` must be tracked by `registry` under their ids: the registry
    pauses, stops and shuts them down.

    A stream takes a few kilobytes, about 150 bytes for each event, up to `limits.stream_events` of
    them, and their text, up to `limits.stream_characters`; a reader takes only a position.

    Args:
        registry: the registry of live streams.
        limits: how long streams are kept, and what readers may do.
        buffer_size: events that all readers of a stream may lag behind before its model waits.
        on_forget: called with each stream that is no longer kept.
    """

    def __init__(
        self,
        registry: ops.StreamRegistry,
        limits: StoreLimits,
        buffer_size: int = 1024,
        on_forget: Callable[[RunningStream], object] | None = None,
    ) -> None:
        self._on_forget = on_forget
        self._registry = registry
        self._limits = limits
        self._buffer_size = buffer_size
        self._streams: dict[str, RunningStream] = {}
        self._ended: deque[RunningStream] = deque()

    async def start(self, resume: Resume | None = None) -> None:
        """As `StreamStore.start`. Streams end with this process, so none is resumed."""

    async def begin(
        self,
        ask: Callable[[], Observable[Chunk]],
        stream_id: str,
        *,
        model: str | None = None,
        grace: float | None = None,
        key: str | None = None,
        owner: str | None = None,
        asked: bytes | None = None,
        is_resumable: bool = False,
    ) -> StreamHandle:
        """As `StreamStore.begin`."""
        details = StreamDetails(
            id=stream_id,
            grace=self._limits.grace if grace is None else grace,
            model=model,
            key=key,
            owner=owner,
            asked=asked,
            is_resumable=is_resumable,
        )
        return self.joined(details) or self.run(details, ask)

    def joined(self, details: StreamDetails) -> RunningStream | None:
        """Return the stream that a repeated request joins, if there is one.

        Raises:
            DrainingError, StreamStateError: see `StreamStore.begin`.
        """
        known = self._streams.get(details.id)
        if known is not None and details.key is not None and known.details.key == details.key:
            if known.may_be_joined:
                return known
            self.forget(known)
        if self._registry.refusing:
            raise DrainingError("the server is shutting down and accepts no new streams")
        if details.id in self._streams or any(
            live.id == details.id for live in self._registry.active
        ):
            raise StreamStateError(f"a stream {details.id!r} already exists: choose another id")
        return None

    def run(
        self,
        details: StreamDetails,
        ask: Callable[[], Observable[Chunk]],
        *,
        log: EventLog | None = None,
        first_position: int | None = None,
    ) -> RunningStream:
        """Run and keep a stream, which has no id of another one. See `RunningStream`."""
        stream = ask()
        kept = RunningStream(
            details,
            self._limits,
            self._buffer_size,
            on_ended=self._keep,
            on_expired=self.forget,
            log=log,
            first_position=first_position,
        )
        self._streams[details.id] = kept
        kept.start(stream, self._registry)
        return kept

    @property
    def running(self) -> Mapping[str, RunningStream]:
        """The kept streams, by their ids."""
        return self._streams

    def detach(self, kept: RunningStream) -> EventLog:
        """Stop and forget a stream, without an event, and return its log."""
        del self._streams[kept.details.id]
        return kept.detach()

    async def read(
        self, stream_id: str, after: int = 0, *, exact: bool = False
    ) -> Observable[Frame]:
        """As `StreamStore.read`."""
        return self._find(stream_id).log.read(after, exact=exact)

    async def pause(self, stream_id: str) -> None:
        """As `StreamStore.pause`."""
        self._find(stream_id).tracked.pause()

    async def resume(self, stream_id: str) -> None:
        """As `StreamStore.resume`."""
        self._find(stream_id).tracked.resume()

    async def cancel(self, stream_id: str) -> None:
        """As `StreamStore.cancel`."""
        self._find(stream_id).cancel()

    async def describe(self, stream_id: str) -> StreamSummary:
        """As `StreamStore.describe`."""
        return self._find(stream_id).summary

    async def asked(self, stream_id: str) -> bytes | None:
        """As `StreamStore.asked`."""
        return self._find(stream_id).details.asked

    async def list(self, prefix: str = "") -> list[StreamSummary]:
        """As `StreamStore.list`."""
        return [kept.summary for key, kept in self._streams.items() if key.startswith(prefix)]

    async def close(self) -> None:
        """As `StreamStore.close`."""
        streams = list(self._streams.values())
        for kept in streams:
            kept.cancel()
        await asyncio.gather(*[kept.scheduler.settle() for kept in streams])
        for kept in streams:
            self.forget(kept)

    def _keep(self, kept: RunningStream) -> None:
        """Keep a stream that has ended, and forget the oldest beyond `limits.ended_streams`."""
        self._ended.append(kept)
        while len(self._ended) > self._limits.ended_streams:
            self.forget(self._ended[0])

    def forget(self, kept: RunningStream) -> None:
        """Remove a stream from the store; its current readers can continue."""
        kept.stop_timer()
        if self._streams.get(kept.log.id) is kept:
            del self._streams[kept.log.id]
        if kept in self._ended:
            self._ended.remove(kept)
        if self._on_forget is not None:
            self._on_forget(kept)

    def _find(self, stream_id: str) -> RunningStream:
        kept = self._streams.get(stream_id)
        if kept is None:
            raise StreamNotFoundError(f"there is no stream {stream_id!r}, or it is no longer kept")
        return kept
