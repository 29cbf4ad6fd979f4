"""Encode the chunks of a stream, once each, as the events that a client reads."""

from __future__ import annotations

import time
from typing import Final

from reactivex import Observable, abc

from rxllm.chunks import Carried, Chunk, Token
from rxllm.stream import Stream
from rxllm.valve import StreamScheduler
from rxllm.web.call_offsets import CallOffsets
from rxllm.web.runner import Runner
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed
from rxllm.web.stream_store import Frame
from rxllm.web.wire import Writer

__all__ = ["EncodedStream"]


class EncodedStream:
    """One stream, encoded for one client. Create it in a running event loop.

    Args:
        stream: the chunks.
        stream_id: the stream's id on the wire.
        writer: writes each frame.
        first_position: position of the first event; above 1 for a client that resumes.

    Attributes:
        frames: what was written, including the final event; subscribe once. Always completes: an
            error is sent as an event.
        run: the run of the stream, with its result and error.
    """

    def __init__(
        self,
        stream: Observable[Carried],
        stream_id: str,
        writer: Writer,
        *,
        first_position: int = 1,
    ) -> None:
        self.run: Final = Runner(stream_id, self._on_chunk, self._on_end)
        self.frames: Final = Stream(self._subscribe, "encoded", of_chunks=False)
        self._stream = stream
        self._id = stream_id
        self._write = writer
        self._position = first_position
        self._calls = CallOffsets()
        self._observer: abc.ObserverBase[bytes]

    def _subscribe(
        self, observer: abc.ObserverBase[bytes], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        self._observer = observer
        if isinstance(scheduler, StreamScheduler):
            scheduler = scheduler.with_sink(self.run.fail)
        return self.run.start(self._stream, scheduler)

    def _on_chunk(self, chunk: Chunk) -> None:
        position = self._position
        message = StreamChunk(id=self._id, position=position, timestamp=time.time(), chunk=chunk)
        offset = None if type(chunk) is Token else self._calls.next(chunk)
        try:
            data = self._write(Frame(position, message, offset))
        except Exception as error:  # the chunk holds a value that JSON can't express
            self.run.fail(error)
            return
        self._position = position + 1
        if data:
            self._observer.on_next(data)

    def _on_end(self, message: Complete | StreamFailed) -> None:
        message.position = self._position
        if data := self._write(Frame(self._position, message)):
            self._observer.on_next(data)
        self._observer.on_completed()
