"""The streams of one WebSocket session, by the ids that the client chose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias
from uuid import uuid4

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.chunks import Chunk, Outcome
from rxllm.errors import RxLLMError
from rxllm.server.messages import StreamState
from rxllm.server.websocket.outbox import Outbox
from rxllm.web.encoding import to_json
from rxllm.web.failures import (
    InvalidMessageError,
    RefusedError,
    StreamNotFoundError,
    failure_message,
)
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed
from rxllm.web.stream_store import Frame, StreamStore

__all__ = ["Ask", "ClientStreams", "OnEnd"]

_REMEMBERED: Final = 100  # ended streams

Ask: TypeAlias = Callable[[str], Observable[Chunk]]
"""Creates a stream, given its id in the registry and in the store."""

OnEnd: TypeAlias = Callable[[Complete | StreamFailed], None]
"""Called with the final message of a stream each time it is sent: it is sent again to a client that
reconnects and missed it."""


class _ClientStream:
    """One stream: its id in the store, and the subscription of its client."""

    __slots__ = ("listed", "on_end", "outcome", "reading")

    def __init__(self, listed: str, on_end: OnEnd | None, outcome: Outcome | None = None) -> None:
        self.listed = listed
        self.on_end = on_end
        self.outcome = outcome
        self.reading = SingleAssignmentDisposable()


class ClientStreams:
    """The streams that one client has started. Other clients can't access them here.

    They run in the store. When the connection ends, the client can `attach` a new one within the
    grace period of the store. A request about a stream may cross with its last message, so the
    outcomes of the last 100 streams are remembered and sent in reply.

    Args:
        store: runs the streams.
        outbox: receives their messages, and provides their demand.
        most: maximum number of live streams.

    Attributes:
        outbox: the outbox of the current connection, or of the last one.
    """

    def __init__(self, store: StreamStore, outbox: Outbox, most: int) -> None:
        self._store = store
        self.outbox = outbox
        self._most = most
        self._live: dict[str, _ClientStream] = {}
        self._ended: dict[str, _ClientStream] = {}
        self._prefix = f"ws-{uuid4().hex[:12]}"
        self._number = 0

    def __contains__(self, stream_id: object) -> bool:
        return stream_id in self._live

    def __len__(self) -> int:
        """Return how many are live or remembered."""
        return len(self._live) + len(self._ended)

    def check(self, stream_id: str) -> None:
        """Raise if no stream with this id can start now.

        Raises:
            InvalidMessageError: a stream with this id is live.
            RefusedError: there are too many live streams.
        """
        if stream_id in self._live:
            raise InvalidMessageError(
                f"a stream {stream_id!r} is already running: choose another id", "id"
            )
        if len(self._live) >= self._most:
            raise RefusedError(
                "too_many_streams", f"this connection already has {self._most} streams", 429
            )

    async def begin(
        self, stream_id: str, ask: Ask, model: str | None, on_end: OnEnd | None = None
    ) -> None:
        """Run the stream of `ask`, and send its messages; `on_end` receives the final one.

        Raises:
            Exception: from `check` or `ask`; nothing was started then.
        """
        self.check(stream_id)
        self._number += 1
        listed = f"{self._prefix}-{self._number}"
        stream = self._live[stream_id] = _ClientStream(listed, on_end)
        try:
            handle = await self._store.begin(lambda: ask(listed), listed, model=model)
        except BaseException:
            del self._live[stream_id]
            raise
        self._ended.pop(stream_id, None)
        self._send(stream_id, stream, await handle.read())

    async def pause(self, stream_id: str) -> None:
        """Pause a stream, for as long as the registry allows.

        Raises:
            StreamNotFoundError: this client has no stream with this id.
        """
        listed = await self._find(stream_id)
        if listed is not None:
            await self._store.pause(listed)
            self.outbox.send(StreamState(id=stream_id, status="paused"))

    async def resume(self, stream_id: str) -> None:
        """Resume a paused stream.

        Raises:
            StreamNotFoundError: this client has no stream with this id.
        """
        listed = await self._find(stream_id)
        if listed is not None:
            self.outbox.send(StreamState(id=stream_id, status="running"))
            await self._store.resume(listed)

    async def stop(self, stream_id: str) -> None:
        """Stop a stream: the client receives `state`, `End("cancelled")` and `complete`.

        Raises:
            StreamNotFoundError: this client has no stream with this id.
        """
        listed = await self._find(stream_id)
        if listed is not None:
            self.outbox.send(StreamState(id=stream_id, status="cancelled"))
            await self._store.cancel(listed)

    def remember(self, stream_id: str, outcome: Outcome) -> None:
        """Record the outcome of a stream that was never started."""
        self._remember(stream_id, _ClientStream("", None, outcome))

    def detach(self) -> None:
        """Stop sending, when the connection has ended. The store's grace period begins."""
        for each in self._live.values():
            each.reading.dispose()

    async def attach(self, outbox: Outbox, positions: Mapping[str, int]) -> None:
        """Send the messages after the given positions to a new connection.

        A live stream without a position is sent from its beginning. A stream in `positions` that
        can no longer be read ends with an `error`.
        """
        self.outbox = outbox
        wanted = {**dict.fromkeys(self._live, 0), **positions}
        for stream_id, after in wanted.items():
            stream = self._live.get(stream_id) or self._ended.get(stream_id)
            try:
                if stream is None:
                    raise _not_found(stream_id)
                frames = await self._store.read(stream.listed, after)
            except RxLLMError as error:
                self._fail(stream_id, error)
            else:
                self._send(stream_id, stream, frames)

    def _send(self, stream_id: str, stream: _ClientStream, frames: Observable[Frame]) -> None:
        if not self.outbox.is_open:
            return  # the client has disconnected, and may attach another connection

        def on_frame(frame: Frame) -> None:
            self.outbox.write(to_json(frame.wire_message(id=stream_id)))
            if frame.outcome is not None:
                stream.outcome = frame.outcome
                self._remember(stream_id, stream)
                if stream.on_end is not None and not isinstance(frame.message, StreamChunk):
                    stream.on_end(frame.message)

        stream.reading = SingleAssignmentDisposable()
        stream.reading.disposable = frames.subscribe(
            on_frame,
            lambda error: self._fail(stream_id, error),
            scheduler=self.outbox.scheduler,
        )

    def _fail(self, stream_id: str, error: Exception) -> None:
        """End a stream for the client; it may continue in the store for its grace period."""
        stream = self._live.get(stream_id)
        message = failure_message(error, stream_id)
        self.outbox.send(message)
        if stream is not None:
            stream.outcome = "failed"
            self._remember(stream_id, stream)
            if stream.on_end is not None:
                stream.on_end(message)

    def _remember(self, stream_id: str, stream: _ClientStream) -> None:
        if self._live.get(stream_id) is stream:
            del self._live[stream_id]
        self._ended[stream_id] = stream
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]

    async def _find(self, stream_id: str) -> str | None:
        """Return the store id of a live stream; for an ended one, send its outcome instead."""
        stream = self._live.get(stream_id)
        if stream is not None:
            status = (await self._store.describe(stream.listed)).status
            if status not in ("completed", "failed", "cancelled"):
                return stream.listed
            self.outbox.send(StreamState(id=stream_id, status=status))
        elif (ended := self._ended.get(stream_id)) is not None and ended.outcome is not None:
            self.outbox.send(StreamState(id=stream_id, status=ended.outcome))
        else:
            raise _not_found(stream_id)
        return None


def _not_found(stream_id: str) -> StreamNotFoundError:
    return StreamNotFoundError(f"this connection has no stream {stream_id!r}")
