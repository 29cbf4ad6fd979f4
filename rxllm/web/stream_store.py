"""What holds the streams of a server, so that they outlive their connections.

`StreamStore` is the whole of what the endpoints need. `rxllm.web.memory_store.MemoryStreams` keeps
everything in this process; a store that several servers share can take its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from reactivex import Observable

from rxllm.chunks import Chunk, Outcome
from rxllm.web.encoding import sse_event, to_json
from rxllm.web.failures import StreamNotFoundError
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed, StreamSummary

__all__ = ["Frame", "StreamHandle", "StreamNotFoundError", "StreamStore"]


_EVENTS: Final = {StreamChunk: "chunk", Complete: "complete", StreamFailed: "error"}


class Frame:
    """One event of a stream, encoded for the first reader of each form, and once for all of them.

    Attributes:
        position: counts the events of a stream from 1. After a frame with this position a reader
            has had everything up to it: a joined frame bears the position of its last event.
        message: what it says. A `Complete` here has the whole text.
    """

    __slots__ = ("_data", "_sse", "message", "position")

    def __init__(self, position: int, message: StreamChunk | Complete | StreamFailed) -> None:
        self.position: int = position
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
            self._data = to_json(self.wire_message())
        return self._data

    def wire_message(self, **names: str) -> StreamChunk | Complete | StreamFailed:
        """The message as readers get it: `Complete` without its text, and with other `names`, such
        as `id` or `room`."""
        message = self.message
        if isinstance(message, Complete):
            return msgspec.structs.replace(message, text=None, **names)
        return msgspec.structs.replace(message, **names) if names else message

    @property
    def sse(self) -> bytes:
        """As a server-sent event, the empty line at its end included."""
        if self._sse is None:
            self._sse = sse_event(self.event, self.position, self.data)
        return self._sse

    @property
    def outcome(self) -> Outcome | None:
        """How the stream has ended, if this is its last event."""
        message = self.message
        if isinstance(message, StreamChunk):
            return None
        if isinstance(message, StreamFailed):
            return "failed"
        return "cancelled" if message.finish_reason == "cancelled" else "completed"


class StreamHandle(Protocol):
    """A stream for its beginner, who can read it even if the store has forgotten it since."""

    async def first(self) -> Frame:
        """The first event that isn't a notice, as soon as it is there. The stream then waits for
        its first reader.

        So a failure to start can be returned as an HTTP status, even after retries.
        """
        ...

    async def read(self, after: int = 0) -> Observable[Frame]:
        """As `StreamStore.read`."""
        ...

    def cancel_if_unread(self) -> None:
        """End the stream unless others read it: its beginner has left for good."""
        ...


class StreamStore(Protocol):
    """Runs streams, keeps their events, and lets any number of readers read them.

    Every method that takes an id raises `StreamNotFoundError` if there is no such stream. `begin`
    is called after `start` only.
    """

    async def start(self) -> None:
        """Get ready, in the event loop of the server."""
        ...

    async def begin(
        self,
        ask: Callable[[], Observable[Chunk]],
        stream_id: str,
        *,
        model: str | None = None,
        grace: float | None = None,
        key: str | None = None,
    ) -> StreamHandle:
        """Subscribe to the stream that `ask` makes, and keep its events.

        A client whose connection was cut asks for the same stream again: where a stream of this id
        was begun with the same `key`, and lives or has completed, it is returned, and `ask` isn't
        called. `None` is not a key.

        Args:
            ask: makes the stream, whose name in the registry is `stream_id`.
            stream_id: the stream's name.
            model: reported in its summary.
            grace: seconds that it runs without a reader, from now or after the last one has left,
                before it is cancelled; `None` uses the store's.
            key: identifies the request.

        Raises:
            DrainingError: the store is being shut down.
            StreamStateError: another stream of this id is kept.
            Exception: what `ask` raises.
        """
        ...

    async def read(self, stream_id: str, after: int = 0) -> Observable[Frame]:
        """What the stream said after this position, and what it says from now on.

        The Observable is subscribed to once for each reader, which has its own demand. What a
        reader has missed comes in few frames: text is joined, which loses where tokens began, and
        what was taken back is left out. Its last frame is a `complete` or an `error`; then it
        completes. It fails only with a `LaggedBehindError`: for `reader_stall` seconds the reader
        could take nothing.
        """
        ...

    async def pause(self, stream_id: str) -> None:
        """Hold the stream for all readers.

        Raises:
            StreamStateError: it has ended.
        """
        ...

    async def resume(self, stream_id: str) -> None:
        """Let the stream go on.

        Raises:
            StreamStateError: it has ended.
        """
        ...

    async def cancel(self, stream_id: str) -> None:
        """End the stream with `End("cancelled")`; one that has ended is left as it is."""
        ...

    async def describe(self, stream_id: str) -> StreamSummary:
        """What is known of the stream now."""
        ...

    async def list(self) -> list[StreamSummary]:
        """All streams that are kept, in the order of their beginnings."""
        ...

    async def close(self) -> None:
        """Cancel what lives, let readers see the end, and forget everything."""
        ...
