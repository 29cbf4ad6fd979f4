"""The streams of one WebSocket session, by the ids that the client chose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from secrets import token_urlsafe
from typing import Final, TypeAlias
from uuid import uuid4

import msgspec
from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.chunks import Chunk, Outcome
from rxllm.errors import LaggedBehindError, RxLLMError, StreamCancelledError
from rxllm.server.asked import AskedStream
from rxllm.server.client import CLIENT
from rxllm.server.messages import StreamState
from rxllm.server.websocket.outbox import Outbox
from rxllm.server.websocket.session_streams import find_streams, prefix_of
from rxllm.web.encoding import to_json
from rxllm.web.failures import (
    InvalidMessageError,
    RefusedError,
    StreamNotFoundError,
    failure_message,
)
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed, StreamSummary
from rxllm.web.stream_store import Frame, StreamStore

__all__ = ["Ask", "ClientStreams", "OnEnd"]

_REMEMBERED: Final = 100  # ended streams

Ask: TypeAlias = Callable[[str], Observable[Chunk]]
"""Creates a stream, given its id in the registry and in the store."""

OnEnd: TypeAlias = Callable[[Complete | StreamFailed], None]
"""Called with the final message of a stream each time it is sent: it is sent again to a client that
reconnects and missed it."""


class _ClientStream:
    """One stream: its id in the store once it has started there, and its outcome once it ended."""

    __slots__ = ("listed", "on_end", "outcome", "sent_to")

    def __init__(self, on_end: OnEnd | None = None, outcome: Outcome | None = None) -> None:
        self.listed: str | None = None
        self.on_end = on_end
        self.outcome = outcome
        self.sent_to: Outbox | None = None


class ClientStreams:
    """The streams that one client has started. Other clients can't access them here.

    They run in the store. When the connection ends, the client can `attach` a new one within the
    grace period of the store. A request about a stream may cross with its last message, so the
    outcomes of the last 100 streams are remembered and sent in reply.

    The ids in the store begin with a hash of the secret, so that another server that shares the
    store can `find` the streams of a client that knows it.

    Args:
        store: runs the streams.
        outbox: receives their messages, and provides their demand.
        most: maximum number of live streams.
        secret: that of the client's first connection; a new one if `None`.

    Attributes:
        outbox: the outbox of the current connection, or of the last one.
        secret: that of the client's first connection.
    """

    def __init__(
        self, store: StreamStore, outbox: Outbox, most: int, secret: str | None = None
    ) -> None:
        self._store = store
        self.outbox: Outbox = outbox
        self.secret: Final = token_urlsafe() if secret is None else secret
        self._prefix = prefix_of(self.secret)
        self._most = most
        self._live: dict[str, _ClientStream] = {}
        self._ended: dict[str, _ClientStream] = {}
        self._readings: dict[str, SingleAssignmentDisposable] = {}

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
        self,
        stream_id: str,
        ask: Ask,
        model: str | None,
        on_end: OnEnd | None = None,
        asked: AskedStream | None = None,
    ) -> None:
        """Run the stream of `ask`, and send its messages; `on_end` receives the final one.

        Another server may continue the stream if `asked` has the request.

        Raises:
            Exception: from `check` or `ask`; nothing was started then.
        """
        self.check(stream_id)
        listed, outbox = f"{self._prefix}{uuid4().hex}", self.outbox
        stream = self._live[stream_id] = _ClientStream(on_end)
        asked = msgspec.structs.replace(asked or AskedStream(), client_id=stream_id)
        try:
            handle = await self._store.begin(
                lambda: ask(listed),
                listed,
                model=model,
                owner=CLIENT.get().owner,
                asked=asked.encode(),
                is_resumable=asked.request is not None,
            )
            frames = await handle.read()
        except BaseException as error:
            if self._live.get(stream_id) is stream:
                del self._live[stream_id]
            if self.outbox is not outbox:  # nobody reads the reply to the old connection
                failure = error if isinstance(error, Exception) else _disconnected()
                self._fail(stream_id, None, failure)
            raise
        stream.listed = listed
        self._ended.pop(stream_id, None)
        self._send(stream_id, stream, frames)

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

    def cancel_waiting(self, stream_id: str) -> None:
        """End a stream that never started, as `stop` does for the others."""
        self._remember(stream_id, _ClientStream(outcome="cancelled"))
        self._send_cancelled(stream_id)

    def detach(self) -> None:
        """Stop sending, when the connection has ended. The store's grace period begins."""
        for reading in tuple(self._readings.values()):
            reading.dispose()
        self._readings.clear()

    async def find(self) -> bool:
        """Add the streams of the client that are in the store and not known here, which it has
        begun on other servers. Return whether there are any.

        Raises:
            StoreUnavailableError: the other servers can't be reached.
        """
        known = {each.listed for each in (*self._live.values(), *self._ended.values())}
        found = await find_streams(self._store, self._prefix, known)
        for stream_id, summary in found:
            self._add(stream_id, summary)
        return bool(found)

    def _add(self, stream_id: str, summary: StreamSummary) -> None:
        if stream_id in self._live:
            return
        stream = _ClientStream(outcome=summary.outcome)
        stream.listed = summary.id
        if stream.outcome is None:
            self._ended.pop(stream_id, None)
            self._live[stream_id] = stream
        else:
            self._remember(stream_id, stream)

    async def attach(self, outbox: Outbox, positions: Mapping[str, int]) -> None:
        """Send to a new connection what comes after the given positions.

        A live stream without a position is sent from its beginning. A stream of `positions` that
        can no longer be read ends with an `error`.
        """
        self.detach()
        self.outbox = outbox
        for stream_id, after in {**dict.fromkeys(self._live, 0), **positions}.items():
            stream = self._live.get(stream_id) or self._ended.get(stream_id)
            try:
                if stream is None:
                    raise _not_found(stream_id)
                if stream.listed is None:
                    if stream.outcome is not None:
                        self._send_cancelled(stream_id)
                    continue  # or it is starting, and then sent to this connection
                frames = await self._store.read(stream.listed, after)
            except Exception as error:
                if self.outbox is outbox:
                    self._fail(stream_id, stream, error)
            else:
                # One that was starting may have been sent here since.
                if self.outbox is outbox and stream.sent_to is not outbox:
                    self._send(stream_id, stream, frames)
            if self.outbox is not outbox:
                return  # another connection has taken over in the meantime

    def _send(self, stream_id: str, stream: _ClientStream, frames: Observable[Frame]) -> None:
        outbox = self.outbox
        if not outbox.is_open:
            return  # the client has left, but may attach another connection
        stream.sent_to = outbox

        def on_frame(frame: Frame) -> None:
            outbox.write(to_json(frame.wire_message(id=stream_id)))
            if frame.outcome is not None and not isinstance(frame.message, StreamChunk):
                self._finish(stream_id, stream, frame.outcome, frame.message)

        def on_error(error: Exception) -> None:
            if isinstance(error, LaggedBehindError):
                outbox.finish()  # the client has stalled, but may attach another connection
            else:
                self._fail(stream_id, stream, error)

        if (earlier := self._readings.get(stream_id)) is not None:
            earlier.dispose()
        reading = self._readings[stream_id] = SingleAssignmentDisposable()
        reading.disposable = frames.subscribe(on_frame, on_error, scheduler=outbox.scheduler)

    def _send_cancelled(self, stream_id: str) -> None:
        self.outbox.send(StreamState(id=stream_id, status="cancelled"))
        self.outbox.send(
            Complete(id=stream_id, tokens=0, seconds=0.0, finish_reason="cancelled", position=1)
        )

    def _fail(self, stream_id: str, stream: _ClientStream | None, error: Exception) -> None:
        """Report a stream that can't be started or read. In the store it may use up its grace."""
        if not isinstance(error, RxLLMError):
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the stream {stream_id!r} of a WebSocket failed", "exception": error}
            )
        message = failure_message(error, stream_id)
        self.outbox.send(message)
        if stream is not None:
            self._finish(stream_id, stream, "failed", message)

    def _finish(
        self,
        stream_id: str,
        stream: _ClientStream,
        outcome: Outcome,
        message: Complete | StreamFailed,
    ) -> None:
        stream.outcome = outcome
        self._readings.pop(stream_id, None)
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
        """Return the id in the store of a live stream. If it has ended, send its outcome."""
        stream = self._live.get(stream_id) or self._ended.get(stream_id)
        if stream is None:
            raise _not_found(stream_id)
        outcome = stream.outcome
        if outcome is None:
            if stream.listed is None:  # it is starting, for a connection that was lost
                raise _not_found(stream_id)
            outcome = (await self._store.describe(stream.listed)).outcome
            if outcome is None:
                return stream.listed
        self.outbox.send(StreamState(id=stream_id, status=outcome))
        return None


def _not_found(stream_id: str) -> StreamNotFoundError:
    return StreamNotFoundError(f"this connection has no stream {stream_id!r}, or no longer")


def _disconnected() -> StreamCancelledError:
    return StreamCancelledError("the connection was lost while the stream was starting")
