"""The streams of one WebSocket connection, by the ids that its client gave them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias
from uuid import uuid4

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.chunks import Chunk, Outcome
from rxllm.errors import RxLLMError
from rxllm.operators import StreamRegistry, TrackedStream
from rxllm.result import Result
from rxllm.server.messages import StreamState
from rxllm.server.websocket.outbox import Outbox
from rxllm.web.encoding import EventEncoder, encoded, plain_message
from rxllm.web.failures import InvalidMessageError, RefusedError, StreamNotFoundError

__all__ = ["Ask", "ClientStreams", "OnEnd"]

_REMEMBERED: Final = 100  # ended streams

Ask: TypeAlias = Callable[[str], Observable[Chunk]]
"""Makes a stream that is listed in the registry under the id that it is given."""

OnEnd: TypeAlias = Callable[[Result, Exception | None], None]


class _Live(NamedTuple):
    listed: str  # the id in the registry, where those of all clients are told apart
    subscription: SingleAssignmentDisposable


class ClientStreams:
    """The streams that one client has begun: nobody else can name them, and they end with it.

    What a client asks of a stream may cross its last message on the way. So how the last 100 have
    ended is remembered, and is the answer.

    Args:
        registry: where the streams are listed while they live.
        outbox: where their messages go; its demand is theirs.
        most: how many may live at once.
    """

    def __init__(self, registry: StreamRegistry, outbox: Outbox, most: int) -> None:
        self._registry = registry
        self._outbox = outbox
        self._most = most
        self._live: dict[str, _Live] = {}
        self._ended: dict[str, Outcome] = {}
        self._prefix = f"ws-{uuid4().hex[:12]}"
        self._number = 0

    def __contains__(self, stream_id: object) -> bool:
        return stream_id in self._live

    def check(self, stream_id: str) -> None:
        """Raise if no stream of this id can begin now.

        Raises:
            InvalidMessageError: one of this id lives.
            RefusedError: too many live.
        """
        if stream_id in self._live:
            raise InvalidMessageError(
                f"there is a stream {stream_id!r} already: give this one another id", "id"
            )
        if len(self._live) >= self._most:
            raise RefusedError(
                "too_many_streams", f"{self._most} streams of this connection live already", 429
            )

    def begin(self, stream_id: str, ask: Ask, on_end: OnEnd | None = None) -> None:
        """Subscribe to what `ask` makes; `on_end` is called when it has ended by itself.

        Raises:
            Exception: what `check` and `ask` raise; nothing has begun then.
        """
        self.check(stream_id)
        self._number += 1
        live = _Live(f"{self._prefix}-{self._number}", SingleAssignmentDisposable())
        encoder = EventEncoder(stream_id, plain_message)
        frames = encoded(ask(live.listed), encoder)
        self._ended.pop(stream_id, None)
        self._live[stream_id] = live

        def ended() -> None:
            if self._live.pop(stream_id, None) is None:
                return
            result = encoder.result()
            status: Outcome = "cancelled" if result.finish_reason == "cancelled" else "completed"
            self.remember(stream_id, status if encoder.error is None else "failed")
            if encoder.error is not None and not isinstance(encoder.error, RxLLMError):
                _report(f"the stream {stream_id!r} of a WebSocket failed", encoder.error)
            if on_end is not None:
                on_end(result, encoder.error)

        live.subscription.disposable = frames.subscribe(
            self._outbox.write, on_completed=ended, scheduler=self._outbox.scheduler
        )

    def pause(self, stream_id: str) -> None:
        """Hold a stream, for as long as the registry allows.

        Raises:
            StreamNotFoundError: this client has had no stream of this id.
        """
        tracked = self._find(stream_id)
        if tracked is not None:
            tracked.pause()
            self._outbox.send(StreamState(id=stream_id, status="paused"))

    def resume(self, stream_id: str) -> None:
        """Let a stream go on.

        Raises:
            StreamNotFoundError: this client has had no stream of this id.
        """
        tracked = self._find(stream_id)
        if tracked is not None:
            self._outbox.send(StreamState(id=stream_id, status="running"))
            tracked.resume()

    def stop(self, stream_id: str) -> None:
        """End a stream: the client gets its state, `End("cancelled")` and `complete`.

        Raises:
            StreamNotFoundError: this client has had no stream of this id.
        """
        tracked = self._find(stream_id)
        if tracked is not None:
            self._outbox.send(StreamState(id=stream_id, status="cancelled"))
            tracked.cancel()

    def remember(self, stream_id: str, status: Outcome) -> None:
        """Note how a stream has ended, for a client that does not know it yet."""
        self._ended[stream_id] = status
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def close(self) -> None:
        """Dispose all that live; no `on_end` is called."""
        live, self._live = self._live, {}
        for each in live.values():
            try:
                each.subscription.dispose()
            except Exception as error:  # it must not keep the others from being disposed
                _report("an operator raised while its stream was disposed", error)

    def _find(self, stream_id: str) -> TrackedStream | None:
        """A live stream; None, once the client is told of its end, if it has just ended."""
        live = self._live.get(stream_id)
        tracked = None if live is None else self._registry.get(live.listed)
        status = self._ended.get(stream_id)
        if tracked is None and status is not None:
            self._outbox.send(StreamState(id=stream_id, status=status))
        elif tracked is None:
            raise StreamNotFoundError(
                f"this connection has no stream {stream_id!r}, or not any more"
            )
        return tracked


def _report(message: str, error: Exception) -> None:
    loop = asyncio.get_running_loop()
    loop.call_exception_handler({"message": message, "exception": error})
