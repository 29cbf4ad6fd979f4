"""Clients of the WebSocket, for tests, and a model that is too much for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from rxllm.requests import ModelInfo
from tests.sinks.web import Endless

Said = dict[str, Any]
SECONDS = 30.0  # to wait for anything, before a test fails


class Client:
    """Sends and receives messages of one connection.

    Attributes:
        connected: the first message of the server.
        got: all that was received after it.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.connected: Said = {}
        self.got: list[Said] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send_json({"type": kind, **fields})

    async def receive(self) -> Said:
        message: Said = await self.socket.receive_json(timeout=SECONDS)
        self.got.append(message)
        return message

    async def until(self, kind: str, **fields: Any) -> Said:
        """The next message of this kind that has these fields."""
        async with asyncio.timeout(SECONDS):
            while True:
                message = await self.receive()
                if message["type"] == kind and fields.items() <= message.items():
                    return message

    async def ask(self, kind: str, **fields: Any) -> Said:
        """Send a message; the next one that comes is the answer."""
        await self.send(kind, **fields)
        return await self.receive()

    async def quiet(self) -> list[Said]:
        """What comes until the server has done all that it was asked for so far."""
        before = len(self.got)
        await self.send("ping")
        await self.until("pong")
        return self.got[before:-1]

    async def join(self, room: str, name: str) -> Said:
        await self.send("join", room=room, name=name)
        return await self.until("joined", room=room, name=name)

    def of(self, kind: str, **fields: Any) -> list[Said]:
        """What came of this kind, with these fields."""
        return [
            message
            for message in self.got
            if message["type"] == kind and fields.items() <= message.items()
        ]

    def text(self, stream_id: str) -> str:
        """The text of a stream as far as it came."""
        chunks = [message["chunk"] for message in self.of("chunk", id=stream_id)]
        return "".join(chunk["text"] for chunk in chunks if chunk["type"] in ("token", "batch"))


@asynccontextmanager
async def talking(session: aiohttp.ClientSession, **options: Any) -> AsyncIterator[Client]:
    """A client that is connected, and was greeted."""
    async with session.ws_connect("/ws", **options) as socket:
        client = Client(socket)
        client.connected = await client.receive()
        client.got.clear()
        yield client


class Silent:
    """Sends messages, and reads nothing but what is read from `reader`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    def send(self, message: str) -> None:
        self._frame(0x81, message.encode())

    def close(self) -> None:
        """Begin the closing handshake."""
        self._frame(0x88, (1000).to_bytes(2))

    def leave(self) -> None:
        """Send nothing more, and stay."""
        self._writer.write_eof()

    def _frame(self, opcode: int, data: bytes) -> None:
        unmasked = bytes(4)  # RFC 6455, 5.3: what is masked with zeros is as it was
        self._writer.write(bytes([opcode, 0x80 | len(data)]) + unmasked + data)


@asynccontextmanager
async def silent(session: aiohttp.ClientSession, *messages: str) -> AsyncIterator[Silent]:
    """A client that sends some messages, of 125 bytes at most, and reads nothing."""
    url = session._build_url("/ws")
    assert url.host is not None
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1024)
    try:
        head = (
            f"GET /ws HTTP/1.1\r\nHost: {url.authority}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        writer.write(head.encode())
        client = Silent(reader, writer)
        for message in messages:
            client.send(message)
        yield client
    finally:
        writer.transport.abort()


class Talker:
    """A model that talks without end, and waits when it is held."""

    def __init__(self, text: str = "x" * 10_000) -> None:
        self.info = ModelInfo("talker", "test")
        self.endless = Endless(text)

    def stream(self, prompt: Any, **options: Any) -> Any:
        return self.endless.stream
