"""A store that keeps streams in the memory of this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.errors import StreamStateError
from rxllm.web.failures import DrainingError, StreamNotFoundError
from rxllm.web.running_stream import RunningStream, StoreLimits
from rxllm.web.stream_messages import StreamSummary
from rxllm.web.stream_store import Frame, StreamHandle

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
    """

    def __init__(
        self, registry: ops.StreamRegistry, limits: StoreLimits, buffer_size: int = 1024
    ) -> None:
        self._registry = registry
        self._limits = limits
        self._buffer_size = buffer_size
        self._streams: dict[str, RunningStream] = {}
        self._ended: deque[RunningStream] = deque()

    async def start(self) -> None:
        """As `StreamStore.start`."""

    async def begin(
        self,
        ask: Callable[[], Observable[Chunk]],
        stream_id: str,
        *,
        model: str | None = None,
        grace: float | None = None,
        key: str | None = None,
        owner: str | None = None,
    ) -> StreamHandle:
        """As `StreamStore.begin`."""
        known = self._streams.get(stream_id)
        if known is not None and key is not None and known.key == key:
            if known.may_be_joined:
                return known
            self._forget(known)
        if self._registry.refusing:
            raise DrainingError("the server is shutting down and accepts no new streams")
        if stream_id in self._streams or any(
            live.id == stream_id for live in self._registry.active
        ):
            raise StreamStateError(f"a stream {stream_id!r} already exists: choose another id")
        stream = ask()
        grace = self._limits.grace if grace is None else grace
        kept = RunningStream(
            stream_id,
            model,
            grace,
            key,
            owner,
            self._limits,
            self._buffer_size,
            on_ended=self._keep,
            on_expired=self._forget,
        )
        self._streams[stream_id] = kept
        kept.start(stream, self._registry)
        return kept

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

    async def list(self) -> list[StreamSummary]:
        """As `StreamStore.list`."""
        return [kept.summary for kept in self._streams.values()]

    async def close(self) -> None:
        """As `StreamStore.close`."""
        streams = list(self._streams.values())
        for kept in streams:
            kept.cancel()
        await asyncio.gather(*[kept.scheduler.settle() for kept in streams])
        for kept in streams:
            self._forget(kept)

    def _keep(self, kept: RunningStream) -> None:
        """Keep a stream that has ended, and forget the oldest beyond `limits.ended_streams`."""
        self._ended.append(kept)
        while len(self._ended) > self._limits.ended_streams:
            self._forget(self._ended[0])

    def _forget(self, kept: RunningStream) -> None:
        """Remove a stream from the store; its current readers can continue."""
        kept.stop_timer()
        if self._streams.get(kept.log.id) is kept:
            del self._streams[kept.log.id]
        if kept in self._ended:
            self._ended.remove(kept)

    def _find(self, stream_id: str) -> RunningStream:
        kept = self._streams.get(stream_id)
        if kept is None:
            raise StreamNotFoundError(f"there is no stream {stream_id!r}, or it is no longer kept")
        return kept
