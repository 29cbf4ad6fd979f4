"""A client of the WebSocket, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

Said = dict[str, Any]


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
        message: Said = await self.socket.receive_json(timeout=5)
        self.got.append(message)
        return message

    async def until(self, kind: str, **fields: Any) -> Said:
        """The next message of this kind that has these fields."""
        async with asyncio.timeout(5):
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
