"""Encode messages as JSON, and as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from reactivex import Observable, abc

from rxllm.chunks import ToolCall
from rxllm.stream import Stream
from rxllm.text.surrogates import without_surrogates
from rxllm.web.stream_messages import StreamChunk

__all__ = [
    "encode_each",
    "sse_event",
    "to_json",
    "without_arguments",
]

_T = TypeVar("_T")

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
        data = _encode(without_surrogates(msgspec.to_builtins(message)))
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
