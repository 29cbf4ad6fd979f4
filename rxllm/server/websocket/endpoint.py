"""`GET /ws`: many streams, a chat and rooms over one connection.

Every message is one of `rxllm.server.messages`, as JSON in a text frame. An invalid message of the
client is reported as an `error` with a `code` and, if known, the `field`; the connection stays
open. It is closed by a message that is too large (1009, RFC 6455), by a client that keeps sending
too many messages (1008), and at shutdown (1001).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from rxllm.server.app_keys import ADDRESS, LIMITS, MODELS, STREAMS
from rxllm.server.limits import Limits
from rxllm.server.persona import Persona, RoomSettings
from rxllm.server.rooms.rooms import Rooms
from rxllm.server.websocket.pings import Pings
from rxllm.server.websocket.rate import Rate
from rxllm.server.websocket.session import Session
from rxllm.server.websocket.sessions import Sessions
from rxllm.web.connection import connection_of
from rxllm.web.failures import InvalidMessageError, RefusedError
from rxllm.web.frame_sender import websocket_writer
from rxllm.web.response_writer import ResponseWriter

__all__ = ["CONNECTIONS", "Connections", "add_websocket", "websocket"]

_HEARTBEAT: Final = 15.0
_CLOSING: Final = 2.0


class _Channel:
    """The connection to one client, which can be closed in bounded time.

    aiohttp waits without limit for a client that doesn't read when it closes a connection: the sent
    messages stay in memory, and the connection stays open.
    """

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.socket = socket
        self._connection = connection_of(transport)
        self._lost = asyncio.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch for the loss of the connection inside the context."""
        with self._connection.watch(self._look):
            self._look()
            yield

    async def close(self, code: int, reason: bytes) -> None:
        """Start the closing handshake, wait up to `_CLOSING` seconds for it, then abort."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING):
                    await self.socket.close(code=code, message=reason)
                    await self._lost.wait()
        finally:
            self._connection.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self._connection.abort()

    def _look(self) -> None:
        if self._connection.is_lost:
            self._lost.set()


class Connections:
    """The WebSocket connections of a server, with their shared rooms and sessions."""

    def __init__(self, rooms: Rooms, limits: Limits, persona: Persona) -> None:
        self.rooms = rooms
        self.persona = persona
        self.sessions: Sessions = Sessions(limits.grace, limits.connections)
        self._most = limits.connections
        self._channels: set[_Channel] = set()

    def __len__(self) -> int:
        return len(self._channels)

    @contextmanager
    def holding(self, channel: _Channel) -> Iterator[None]:
        """Count a connection inside the context.

        Raises:
            RefusedError: there are too many.
        """
        if len(self._channels) >= self._most:
            raise RefusedError("too_many_connections", "too many clients are connected", 503)
        self._channels.add(channel)
        try:
            with channel.watched():
                yield
        finally:
            self._channels.discard(channel)

    async def close(self) -> None:
        """Close all connections with 1001, and stop all rooms and kept sessions."""
        goodbyes = [
            channel.close(WSCloseCode.GOING_AWAY, b"the server is shutting down")
            for channel in tuple(self._channels)
            if channel.socket.prepared
        ]
        self.sessions.close()
        await asyncio.gather(*goodbyes)
        await self.rooms.close()


CONNECTIONS: web.AppKey[Connections] = web.AppKey("rxllm.connections", Connections)


def add_websocket(app: web.Application, chat: Persona, rooms: RoomSettings) -> None:
    """Add `GET /ws` to an application that already has its models, streams and limits.

    The model answers as `chat` in the chats, and as `rooms` in the rooms.

    Call this after `drain` was added to `on_shutdown`, since this adds the closing of connections.
    """
    address = app[ADDRESS]
    of_rooms = Rooms(app[MODELS], app[STREAMS], rooms, lambda: address.value)
    app[CONNECTIONS] = Connections(of_rooms, app[LIMITS], chat)
    app.router.add_get("/ws", websocket, allow_head=False)
    app.on_shutdown.append(_close)


async def _close(app: web.Application) -> None:
    await app[CONNECTIONS].close()


async def websocket(request: web.Request) -> web.StreamResponse:
    """`GET /ws`: see the module docstring."""
    limits = request.app[LIMITS]
    connections = request.app[CONNECTIONS]
    socket = web.WebSocketResponse(
        autoping=False,  # see `Pings`
        max_msg_size=limits.message_bytes,
        timeout=_CLOSING,
        compress=False,  # tokens don't get shorter, and each client would cost a zlib window
    )
    channel = _Channel(socket, request.transport)
    with connections.holding(channel):
        try:
            await socket.prepare(request)
        except ConnectionError:  # the client has left at once
            return web.Response(status=400)
        session = Session(
            request.app[MODELS],
            request.app[STREAMS],
            connections.rooms,
            connections.sessions,
            connections.persona,
        )
        outbox = session.outbox
        pings = Pings(socket.ping, channel.abort, interval=_HEARTBEAT, patience=limits.reader_stall)
        write = websocket_writer(socket, pings.written)
        delivery = ResponseWriter(request.transport, write, max_stall=limits.reader_stall)
        sending = asyncio.create_task(delivery.run(outbox.frames), name="rxllm websocket")

        is_conversing = True

        def ended(_: asyncio.Task[None]) -> None:
            outbox.begun.set()
            if is_conversing and request.transport is not None:
                request.transport.abort()  # stops the reading loop

        sending.add_done_callback(ended)
        try:
            await outbox.begun.wait()
            await _converse(socket, session, Rate(limits.messages_per_second), pings)
        finally:
            is_conversing = False
            outbox.finish()
            try:
                await _until_sent(sending)
            finally:
                pings.stop()
                await channel.close(session.code, session.reason)
    return socket


async def _converse(
    socket: web.WebSocketResponse, session: Session, rate: Rate, pings: Pings
) -> None:
    session.greet()
    async for message in socket:
        if message.type == WSMsgType.ERROR:
            continue  # which ends the loop
        pings.heard()
        if message.type == WSMsgType.PONG and pings.answered(message.data):
            continue
        verdict = rate.take()
        if verdict == "close":
            session.code, session.reason = WSCloseCode.POLICY_VIOLATION, b"too many messages"
            return
        if message.type == WSMsgType.PING and verdict == "serve":
            await socket.pong(message.data)
        elif message.type in (WSMsgType.PING, WSMsgType.PONG):
            pass  # a pong that nobody has asked for
        elif verdict == "refuse":
            error = RefusedError("too_many_messages", "too many messages: slow down", 429)
            session.refuse_unread(error, message.data)
        elif message.type == WSMsgType.BINARY:
            session.refuse(InvalidMessageError("a message must be JSON in a text frame"))
        else:
            await session.receive(message.data)


async def _until_sent(sending: asyncio.Task[None]) -> None:
    """Give a client that is still connected a moment to receive its last messages."""
    try:
        await asyncio.wait([sending], timeout=_CLOSING)
    finally:
        sending.cancel()
        await asyncio.wait([sending])
    if not sending.cancelled():
        await sending  # raises its exception
