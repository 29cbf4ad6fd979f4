"""`GET /ws`: many streams, a chat and rooms over one connection.

Every message is a JSON text message of `rxllm.server.messages`. What is wrong in a message of the
client is told by an `error` with a `code` and, where it can be told, the `field`, and the
connection lives on. Too large a message closes it (1009, RFC 6455), and so does going on with too
many of them (1008), and the end of the server (1001).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from rxllm.server.app_keys import LIMITS, MODELS, STREAMS
from rxllm.server.limits import Limits
from rxllm.server.rooms.rooms import Rooms
from rxllm.server.websocket.rate import Rate
from rxllm.server.websocket.session import Session
from rxllm.server.websocket.sessions import Sessions
from rxllm.web.connection import connection_of
from rxllm.web.failures import InvalidMessageError, RefusedError
from rxllm.web.response_writer import ResponseWriter
from rxllm.web.sending import websocket_writer

__all__ = ["CONNECTIONS", "Connections", "add_websocket", "websocket"]

_HEARTBEAT: Final = 15.0
_CLOSING: Final = 2.0


class _Line:
    """The way to one client, which ends soon whatever the client does.

    aiohttp alone waits without end for a client that reads nothing, when it closes a connection:
    what was sent stays in memory, and the connection open.
    """

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.socket = socket
        self._connection = connection_of(transport)
        self._lost = asyncio.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """See, while inside, when the connection is lost."""
        with self._connection.watch(self._look):
            self._look()
            yield

    async def close(self, code: int, reason: bytes) -> None:
        """Say goodbye, and give the client `_CLOSING` seconds to take it; then cut it off."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING):
                    await self.socket.close(code=code, message=reason)
                    await self._lost.wait()
        finally:
            # What the client sends after that, its own goodbye too, has begun the heartbeat anew.
            self.socket._cancel_heartbeat()  # noqa: SLF001 - its timer outlives the connection
            self._connection.abort()

    def _look(self) -> None:
        if self._connection.is_lost:
            self._lost.set()


class Connections:
    """The WebSocket connections of a server, and what they share."""

    def __init__(self, rooms: Rooms, limits: Limits) -> None:
        self.rooms = rooms
        self.sessions = Sessions(limits.grace, limits.connections)
        self._most = limits.connections
        self._lines: set[_Line] = set()

    def __len__(self) -> int:
        return len(self._lines)

    @contextmanager
    def holding(self, line: _Line) -> Iterator[None]:
        """Count a connection while inside.

        Raises:
            RefusedError: there are too many.
        """
        if len(self._lines) >= self._most:
            raise RefusedError("too_many_connections", "too many clients are connected", 503)
        self._lines.add(line)
        try:
            with line.watched():
                yield
        finally:
            self._lines.discard(line)

    async def close(self) -> None:
        """Tell all clients that the server goes, and stop what is under way."""
        goodbyes = [
            line.close(WSCloseCode.GOING_AWAY, b"the server is being shut down")
            for line in tuple(self._lines)
            if line.socket.prepared
        ]
        self.sessions.close()
        await asyncio.gather(*goodbyes)
        await self.rooms.close()


CONNECTIONS: web.AppKey[Connections] = web.AppKey("rxllm.connections", Connections)


def add_websocket(app: web.Application) -> None:
    """Add `GET /ws` to an application that has its models, streams and limits.

    Call it after what drains the application is in `on_shutdown`: here its connections are closed.
    """
    app[CONNECTIONS] = Connections(Rooms(app[MODELS], app[STREAMS]), app[LIMITS])
    app.router.add_get("/ws", websocket, allow_head=False)
    app.on_shutdown.append(_close)


async def _close(app: web.Application) -> None:
    await app[CONNECTIONS].close()


async def websocket(request: web.Request) -> web.StreamResponse:
    """`GET /ws`: see the top of this module."""
    limits = request.app[LIMITS]
    connections = request.app[CONNECTIONS]
    socket = web.WebSocketResponse(
        heartbeat=_HEARTBEAT,
        max_msg_size=limits.message_bytes,
        timeout=_CLOSING,
        compress=False,  # a token gets no shorter, and each client would cost a window of zlib
    )
    line = _Line(socket, request.transport)
    with connections.holding(line):
        await socket.prepare(request)
        session = Session(
            request.app[MODELS], request.app[STREAMS], connections.rooms, connections.sessions
        )
        outbox = session.outbox
        delivery = ResponseWriter(
            request.transport, websocket_writer(socket), max_stall=limits.reader_stall
        )
        sending = asyncio.create_task(delivery.run(outbox.frames), name="rxllm websocket")

        def ended(_: asyncio.Task[None]) -> None:
            outbox.begun.set()
            has_failed = not sending.cancelled() and sending.exception() is not None
            if (has_failed or session.is_released) and request.transport is not None:
                request.transport.abort()  # so that nobody goes on reading

        sending.add_done_callback(ended)
        try:
            await outbox.begun.wait()
            await _converse(socket, session, Rate(limits.messages_per_second))
        finally:
            outbox.finish()
            try:
                await _until_sent(sending)
            finally:
                await line.close(session.code, session.reason)
    return socket


async def _converse(socket: web.WebSocketResponse, session: Session, rate: Rate) -> None:
    session.greet()
    async for message in socket:
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            continue  # an error: the loop ends with it
        verdict = rate.take()
        if verdict == "close":
            session.code, session.reason = WSCloseCode.POLICY_VIOLATION, b"too many messages"
            return
        if verdict == "refuse":
            error = RefusedError("too_many_messages", "slow down: too many messages", 429)
            session.refuse_unread(error, message.data)
        elif message.type == WSMsgType.BINARY:
            session.refuse(InvalidMessageError("a message is JSON in a text message"))
        else:
            await session.receive(message.data)


async def _until_sent(sending: asyncio.Task[None]) -> None:
    """Give a client that is still there a moment to take its last messages."""
    try:
        await asyncio.wait([sending], timeout=_CLOSING)
    finally:
        sending.cancel()
        await asyncio.wait([sending])
    if not sending.cancelled():
        await sending  # raises what it has failed with
