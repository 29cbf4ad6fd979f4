"""Chunks of a stream, encoded once each as the events that a client reads."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.chunks import Chunk
from rxllm.errors import RxLLMError
from rxllm.result import Recorder, Result
from rxllm.stream import Stream
from rxllm.valve import StreamScheduler, report_failure
from rxllm.web.failures import failure_message
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed

__all__ = [
    "EventEncoder",
    "Frame",
    "encode_each",
    "encoded",
    "plain_message",
    "sse_event",
    "text_line",
    "to_json",
]

_T = TypeVar("_T")

Frame: TypeAlias = Callable[[str, int, bytes], bytes]
"""How an event goes out, given its kind (`chunk`, `complete`, `error`), position and JSON."""

_encode = msgspec.json.Encoder().encode


def sse_event(kind: str, position: int, data: bytes) -> bytes:
    """An event of an event stream, as the WHATWG HTML standard has it (9.2.5).

    >>> sse_event("chunk", 7, b"{}")
    b'event: chunk\\nid: 7\\ndata: {}\\n\\n'
    """
    return b"event: %b\nid: %d\ndata: %b\n\n" % (kind.encode(), position, data)


def text_line(kind: str, position: int, data: bytes) -> bytes:
    """A line of NDJSON."""
    return data + b"\n"


def plain_message(kind: str, position: int, data: bytes) -> bytes:
    """A message of a WebSocket: the JSON alone."""
    return data


class EventEncoder:
    """Turns the chunks of one stream into frames. Made in a running event loop.

    Args:
        stream_id: the stream's name on the wire.
        frame: the form in which it goes out.
        first_position: of the first event; above 1 when a reader goes on from where it was.
        with_text: whether `complete` holds the whole text.

    Attributes:
        position: of the last event that was made.
        error: the error that was told, if one was.
    """

    def __init__(
        self,
        stream_id: str,
        frame: Frame = sse_event,
        *,
        first_position: int = 1,
        with_text: bool = False,
    ) -> None:
        self.position = first_position - 1
        self.error: Exception | None = None
        self._id = stream_id
        self._frame = frame
        self._with_text = with_text
        self._record = Recorder(asyncio.get_running_loop().time)
        self._add = self._record.add
        self._has_ended = False

    def chunk(self, chunk: Chunk) -> bytes:
        """The frame of a chunk.

        Raises:
            TypeError: it is no chunk, or holds what JSON can't express.
        """
        self._add(chunk)
        position = self.position + 1
        data = to_json(
            StreamChunk(id=self._id, position=position, timestamp=time.time(), chunk=chunk)
        )
        self.position = position
        return self._frame("chunk", position, data)

    def complete(self) -> bytes:
        """The frame of the end of a stream that has not failed."""
        result = self._record.result()
        self._has_ended = True
        message = Complete(
            id=self._id,
            tokens=result.timings.tokens,
            seconds=round(result.timings.elapsed, 6),
            finish_reason=result.finish_reason,
            usage=result.usage,
            model=result.model,
            text=result.text if self._with_text else None,
            position=self.position + 1,
        )
        return self._made("complete", message)

    def failed(self, error: Exception) -> bytes:
        """The frame of an error, which gets the text so far as its `partial` if it has none."""
        if isinstance(error, RxLLMError) and not error.partial:
            error.partial = self._record.text
        self.error = error
        message = failure_message(
            error, self._id, position=self.position + 1, partial=self._record.text
        )
        return self._made("error", message)

    def result(self) -> Result:
        """What came; with the finish reason `"cancelled"` if it came to no end."""
        return self._record.result(cancelled=not self._has_ended)

    def _made(self, kind: str, message: Complete | StreamFailed) -> bytes:
        data = to_json(message)
        self.position += 1
        return self._frame(kind, self.position, data)


def to_json(message: object) -> bytes:
    """The JSON of anything that goes out: half of a surrogate pair, no UTF-8, goes out as `?`.

    Raises:
        TypeError: it holds what JSON can't express.
    """
    try:
        return _encode(message)
    except UnicodeEncodeError:
        builtins = msgspec.to_builtins(message)
        text = json.dumps(builtins, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def encoded(stream: Observable[Chunk], encoder: EventEncoder) -> Stream[bytes]:
    """The frames of a stream, the terminal one included: it completes in any case.

    To be subscribed to once. What can't be encoded is told as an error, and disposes the stream.
    """

    def subscribe(
        observer: abc.ObserverBase[bytes], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        upstream = SingleAssignmentDisposable()
        ended = False

        def on_next(chunk: Chunk) -> None:
            if ended:
                return
            try:
                frame = encoder.chunk(chunk)
            except Exception as error:
                upstream.dispose()
                on_error(error)
                return
            observer.on_next(frame)

        def end(frame: bytes) -> None:
            nonlocal ended
            ended = True
            observer.on_next(frame)
            observer.on_completed()

        def on_error(error: Exception) -> None:
            if not ended:
                end(encoder.failed(error))

        def on_completed() -> None:
            if not ended:
                end(encoder.complete())

        def on_failure(error: Exception) -> None:
            """An operator has raised: for the client this is an error like any other."""
            if ended:
                report_failure(asyncio.get_running_loop(), error)
            else:
                upstream.dispose()
                on_error(error)

        if isinstance(scheduler, StreamScheduler):
            scheduler = scheduler.with_sink(on_failure)
        upstream.disposable = stream.subscribe(on_next, on_error, on_completed, scheduler=scheduler)
        return upstream

    return Stream(subscribe, "encoded", of_chunks=False)


def encode_each(events: Observable[_T], encode: Callable[[_T], bytes]) -> Stream[bytes]:
    """`events` as bytes; those that become no bytes are left out. Demand passes through."""

    def subscribe(
        observer: abc.ObserverBase[bytes], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        def on_next(event: _T) -> None:
            if data := encode(event):
                observer.on_next(data)

        return events.subscribe(
            on_next, observer.on_error, observer.on_completed, scheduler=scheduler
        )

    return Stream(subscribe, "encode_each", of_chunks=False)
