"""A loopback server with scripted replies: faults at any byte, reproducibly.

>>> import aiohttp
>>> async def main():
...     async with FaultServer(Reply([b"data: Hi\\n\\n", RESET])) as server:
...         async with aiohttp.ClientSession() as session:
...             async with session.post(server.url, json={"prompt": "Hello"}) as response:
...                 try:
...                     await response.read()
...                 except aiohttp.ClientError:
...                     print(response.status, server.requests[0].json())
>>> asyncio.run(main())
200 {'prompt': 'Hello'}
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from aiohttp import web

from rxllm.testing.fault_replies import CUT, FOREVER, RESET, Act, Reply, Step

__all__ = ["CUT", "FOREVER", "RESET", "FaultServer", "Received", "Reply", "Step"]


_SEND_BUFFER: Final = 16 * 1024
_LARGE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """A request as received.

    `headers` are in lower case. `connection` is the client's port, equal for a reused connection.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    def json(self) -> Any:
        """Decode the body as JSON.

        Raises:
            msgspec.DecodeError: the body is not valid JSON.
        """
        return msgspec.json.decode(self.body)


class FaultServer:
    """Sends one reply per request, in order, and repeats the last one for further requests.

    Use it as an asynchronous context manager. Inside, it listens on a free port of 127.0.0.1 and
    accepts any path and method; on exit, connections are closed. Its send buffer is small (16 KiB),
    so that a client that doesn't read soon causes backpressure; a step of 1 MiB or more gets a
    larger one, so that it doesn't take seconds.

    Args:
        replies: one or more.
        seed: for the sizes of random pieces.

    Attributes:
        requests: the requests received.
        active: number of requests being answered.
        abandoned: number of clients that disconnected before the end of their answer.
        sent: body bytes written to the connection so far.

    Raises:
        ValueError: there is no reply.
    """

    def __init__(self, *replies: Reply, seed: int = 0) -> None:
        if not replies:
            raise ValueError("FaultServer needs at least one reply")
        self.requests: list[Received] = []
        self.active: int = 0
        self.abandoned: int = 0
        self.sent: int = 0
        self._replies = replies
        self._seed = seed
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._waiting: dict[asyncio.Future[None], Callable[[FaultServer], bool]] = {}

    @property
    def url(self) -> str:
        """The address of the server: `http://127.0.0.1:<port>`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        """The number of open connections."""
        server = self._runner.server if self._runner is not None else None
        return len(server.connections) if server is not None else 0

    async def until(self, condition: Callable[[FaultServer], bool]) -> None:
        """Wait until `condition(self)` is true; checked after each step of the server."""
        if not condition(self):
            reached = asyncio.get_running_loop().create_future()
            self._waiting[reached] = condition
            await reached

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._port = listening.getsockname()[1]
        await web.SockSite(self._runner, listening).start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        number = len(self.requests)
        transport = request.transport
        assert transport is not None  # noqa: S101 - it has just delivered the request
        headers = {name.lower(): value for name, value in request.headers.items()}
        port = transport.get_extra_info("peername")[1]
        self.active += 1
        try:
            body = await request.read()
            self.requests.append(Received(request.method, request.path_qs, headers, body, port))
            self._changed()
            reply = self._replies[min(number, len(self._replies) - 1)]
            return await _Answer(self, request, transport, reply, f"{self._seed}/{number}").play()
        except (ConnectionError, asyncio.CancelledError):
            self.abandoned += 1
            raise
        finally:
            self.active -= 1
            self._changed()

    def _changed(self) -> None:
        for reached, condition in list(self._waiting.items()):
            if reached.done() or condition(self):
                del self._waiting[reached]
                if not reached.done():
                    reached.set_result(None)


class _Answer:
    """Sends one reply to one client."""

    def __init__(
        self,
        server: FaultServer,
        request: web.Request,
        transport: asyncio.Transport,
        reply: Reply,
        seed: str,
    ) -> None:
        self._server = server
        self._request = request
        self._transport = transport
        self._reply = reply
        self._random = random.Random(seed)  # noqa: S311 - must be reproducible, not secret
        self._response = web.StreamResponse(
            status=reply.status, headers={"Content-Type": "text/event-stream", **reply.headers}
        )
        self._is_over = False

    async def play(self) -> web.StreamResponse:
        await self._take(self._reply.before)
        if not self._is_over:
            await self._response.prepare(self._request)
            await self._take(self._reply.body)
        if not self._is_over:
            await self._response.write_eof()
        return self._response

    async def _take(self, steps: Sequence[Step]) -> None:
        last = b""
        for step in steps:
            if isinstance(step, bytes):
                last = step
                await self._send(step)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif step is FOREVER:
                while True:
                    await self._send(last)
            elif isinstance(step, Act):
                self._is_over = True
                self._end(step)
                return
            else:
                await asyncio.sleep(step)

    async def _send(self, data: bytes) -> None:
        if len(data) >= _LARGE:
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGE)
        for piece in self._pieces(data):
            await self._response.write(piece)
            self._server.sent += len(piece)
            self._server._changed()  # noqa: SLF001 - part of the server
            await asyncio.sleep(self._reply.interval)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        start, size = 0, self._reply.pieces
        while start < len(data):
            end = start + (self._random.randint(1, 40) if size == "random" else size or len(data))
            yield data[start:end]
            start = end

    def _end(self, act: Act) -> None:
        if act is RESET:
            connection = self._transport.get_extra_info("socket")
            at_once = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            self._transport.abort()
        else:
            self._transport.close()
