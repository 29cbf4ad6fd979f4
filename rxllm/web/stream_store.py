"""The protocol of a stream store, in which a server's streams outlive their connections.

`StreamStore` is all that the endpoints need. `rxllm.web.memory_store.MemoryStreams` keeps
everything in this process; a store shared by several servers can replace it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec
from reactivex import Observable

from rxllm.chunks import Chunk, Outcome, StateKey, ToolCall, state_key
from rxllm.web.encoding import sse_event, to_json, without_arguments
from rxllm.web.failures import StreamNotFoundError
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed, StreamSummary

__all__ = ["Frame", "Resume", "StreamHandle", "StreamNotFoundError", "StreamStore"]

Resume: TypeAlias = Callable[[str, bytes, Sequence[Chunk]], Observable[Chunk]]
"""Returns a stream that continues the one with this id, which another process began with this
`asked`, after the chunks that it has had. Its name in the registry is its id. It raises if the
stream can't be continued here."""

_EVENTS: Final = {StreamChunk: "chunk", Complete: "complete", StreamFailed: "error"}


class Frame:
    """One event of a stream, encoded at the first read in each format, once for all readers.

    Attributes:
        position: counts the events of a stream from 1. A reader that has received this frame has
            everything up to this position: a joined frame has the position of its last event.
        message: the message. A `Complete` here has the whole text, and a tool call its arguments so
            far.
        offset: of the arguments of a tool call, the number of characters that readers have from
            earlier frames, and that the encoded frame omits.
    """

    __slots__ = ("_data", "_sse", "message", "offset", "position")

    def __init__(
        self,
        position: int,
        message: StreamChunk | Complete | StreamFailed,
        offset: int | None = None,
    ) -> None:
        self.position: int = position
        self.offset: int | None = offset
        self.message: StreamChunk | Complete | StreamFailed = message
        self._data: bytes | None = None
        self._sse: bytes | None = None

    @property
    def event(self) -> str:
        """`"chunk"`, `"complete"` or `"error"`."""
        return _EVENTS[type(self.message)]

    @property
    def data(self) -> bytes:
        """The message as one line of JSON, without a newline; `Complete` without its text."""
        if self._data is None:
            message = self.message
            if self.offset is not None or type(message) is Complete:
                message = self.wire_message()
            self._data = to_json(message)
        return self._data

    def wire_message(self, **names: str) -> StreamChunk | Complete | StreamFailed:
        """Return the message for readers: `Complete` without its text, a tool call without the
        arguments that they have, and `names` replaced.

        `names` are fields such as `id` or `room`.
        """
        message = self.message
        if isinstance(message, Complete):
            return msgspec.structs.replace(message, text=None, **names)
        if self.offset is not None and isinstance(message, StreamChunk):
            message = without_arguments(message, self.offset)
        return msgspec.structs.replace(message, **names) if names else message

    @property
    def sse(self) -> bytes:
        """The message as a server-sent event, including the empty line at its end."""
        if self._sse is None:
            data = self._data or self.data
            self._sse = sse_event(_EVENTS[type(self.message)], self.position, data)
        return self._sse

    @property
    def call(self) -> StateKey | None:
        """Identifies the tool call that the message is about, if it is about one."""
        message = self.message
        if not isinstance(message, StreamChunk) or not isinstance(message.chunk, ToolCall):
            return None
        return state_key(message.chunk)

    @property
    def whole(self) -> Frame:
        """This frame for a reader that has received no other of its call."""
        return self if self.offset is None else Frame(self.position, self.message)

    @property
    def outcome(self) -> Outcome | None:
        """How the stream ended, if this is its last event."""
        message = self.message
        if isinstance(message, StreamChunk):
            return None
        if isinstance(message, StreamFailed):
            return "failed"
        return "cancelled" if message.finish_reason == "cancelled" else "completed"


class StreamHandle(Protocol):
    """A stream, readable by its creator even after the store has forgotten it."""

    async def first(self) -> Frame:
        """Wait for the first event that isn't a notice, and return it.

        The stream then waits for its first reader. So a failure to start can be returned as an HTTP
        status, even after retries.
        """
        ...

    async def read(self, after: int = 0, *, exact: bool = False) -> Observable[Frame]:
        """As `StreamStore.read`."""
        ...

    def cancel_if_unread(self) -> None:
        """Cancel the stream unless it has readers: its creator has left for good."""
        ...


class StreamStore(Protocol):
    """Runs streams, keeps their events, and serves any number of readers.

    Every method that takes an id raises `StreamNotFoundError` if there is no such stream. Where
    several processes share a store, methods that need the others raise `StoreUnavailableError`
    while they can't be reached. Call `start` before any other method.
    """

    async def start(self, resume: Resume | None = None) -> None:
        """Prepare the store, in the event loop of the server.

        Args:
            resume: continues streams whose process has died; `None` to let their readers know.
        """
        ...

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
        """Subscribe to the stream that `ask` returns, and keep its events.

        A client that lost its connection repeats its request: if a stream with this id was begun
        with the same `key`, and is running or has completed, it is returned, and `ask` isn't
        called. `None` matches no key.

        Args:
            ask: returns the stream, whose name in the registry is `stream_id`.
            stream_id: the stream's id.
            model: the model to report in the summary.
            grace: seconds that the stream runs without a reader, from now or after the last one has
                left, before it is cancelled; `None` for the store's default.
            key: identifies the request.
            owner: whose stream it is, for the summary.
            asked: the request, kept with the stream for other processes, which may read it with
                `asked`.
            is_resumable: whether another process may continue the stream, by `asked`, if this one
                dies.

        Raises:
            DrainingError: the store is shutting down.
            StreamStateError: the store keeps another stream with this id.
            Exception: whatever `ask` raises.
        """
        ...

    async def read(
        self, stream_id: str, after: int = 0, *, exact: bool = False
    ) -> Observable[Frame]:
        """Read the events of the stream after this position, and those to come.

        Each subscription to the Observable is one reader, with its own demand. A reader gets what
        it missed in few frames: text is joined, which loses the token boundaries, and chunks that a
        restart invalidated are left out. The last frame is a `complete` or an `error`; then the
        Observable completes. An `exact` reader gets each event as it was: no text is joined, and
        each state of a call is there. It fails only with a
        `LaggedBehindError`, if the reader was stalled for `reader_stall` seconds.
        """
        ...

    async def pause(self, stream_id: str) -> None:
        """Pause the stream for all readers.

        Raises:
            StreamStateError: it has ended.
        """
        ...

    async def resume(self, stream_id: str) -> None:
        """Resume the stream.

        Raises:
            StreamStateError: it has ended.
        """
        ...

    async def cancel(self, stream_id: str) -> None:
        """End the stream with `End("cancelled")`. Does nothing if it has ended."""
        ...

    async def describe(self, stream_id: str) -> StreamSummary:
        """Return the current summary of the stream."""
        ...

    async def asked(self, stream_id: str) -> bytes | None:
        """Return the request that the stream was begun with, if it was given."""
        ...

    async def list(self, prefix: str = "") -> list[StreamSummary]:
        """Return the summaries of all kept streams whose ids begin with `prefix`, in the order in
        which they began."""
        ...

    async def close(self) -> None:
        """Cancel the running streams of this process, let readers see the end, and forget them."""
        ...
