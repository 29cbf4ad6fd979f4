"""`Connection`: observes a transport, and forwards its calls to the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from rxllm.testing import no_leaks
from rxllm.web.connection import connection_of


class Recording(asyncio.Protocol):
    """A server's protocol that records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.made = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.calls.append(data.decode())

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")


@asynccontextmanager
async def client_of(
    protocol: Recording,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    server = await asyncio.get_running_loop().create_server(lambda: protocol, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await protocol.made.wait()
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        server.close()
        await server.wait_closed()


async def test_calls_are_forwarded_and_all_watchers_are_notified() -> None:
    protocol = Recording()
    changed = asyncio.Event()
    seen: list[str] = []
    async with no_leaks(), client_of(protocol) as (reader, writer):
        connection = connection_of(protocol.transport)

        def first() -> None:
            seen.append(f"first {connection.is_writable} {connection.is_lost}")
            changed.set()
            raise ValueError("a broken watcher")

        def second() -> None:
            seen.append(f"second {connection.is_writable} {connection.is_lost}")

        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        with connection.watch(first), connection.watch(second):
            assert connection_of(protocol.transport) is connection
            protocol.transport.write(b"x" * 20_000_000)
            assert not connection.is_writable
            await reader.readexactly(20_000_000)
            while not connection.is_writable:
                await changed.wait()
            changed.clear()
            writer.write(b"hello")
            writer.write_eof()
            await changed.wait()
            assert connection.is_lost
        assert protocol.transport.get_protocol() is protocol
    assert seen == [
        f"{who} {writable} {lost}"
        for writable, lost in ((False, False), (True, False), (True, True))
        for who in ("first", "second")
    ]
    assert protocol.calls == ["pause", "resume", "hello", "lost"]


async def test_the_protocol_is_restored_after_the_last_watcher_in_any_order() -> None:
    protocol = Recording()
    async with no_leaks(), client_of(protocol):
        one = connection_of(protocol.transport).watch(lambda: None)
        one.__enter__()
        other = connection_of(protocol.transport).watch(lambda: None)
        other.__enter__()
        one.__exit__(None, None, None)
        assert protocol.transport.get_protocol() is not protocol
        other.__exit__(None, None, None)
        assert protocol.transport.get_protocol() is protocol


@pytest.mark.parametrize("is_closing", [True, False], ids=["closing", "disconnected"])
async def test_a_disconnected_client_is_detected_at_once(is_closing: bool) -> None:
    protocol = Recording()
    async with no_leaks(), client_of(protocol):
        protocol.transport.abort()
        connection = connection_of(protocol.transport if is_closing else None)
        assert connection.is_lost
        with connection.watch(lambda: None):
            assert protocol.transport.get_protocol() is protocol
        connection.abort()


async def test_a_connection_closed_after_its_last_byte_can_be_aborted() -> None:
    protocol = Recording()
    async with no_leaks(), client_of(protocol) as (reader, _):
        transport = protocol.transport
        connection = connection_of(transport)
        with connection.watch(lambda: None):
            transport.write(b"x" * 5_000_000)
            assert transport.get_write_buffer_size()
            transport.close()
            assert len(await reader.read(-1)) == 5_000_000
            await asyncio.sleep(0)
            assert connection.is_lost
            connection.abort()
        assert protocol.calls[-1] == "lost"


async def test_aborting_a_closing_connection_drops_unsent_data() -> None:
    protocol = Recording()
    async with no_leaks(), client_of(protocol) as (reader, _):
        connection = connection_of(protocol.transport)
        with connection.watch(lambda: None):
            protocol.transport.write(b"x" * 20_000_000)
            protocol.transport.close()
            connection.abort()
            assert protocol.transport.get_write_buffer_size() == 0
            with suppress(ConnectionError):
                assert len(await reader.read(-1)) < 20_000_000
