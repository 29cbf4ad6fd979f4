"""Looking for an answer in a store that other processes share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING

from reactivex import abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable

from rxllm.chunks import Chunk
from rxllm.errors import separate_error
from rxllm.operators.multicasting._report import report
from rxllm.valve import StreamScheduler, begin_wait, running_loop, wait_for_cleanup

if TYPE_CHECKING:
    from rxllm.operators.multicasting._store import AsyncCacheStore, Flight

__all__ = ["Lookup", "look_up"]


def look_up(
    store: AsyncCacheStore,
    name: str,
    answer_with: Callable[[bytes | None], abc.DisposableBase],
    observer: abc.ObserverBase[Chunk],
    scheduler: abc.SchedulerBase,
) -> abc.DisposableBase:
    """Look for the answer, and subscribe to it.

    Args:
        store: where to look.
        name: the key.
        answer_with: subscribes to what was found, or to a call if that is `None`.
        observer: gets an error of the store.
        scheduler: that of the subscription.

    Raises:
        NoEventLoopError: no event loop is running.
    """
    flight: Flight = running_loop(), name
    lookup = store.lookups.get(flight)
    if lookup is None:
        lookup = store.lookups[flight] = Lookup(store, flight)
    return _Subscription(lookup, answer_with, observer, scheduler).start()


class Lookup:
    """One `get` for all streams of an event loop that look for the same answer at once.

    Args:
        store: where to look.
        flight: the event loop and the key.

    Attributes:
        task: the task that looks.
        waiting: the streams that wait.
    """

    def __init__(self, store: AsyncCacheStore, flight: Flight) -> None:
        self.waiting: dict[_Subscription, None] = {}
        self._store = store
        self._flight = flight
        self.task: asyncio.Task[None] = running_loop().create_task(self._run(), name="rxllm cache")

    def leave(self, stream: _Subscription) -> None:
        """Stop with the last stream."""
        if stream in self.waiting:
            del self.waiting[stream]
            if not self.waiting:
                self._forget()
                self.task.cancel()

    async def _run(self) -> None:
        _, name = self._flight
        try:
            data = await self._store.get(name)
        except Exception as error:
            self._forget()
            for stream in self._take_all():
                stream.fail(error)
            return
        self._forget()
        for stream in self._take_all():
            stream.go_on(data)
        if data is None and self._flight not in self._store.under_way:  # all have left
            await self._store.release(name)

    def _take_all(self) -> list[_Subscription]:
        streams = list(self.waiting)
        self.waiting.clear()
        return streams

    def _forget(self) -> None:
        if self._store.lookups.get(self._flight) is self:
            del self._store.lookups[self._flight]


class _Subscription:
    """One subscription."""

    def __init__(
        self,
        lookup: Lookup,
        answer_with: Callable[[bytes | None], abc.DisposableBase],
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
    ) -> None:
        self._lookup = lookup
        self._answer_with = answer_with
        self._observer = observer
        self._scheduler = scheduler
        self._context = copy_context()
        self._upstream = SerialDisposable()
        self._wait = SerialDisposable()
        self._subscription = CompositeDisposable(
            self._upstream, self._wait, Disposable(self._leave)
        )

    def start(self) -> abc.DisposableBase:
        self._lookup.waiting[self] = None
        self._wait.disposable = begin_wait(self._scheduler)
        return self._subscription

    def go_on(self, data: bytes | None) -> None:
        """Subscribe to what was found."""
        self._wait.dispose()
        if not self._subscription.is_disposed:
            self._guard(self._subscribe, data)

    def fail(self, error: Exception) -> None:
        """The store has failed."""
        self._wait.dispose()
        if not self._subscription.is_disposed:
            self._guard(self._observer.on_error, separate_error(error))

    def _subscribe(self, data: bytes | None) -> None:
        self._upstream.disposable = self._answer_with(data)

    def _guard(self, action: Callable[..., object], argument: object) -> None:
        """Call in the context of the subscription; an exception is that of an operator."""
        try:
            self._context.copy().run(action, argument)
        except Exception as error:
            if isinstance(self._scheduler, StreamScheduler):
                self._scheduler.fail(error)
            else:
                report(self._scheduler, "a subscriber raised", error)

    def _leave(self) -> None:
        if self in self._lookup.waiting:
            self._lookup.leave(self)
            wait_for_cleanup(self._scheduler, self._lookup.task)
