"""The queue of messages to one WebSocket client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxllm.web.encoding import to_json

__all__ = ["Outbox"]


class Outbox:
    """All messages to one client, in order.

    A `ResponseWriter` subscribes to `frames`, joins messages that follow each other closely, and
    disconnects a client that stalls. Streams are subscribed to with `scheduler`, whose valve is
    closed while the client is slow; other messages are buffered, up to the writer's limit.

    Args:
        on_closed: called once, when nothing can be sent any more.

    Attributes:
        frames: the encoded messages; subscribe once.
        begun: set on that subscription; the owner may set it if there won't be one.
        is_open: whether messages can be sent.
    """

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self.frames: Observable[bytes] = Observable(self._subscribe)
        self.begun: Final = asyncio.Event()
        self.is_open: bool = False
        self._on_closed = on_closed
        self._observer: abc.ObserverBase[bytes] | None = None
        self._scheduler: abc.SchedulerBase | None = None

    @property
    def scheduler(self) -> abc.SchedulerBase | None:
        """Carries the demand of the client, and the tasks that are awaited when it ends."""
        return self._scheduler

    def send(self, message: msgspec.Struct) -> None:
        """Send a message. No effect if the client has disconnected."""
        self.write(to_json(message))

    def write(self, frame: bytes) -> None:
        """Send an encoded message."""
        if self.is_open and self._observer is not None:
            self._observer.on_next(frame)

    def finish(self) -> None:
        """Complete `frames`: what is queued is still sent, but nothing more."""
        if self.is_open and self._observer is not None:
            self._close()
            self._observer.on_completed()

    def _subscribe(
        self, observer: abc.ObserverBase[bytes], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        self._observer, self._scheduler = observer, scheduler
        self.is_open = True
        self.begun.set()
        return Disposable(self._close)

    def _close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._on_closed()
