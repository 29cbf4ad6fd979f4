"""The fault server: scripted replies, with faults at exact bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from rxllm.testing import no_leaks
from rxllm.testing.fault_server import CUT, FOREVER, RESET, FaultServer, Reply


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_it_answers_with_status_headers_and_body(session: aiohttp.ClientSession) -> None:
    reply = Reply([b"slow down"], status=429, headers={"Retry-After": "2"})
    async with FaultServer(reply) as server, session.get(server.url) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "2")
        assert response.content_type == "text/event-stream"
        assert await response.read() == b"slow down"


async def test_it_records_requests(session: aiohttp.ClientSession) -> None:
    async with FaultServer(Reply([b"a"])) as server:
        for number in range(2):
            async with session.post(f"{server.url}/v1/x?y=1", json=[number]) as response:
                await response.read()
    first, second = server.requests
    assert (first.method, first.path, first.json(), second.json()) == (
        "POST",
        "/v1/x?y=1",
        [0],
        [1],
    )
    assert first.headers["content-type"] == "application/json"
    assert first.connection == second.connection


async def test_replies_are_used_in_order_and_the_last_one_repeats(
    session: aiohttp.ClientSession,
) -> None:
    async with FaultServer(Reply([b"a"]), Reply([b"b"])) as server:
        received = []
        for _ in range(3):
            async with session.get(server.url) as response:
                received.append(await response.read())
    assert received == [b"a", b"b", b"b"]


@pytest.mark.parametrize("act", [CUT, RESET])
async def test_it_cuts_the_body_at_any_byte(session: aiohttp.ClientSession, act: object) -> None:
    reply = Reply([b"abc", b"def"]).cut(4, act)  # type: ignore[arg-type]
    came = b""
    async with FaultServer(reply) as server, session.get(server.url) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            async for data in response.content.iter_any():
                came += data
    assert came == b"abcd"


@pytest.mark.parametrize(
    ("act", "error"),
    [(CUT, aiohttp.ServerDisconnectedError), (RESET, aiohttp.ClientOSError)],
)
async def test_it_cuts_the_connection_before_the_headers(
    session: aiohttp.ClientSession, act: object, error: type[Exception]
) -> None:
    async with FaultServer(Reply(before=[act])) as server:  # type: ignore[list-item]
        with pytest.raises(error):
            await session.post(server.url)


async def test_random_pieces_are_reproducible(session: aiohttp.ClientSession) -> None:
    async def sizes(seed: int) -> list[int]:
        sent = [0]
        reply = Reply([b"x" * 200], pieces="random")
        async with FaultServer(reply, seed=seed) as server:

            def note(server: FaultServer) -> bool:
                if server.sent > sent[-1]:
                    sent.append(server.sent)
                return server.sent == 200

            async with session.get(server.url) as response:
                await asyncio.gather(server.until(note), response.read())
        return sent

    assert await sizes(1) == await sizes(1) != await sizes(2)


async def test_an_event_holds_the_body_until_it_is_set(session: aiohttp.ClientSession) -> None:
    gate = asyncio.Event()
    async with (
        FaultServer(Reply([b"a", gate, b"b"])) as server,
        session.get(server.url) as response,
    ):
        assert await response.content.readany() == b"a"
        assert server.active == 1
        gate.set()
        assert await response.content.readany() == b"b"


async def test_forever_sends_until_the_client_disconnects_and_is_counted() -> None:
    async with no_leaks(), FaultServer(Reply([b"x" * 1000, FOREVER])) as server:
        async with aiohttp.ClientSession() as session, session.get(server.url) as response:
            for _ in range(10):
                await response.content.readany()
        await server.until(lambda server: server.active == 0)
        assert server.abandoned == 1


async def test_a_client_that_does_not_read_blocks_the_server(
    session: aiohttp.ClientSession,
) -> None:
    async with (
        FaultServer(Reply([b"x" * 100_000, FOREVER])) as server,
        session.get(server.url),
    ):
        sent = -1
        while sent != server.sent:
            sent = server.sent
            for _ in range(100):
                await asyncio.sleep(0)
        assert 0 < sent < 50_000_000


def test_a_server_without_a_reply_raises() -> None:
    with pytest.raises(ValueError, match="at least one reply"):
        FaultServer()


def test_forever_without_preceding_bytes_raises() -> None:
    with pytest.raises(ValueError, match="there are none"):
        Reply([FOREVER])
