"""A client that reads a stream to its end, wherever it can be read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

__all__ = ["Following"]

_SILENCE = 20.0  # seconds after which a connection counts as lost


class Following:
    """Reads a stream by server-sent events, and resumes it at another server when it is cut off.

    What it has is right if each `restart` was told: text is never said twice in silence.

    Args:
        session: for the connections.
        stream_id: of the stream.
        servers: returns the URLs to try, in order.
        prompt: begins the stream, or joins it if it has begun.

    Attributes:
        text: what the stream has said, as far as it was received.
        restarts, connections: how many there were.
        last: its last message.
        gaps: the seconds between two messages.
        is_gone: whether a server has said that there is no such stream any more.
        failures: what stood between two connections.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        stream_id: str,
        servers: Callable[[], list[str]],
        prompt: str | None = None,
    ) -> None:
        self.stream_id = stream_id
        self.text = ""
        self.restarts = self.connections = 0
        self.last: dict[str, Any] | None = None
        self.gaps: list[float] = []
        self.failures: list[str] = []
        self.is_gone = False
        self._prompt = prompt
        self._session = session
        self._servers = servers
        self._position = "0"
        self._response: aiohttp.ClientResponse | None = None
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Read to the end."""
        loop = asyncio.get_running_loop()
        before = loop.time()
        while self.last is None:
            for server in self._servers():
                try:
                    async for message in self._read(server):
                        now = loop.time()
                        self.gaps.append(now - before)
                        before = now
                        self._take(message)
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.failures.append(f"{server}: {type(error).__name__} {error}")
                if self.last is not None or self.is_gone:
                    return
            await asyncio.sleep(0.2)

    def drop(self) -> None:
        """Lose the connection."""
        if self._response is not None:
            self._response.close()

    async def until(self, is_so: Callable[[Following], object], seconds: float = 20.0) -> None:
        """Wait for something to be so."""
        try:
            async with asyncio.timeout(seconds):
                while not is_so(self):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"it has {self.text!r}, {self.last}, {self.failures}") from None

    async def _read(self, server: str) -> AsyncIterator[dict[str, Any]]:
        headers = {} if self._position == "0" else {"Last-Event-ID": self._position}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=_SILENCE, connect=2.0)
        url = f"{server}/stream/{self.stream_id}"
        query = {}
        if self._prompt is not None:
            url, query = f"{server}/stream", {"prompt": self._prompt, "id": self.stream_id}
        async with self._session.get(
            url, params=query, headers=headers, timeout=timeout
        ) as response:
            self.connections += 1
            self._response = response
            if response.status == 204:
                self.is_gone = True
            if response.status != 200:
                self.failures.append(f"{server}: {response.status} {await response.text()}")
                return
            position, data = self._position, b""
            async for line in response.content:
                if line.startswith(b"id: "):
                    position = line[4:].strip().decode()
                elif line.startswith(b"data: "):
                    data = line[6:]
                elif line == b"\n" and data:  # an event that is cut off doesn't count
                    self._position = position
                    yield json.loads(data)
                    data = b""

    def _take(self, message: dict[str, Any]) -> None:
        chunk = message.get("chunk", {})
        if message["type"] != "chunk":
            self.last = message
        elif chunk["type"] == "notice" and chunk["kind"] == "restart":
            self.text = ""
            self.restarts += 1
        elif chunk["type"] in ("token", "batch"):
            self.text += chunk["text"]
        self._changed.set()
