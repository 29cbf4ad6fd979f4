"""Encode the chunks of a stream, once each, as the events that a client reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

import msgspec
from reactivex import Observable, abc

from rxllm.chunks import Chunk, Token, ToolCall
from rxllm.stream import Stream
from rxllm.valve import StreamScheduler
from rxllm.web.call_offsets import CallOffsets
from rxllm.web.runner import Runner
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed

__all__ = [
    "EncodedStream",
    "EventFormat",
    "encode_each",
    "plain_message",
    "sse_event",
    "text_line",
    "to_json",
    "without_arguments",
]

_T = TypeVar("_T")

EventFormat: TypeAlias = Callable[[str, int, bytes], bytes]
"""Frames an event, given its kind (`chunk`, `complete`, `error`), position and JSON."""

_SSE_EVENTS: Final = {
    kind: b"event: %b\nid: %%d\ndata: %%b\n\n" % kind.encode()
    for kind in ("chunk", "complete", "error")
}
_LINE_BREAKS: Final = {
    char.encode(): json.dumps(char).strip('"').encode() for char in "\u0085\u2028\u2029"
}
_encode = msgspec.json.Encoder().encode


def sse_event(kind: str, position: int, data: bytes) -> bytes:
    """Format a server-sent event as in the WHATWG HTML standard (9.2.5).

    >>> sse_event("chunk", 7, b"{}")
    b'event: chunk\\nid: 7\\ndata: {}\\n\\n'
    """
    return _SSE_EVENTS[kind] % (position, data)


def text_line(kind: str, position: int, data: bytes) -> bytes:
    """Format a line of NDJSON."""
    return data + b"\n"


def plain_message(kind: str, position: int, data: bytes) -> bytes:
    """Format a WebSocket message: the JSON alone."""
    return data


class EncodedStream:
    """One stream, encoded as frames for one client. Create it in a running event loop.

    Args:
        stream: the chunks.
        stream_id: the stream's id on the wire.
        frame: frames an event.
        first_position: position of the first event; above 1 for a client that resumes.
        with_text: whether `complete` contains the whole text.

    Attributes:
        frames: the framed events, including the final one; subscribe once. Always completes: an
            error is sent as an event.
        run: the run of the stream, with its result and error.
    """

    def __init__(
        self,
        stream: Observable[Chunk],
        stream_id: str,
        frame: EventFormat = sse_event,
        *,
        first_position: int = 1,
        with_text: bool = False,
    ) -> None:
        self.run: Final = Runner(stream_id, self._on_chunk, self._on_end)
        self.frames: Final = Stream(self._subscribe, "encoded", of_chunks=False)
        self._stream = stream
        self._id = stream_id
        self._frame = frame
        self._position = first_position
        self._with_text = with_text
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
        if type(chunk) is not Token and (offset := self._calls.next(chunk)) is not None:
            message = without_arguments(message, offset)
        try:
            data = to_json(message)
        except Exception as error:  # the chunk holds a value that JSON can't express
            self.run.fail(error)
            return
        self._position = position + 1
        self._observer.on_next(self._frame("chunk", position, data))

    def _on_end(self, message: Complete | StreamFailed) -> None:
        message.position = self._position
        if isinstance(message, Complete) and not self._with_text:
            message.text = None
        kind = "complete" if isinstance(message, Complete) else "error"
        self._observer.on_next(self._frame(kind, self._position, to_json(message)))
        self._observer.on_completed()


def to_json(message: object) -> bytes:
    """Encode a message as one line of JSON.

    U+0085, U+2028 and U+2029 are escaped: some clients, such as those that use Python's
    `str.splitlines`, take them for the end of the line. A lone surrogate, which isn't valid UTF-8,
    is replaced by `?`.

    Raises:
        TypeError: the message holds a value that JSON can't express.

    >>> to_json("a\u2028b")
    b'"a\\\\u2028b"'
    """
    try:
        data = _encode(message)
    except UnicodeEncodeError:
        builtins = msgspec.to_builtins(message)
        text = json.dumps(builtins, ensure_ascii=False, separators=(",", ":"))
        data = text.encode("utf-8", "replace")
    if not data.isascii():
        for char, escaped in _LINE_BREAKS.items():
            data = data.replace(char, escaped)
    return data


def without_arguments(message: StreamChunk, offset: int) -> StreamChunk:
    """Return the message of a tool call without the first `offset` characters of its arguments."""
    call = message.chunk
    assert isinstance(call, ToolCall)  # noqa: S101 - others have no offset
    rest = msgspec.structs.replace(call, arguments=call.arguments[offset:])
    return msgspec.structs.replace(message, chunk=rest, offset=offset)


def encode_each(events: Observable[_T], encode: Callable[[_T], bytes]) -> Stream[bytes]:
    """Encode each event as bytes, and drop those that encode to `b""`. Demand passes through."""

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
