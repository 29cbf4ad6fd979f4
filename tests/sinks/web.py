"""Helpers for the tests of the web sinks: a server with one handler, and clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeAlias

import aiohttp
import msgspec
from aiohttp import web
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxllm.chunks import Chunk, Token
from rxllm.valve import valve_of
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Message: TypeAlias = StreamChunk | Complete | StreamFailed

read_message = msgspec.json.Decoder(Message).decode


@asynccontextmanager
async def serving(handler: Handler, **options: Any) -> AsyncIterator[str]:
    """Run a local server that calls `handler` for `/`, and yield its address."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, **options)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


class Event(NamedTuple):
    """A server-sent event, as a client reads it."""

    kind: str
    id: int
    message: Message


def events_of(body: str) -> list[Event]:
    """Return the events of a complete event stream, without comments."""
    assert body.endswith("\n\n"), "the last event is not complete"
    events = []
    for block in body[:-2].split("\n\n"):
        if not block.startswith(":"):
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            assert list(fields) == ["event", "id", "data"]
            events.append(Event(fields["event"], int(fields["id"]), read_message(fields["data"])))
    return events


async def fetch(url: str, method: str = "GET") -> tuple[aiohttp.ClientResponse, str]:
    """Return the response to one request, and its whole body."""
    async with aiohttp.ClientSession() as session, session.request(method, url) as response:
        return response, await response.text()


class SilentReader:
    """A client that sends one request and reads nothing until told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    @classmethod
    async def ask(cls, url: str, headers: str = "") -> SilentReader:
        port = int(url.rstrip("/").rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(f"GET / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        await writer.drain()
        return cls(reader, writer)

    async def leave(self) -> None:
        """Close the connection, whatever is still unread."""
        self._writer.close()
        await self._writer.wait_closed()

    def stop_sending(self) -> None:
        """Close the sending half of the connection."""
        self._writer.write_eof()


class Endless:
    """Emits the same token forever, a few per iteration of the loop.

    Attributes:
        stream: the stream, which can be subscribed to once.
        emitted: how many tokens have been emitted.
        held, disposed: set when the subscriber closes its valve, and when it disposes.
        resumed: set when the subscriber opens its valve again.
    """

    def __init__(self, text: str, *, with_demand: bool = True) -> None:
        self.stream = Observable(self._subscribe)
        self.emitted = 0
        self.held, self.resumed, self.disposed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._token = Token(text)
        self._with_demand = with_demand

    def _subscribe(
        self, observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        loop, valve = asyncio.get_running_loop(), valve_of(scheduler)

        def emit() -> None:
            for _ in range(4):
                if not self.disposed.is_set() and (valve.is_open or not self._with_demand):
                    self.emitted += 1
                    observer.on_next(self._token)
            if not self.disposed.is_set() and (valve.is_open or not self._with_demand):
                loop.call_soon(emit)

        def changed(is_open: bool) -> None:
            (self.resumed if is_open else self.held).set()
            if is_open and self._with_demand:
                loop.call_soon(emit)

        loop.call_soon(emit)
        return CompositeDisposable(valve.on_change(changed), Disposable(self.disposed.set))
