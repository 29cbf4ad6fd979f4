"""Messages between processes: they make things fast, and nothing depends on them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from reactivex.abc import DisposableBase
from reactivex.disposable import Disposable
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from rxllm.redis.commands import Opening, Reporting
from rxllm.valve import report_failure

__all__ = ["Messages"]

_BEAT: Final = 1.0
"""Seconds between two pings, which tell a silent connection from a dead one."""

_SHORTEST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
"""Seconds between two connections."""


class _Listener:
    """What is called. Compared by identity."""

    def __init__(self, on_message: Callable[[str], object], on_ready: Callable[[], object]) -> None:
        self.on_message = on_message
        self.on_ready = on_ready


class Messages:
    """One connection that listens to any number of channels, for as long as there are any.

    A message may be lost while there is no connection. `on_ready` is called each time that a
    channel is subscribed to, so that a listener can look at the state that the messages tell of.

    Args:
        client: the connections.
        timeout: seconds without a word, beside that between two pings, after which the connection
            is given up.
        opening: awaited before the first connection.
        report: called with the error when the connection is lost.
    """

    def __init__(self, client: Redis, timeout: float, opening: Opening, report: Reporting) -> None:
        self._client = client
        self._timeout = timeout
        self._opening = opening
        self._report = report
        self._listeners: defaultdict[str, list[_Listener]] = defaultdict(list)
        self._ready: set[str] = set()  # channels that are subscribed to
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def listen(
        self, channel: str, on_message: Callable[[str], object], on_ready: Callable[[], object]
    ) -> DisposableBase:
        """Call back for each message on `channel`, until the result is disposed.

        The connection ends with its last listener.
        """
        listener = _Listener(on_message, on_ready)
        self._listeners[channel].append(listener)
        loop = asyncio.get_running_loop()
        if channel in self._ready:
            loop.call_soon(on_ready)
        self._changed.set()
        if self._task is None:
            self._task = loop.create_task(self._run(), name="rxllm redis messages")
        return Disposable(lambda: self._forget(channel, listener))

    def _forget(self, channel: str, listener: _Listener) -> None:
        listeners = self._listeners.get(channel, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners:
            self._listeners.pop(channel, None)
            self._changed.set()
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def close(self) -> None:
        """Stop listening."""
        self._listeners.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        await self._opening()
        pause = _SHORTEST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            pubsub = self._client.pubsub()
            try:
                await self._listen(pubsub)
            except* (RedisError, OSError, EOFError, TimeoutError) as group:
                self._report(group.exceptions[0])
            finally:
                self._ready.clear()
                with suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(pause)
            was_up = loop.time() - begun > _LONGEST_PAUSE + self._timeout
            pause = _SHORTEST_PAUSE if was_up else min(_LONGEST_PAUSE, pause * 2)

    async def _listen(self, pubsub: PubSub) -> None:
        subscribed: set[str] = set()
        async with asyncio.timeout(self._timeout):
            await self._subscribe(pubsub, subscribed)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_changes(pubsub, subscribed))
            group.create_task(self._ping(pubsub))
            await self._read(pubsub)

    async def _subscribe(self, pubsub: PubSub, subscribed: set[str]) -> None:
        self._changed.clear()
        wanted = set(self._listeners)
        if new := wanted - subscribed:
            await pubsub.subscribe(*new)
        if old := subscribed - wanted:
            self._ready -= old
            await pubsub.unsubscribe(*old)
        subscribed.clear()
        subscribed.update(wanted)

    async def _follow_changes(self, pubsub: PubSub, subscribed: set[str]) -> None:
        while True:
            await self._changed.wait()
            await self._subscribe(pubsub, subscribed)

    async def _ping(self, pubsub: PubSub) -> None:
        while True:
            await asyncio.sleep(_BEAT)
            await pubsub.ping()

    async def _read(self, pubsub: PubSub) -> None:
        patience = _BEAT + self._timeout
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(patience) as limit:
            async for message in pubsub.listen():
                limit.reschedule(loop.time() + patience)
                self._deliver(message)

    def _deliver(self, message: dict[str, Any]) -> None:
        channel = (message["channel"] or b"").decode()
        is_ready = message["type"] == "subscribe"
        if is_ready:
            self._ready.add(channel)
        for listener in tuple(self._listeners.get(channel, ())):
            try:
                if is_ready:
                    listener.on_ready()
                elif message["type"] == "message":
                    listener.on_message(message["data"].decode())
            except Exception as error:  # others listen, too
                report_failure(asyncio.get_running_loop(), error)
