"""Many clients, and one that never reads. `RXLLM_LOAD_SECONDS=30` runs the full duration."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET, socket
from statistics import median

import pytest
from aiohttp import web

import rxllm
from rxllm.models.scripted import ScriptedModel
from rxllm.server import Limits, create_app
from rxllm.server.app_keys import STREAMS
from rxllm.settings import Settings
from rxllm.web.memory_store import MemoryStreams
from tests.benchmarks.load import RATE, load
from tests.rate_limited_server import RateLimitedServer
from tests.server.serving import all_events, port_of, said, serving, until

SECONDS = float(os.environ.get("RXLLM_LOAD_SECONDS", "5"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(SECONDS * 5 + 60)
def test_500_clients_at_20_tokens_per_second_without_starvation() -> None:
    seen = load(500, SECONDS)
    assert seen.completed == 500
    assert set(seen.tokens) == {int(RATE * SECONDS)}  # none lost, none repeated
    # Other load on the machine slows all clients down, but none more than the others.
    usual = median(seen.seconds)
    assert max(seen.seconds) < usual * 1.5 + 1.0
    assert seen.longest_silence < 2.0 * max(1.0, usual / SECONDS)  # a token is due every 0.05 s
    assert seen.bytes_per_stream < 200 * 1024


@pytest.mark.memory_store
async def test_a_client_that_never_reads_is_evicted_without_affecting_others() -> None:
    text = "x" * 4000
    model = ScriptedModel([text] * 500, delay=0.002)
    limits = Limits(reader_stall=0.3, stream_characters=10_000_000)
    app = create_app({"tiny": model}, limits=limits, settings=Settings(buffer_size=50))
    streams = app[STREAMS]
    assert isinstance(streams, MemoryStreams)
    slow: list[asyncio.Transport] = []

    async def small_buffers(request: web.Request, _: web.StreamResponse) -> None:
        if "X-Never-Reads" in request.headers:  # the kernel would buffer megabytes for it
            assert request.transport is not None
            slow.append(request.transport)
            request.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_SNDBUF, 4096)

    app.on_response_prepare.append(small_buffers)
    async with serving(app) as client:
        first = await client.get("/stream", params={"prompt": "Hi", "id": "mine"})
        reading = asyncio.ensure_future(all_events(first))
        log = streams._find("mine").log
        async with never_reading(port_of(client), "/stream/mine") as connection:
            await until(lambda: log.readers == 2)
            held = 0
            while log.readers == 2 and log.ending is None:
                held = max(held, slow[0].get_write_buffer_size())
                await asyncio.sleep(0.005)
            assert log.ending is None  # evicted while the other client still reads
            assert log.readers == 1
            assert 0 < held < 256 * 1024
            assert not (await what_came(connection)).endswith(b"0\r\n\r\n")  # no clean end
        assert said(await reading) == text * 500
        assert log.size < len(text) * 500 * 1.1  # kept once for any number of readers


@asynccontextmanager
async def never_reading(port: int, path: str) -> AsyncIterator[socket]:
    """The connection of a client that sends a request, then reads nothing."""
    loop = asyncio.get_running_loop()
    with socket() as connection:
        connection.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Never-Reads: 1\r\n\r\n"
        await loop.sock_sendall(connection, head.encode())
        yield connection


async def what_came(connection: socket) -> bytes:
    """Read all available data, until the connection is closed or cut."""
    came = bytearray()
    with suppress(ConnectionError):
        async with asyncio.timeout(30.0):
            while data := await asyncio.get_running_loop().sock_recv(connection, 65536):
                came += data
    return bytes(came)


async def test_twenty_clients_of_a_provider_that_permits_five_requests_at_a_time() -> None:
    async with RateLimitedServer(5, window=0.5) as provider:
        model = rxllm.model("openai/gpt", api_key="k", base_url=provider.url)
        async with serving(create_app({"gpt": model})) as client:

            async def ask() -> str:
                response = await client.get("/stream", params={"prompt": "Hi"})
                return said(await all_events(response))

            assert await asyncio.gather(*(ask() for _ in range(20))) == ["Hi"] * 20
    assert provider.refused == 0
