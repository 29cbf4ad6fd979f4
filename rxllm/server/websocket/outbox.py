"""What goes to one client of a WebSocket, in one queue."""

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
    """All that one client is sent, in the order in which it is written here.

    A `ResponseWriter` subscribes to `frames`, gathers what comes closely together, and gives up a
    client that takes nothing. Streams are subscribed to with `scheduler`, whose valve is closed
    while the client is slow; what else is written waits for it, up to the bound of the delivery.

    Args:
        on_closed: called once when nothing can be sent any more.

    Attributes:
        frames: to be subscribed to once.
        begun: set when it was, and may be set by who finds that it never will be.
        is_open: whether what is written is sent.
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
        """Carries the demand of the client, and the tasks that are awaited at its end."""
        return self._scheduler

    def send(self, message: msgspec.Struct) -> None:
        """Send a message; to a client that has gone nothing is sent."""
        self.write(to_json(message))

    def write(self, frame: bytes) -> None:
        """Send what is encoded already."""
        if self.is_open and self._observer is not None:
            self._observer.on_next(frame)

    def finish(self) -> None:
        """Send what waits, and then nothing more."""
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
