"""The peers at both ends of a relay, in separate processes so that they aren't measured.

`python -m tests.benchmarks.relay_peers upstream SECONDS` prints its address and serves chat
completions until its input ends, with one token every SECONDS. The prompt is the number of tokens.

`python -m tests.benchmarks.relay_peers readers URL COUNT` reads COUNT answers concurrently, each to
its end, and prints their total size in bytes.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.chat_server import completion_events

MODULE = "tests.benchmarks.relay_peers"


@contextmanager
def upstream(seconds: float) -> Iterator[str]:
    """Start a chat completions server with one token every `seconds`, and yield its address."""
    with subprocess.Popen(
        [sys.executable, "-m", MODULE, "upstream", str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


async def read_all(url: str, count: int) -> int:
    """Read `count` answers concurrently in another process, and return their size in bytes."""
    readers = await asyncio.create_subprocess_exec(
        sys.executable, "-m", MODULE, "readers", url, str(count), stdout=subprocess.PIPE
    )
    output, _ = await readers.communicate()
    assert readers.returncode == 0
    return int(output)


def _requested_tokens(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"])


async def _serve(seconds: float) -> None:
    from aiohttp import web

    numbers = itertools.count()

    async def complete(request: web.Request) -> web.StreamResponse:
        events = completion_events(_requested_tokens(await request.json()))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if seconds == 0:
            await response.write(b"".join(events))
            return response
        loop = asyncio.get_running_loop()
        due = loop.time() + next(numbers) * 0.382 % 1 * seconds  # streams out of phase
        for event in events:
            due += seconds
            await asyncio.sleep(due - loop.time())
            await response.write(event)
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


class _Reader(asyncio.Protocol):
    """Reads one chunked response to its end."""

    def __init__(self) -> None:
        self.size = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        self._tail = (self._tail + data)[-5:]
        if self._tail == b"0\r\n\r\n" and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("cut"))


async def _read(url: str, count: int) -> None:
    loop = asyncio.get_running_loop()
    address = urlsplit(url)
    head = f"GET {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()
    readers = []
    for _ in range(count):
        transport, reader = await loop.create_connection(
            _Reader, address.hostname or "", address.port or 80
        )
        transport.write(head)
        readers.append((transport, reader))
    await asyncio.gather(*(reader.done for _, reader in readers))
    print(sum(reader.size for _, reader in readers))
    for transport, _ in readers:
        transport.close()


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "upstream":
        asyncio.run(_serve(float(arguments[0])))
    else:
        asyncio.run(_read(arguments[0], int(arguments[1])))
