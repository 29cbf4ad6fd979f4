"""WebSocket clients for tests, and a model that overwhelms one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from rxllm.requests import ModelInfo
from tests.sinks.web import Endless

Said = dict[str, Any]
SECONDS = 30.0  # maximum wait for anything before a test fails


class Client:
    """Sends and receives messages of one connection.

    Attributes:
        connected: the first message of the server.
        got: all messages after it.
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
        """Receive until a message of this kind with these fields, and return it."""
        async with asyncio.timeout(SECONDS):
            while True:
                message = await self.receive()
                if message["type"] == kind and fields.items() <= message.items():
                    return message

    async def ask(self, kind: str, **fields: Any) -> Said:
        """Send a message, and return the next one received."""
        await self.send(kind, **fields)
        return await self.receive()

    async def quiet(self) -> list[Said]:
        """Return what is received until the server has handled all messages so far."""
        before = len(self.got)
        await self.send("ping")
        await self.until("pong")
        return self.got[before:-1]

    async def join(self, room: str, name: str) -> Said:
        await self.send("join", room=room, name=name)
        return await self.until("joined", room=room, name=name)

    def of(self, kind: str, **fields: Any) -> list[Said]:
        """Return the received messages of this kind with these fields."""
        return [
            message
            for message in self.got
            if message["type"] == kind and fields.items() <= message.items()
        ]

    def text(self, stream_id: str) -> str:
        """Return the text of a stream so far."""
        chunks = [message["chunk"] for message in self.of("chunk", id=stream_id)]
        return "".join(chunk["text"] for chunk in chunks if chunk["type"] in ("token", "batch"))


@asynccontextmanager
async def talking(session: aiohttp.ClientSession, **options: Any) -> AsyncIterator[Client]:
    """A connected client, which has received the first message."""
    async with session.ws_connect("/ws", **options) as socket:
        client = Client(socket)
        client.connected = await client.receive()
        client.got.clear()
        yield client


class Silent:
    """Sends messages, and reads only what a test reads from `reader`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer
        self._is_open = False

    def send(self, message: str) -> None:
        self._frame(0x81, message.encode())

    def close(self) -> None:
        """Start the closing handshake."""
        self._frame(0x88, (1000).to_bytes(2))

    def leave(self) -> None:
        """Send nothing more, but stay connected."""
        self._writer.write_eof()

    async def read_frame(self) -> bytes:
        """Read one frame; a ping is answered."""
        if not self._is_open:
            await self.reader.readuntil(b"\r\n\r\n")
            self._is_open = True
        head = await self.reader.readexactly(2)
        length = head[1] & 0x7F
        if length >= 126:
            length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8))
        data = await self.reader.readexactly(length)
        if head[0] == 0x89:
            self._frame(0x8A, data)
        return data

    def _frame(self, opcode: int, data: bytes) -> None:
        unmasked = bytes(4)  # RFC 6455, 5.3: masking with zeros changes nothing
        self._writer.write(bytes([opcode, 0x80 | len(data)]) + unmasked + data)


@asynccontextmanager
async def silent(session: aiohttp.ClientSession, *messages: str) -> AsyncIterator[Silent]:
    """A client that sends messages of at most 125 bytes, and reads nothing."""
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
    """A model that never stops, and waits while it is held."""

    def __init__(self, text: str = "x" * 10_000) -> None:
        self.info = ModelInfo("talker", "test")
        self.endless = Endless(text)

    def stream(self, prompt: Any, **options: Any) -> Any:
        return self.endless.stream
