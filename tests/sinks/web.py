"""What the tests of the sinks for the web share: a server with one handler, and clients."""

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
    """The address of a server on this machine that calls `handler` for `/`."""

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
    """The events in a whole event stream; comments are passed over."""
    assert body.endswith("\n\n"), "the last event is not complete"
    events = []
    for block in body[:-2].split("\n\n"):
        if not block.startswith(":"):
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            assert list(fields) == ["event", "id", "data"]
            events.append(Event(fields["event"], int(fields["id"]), read_message(fields["data"])))
    return events


async def fetch(url: str, method: str = "GET") -> tuple[aiohttp.ClientResponse, str]:
    """The answer to one request, and its whole body."""
    async with aiohttp.ClientSession() as session, session.request(method, url) as response:
        return response, await response.text()


class SilentReader:
    """A client that sends one request and reads nothing until it is asked to."""

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
        """Close the connection, whatever waits in it."""
        self._writer.close()
        await self._writer.wait_closed()

    def stop_sending(self) -> None:
        """Close one half of the connection: nothing more is asked."""
        self._writer.write_eof()


class Endless:
    """Says the same token for ever, a few in each turn of the loop.

    Attributes:
        stream: subscribe to it once.
        said: how many tokens it has said.
        held, disposed: set when the subscriber closes its valve, and when it leaves.
        resumed: set when it opens its valve again.
    """

    def __init__(self, text: str, *, with_demand: bool = True) -> None:
        self.stream = Observable(self._subscribe)
        self.said = 0
        self.held, self.resumed, self.disposed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._token = Token(text)
        self._with_demand = with_demand

    def _subscribe(
        self, observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        loop, valve = asyncio.get_running_loop(), valve_of(scheduler)

        def speak() -> None:
            for _ in range(4):
                if not self.disposed.is_set() and (valve.is_open or not self._with_demand):
                    self.said += 1
                    observer.on_next(self._token)
            if not self.disposed.is_set() and (valve.is_open or not self._with_demand):
                loop.call_soon(speak)

        def changed(is_open: bool) -> None:
            (self.resumed if is_open else self.held).set()
            if is_open and self._with_demand:
                loop.call_soon(speak)

        loop.call_soon(speak)
        return CompositeDisposable(valve.on_change(changed), Disposable(self.disposed.set))
