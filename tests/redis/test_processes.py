"""Three servers as processes: one is killed, or stopped for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import aiohttp
import pytest

from tests.redis.counting import counted
from tests.redis.following import Following
from tests.redis.gateway import Gateway
from tests.redis.server import RedisServer

NUMBERS, PACE = 400, 0.02


@pytest.fixture
def gateways(server: RedisServer, request: pytest.FixtureRequest) -> Iterator[list[Gateway]]:
    take_over = getattr(request, "param", True)
    with ExitStack() as stack:
        yield [stack.enter_context(Gateway(server.url, take_over=take_over)) for _ in range(3)]


@asynccontextmanager
async def clients(gateways: list[Gateway]) -> AsyncIterator[list[Following]]:
    """Begin a stream at the first server, and read it at each."""
    urls = [each.url for each in gateways]
    query = {"prompt": f"{NUMBERS} {PACE}", "id": "count"}
    async with aiohttp.ClientSession() as session:
        begun = await session.get(f"{urls[0]}/stream", params=query)
        assert begun.status == 200
        followed = [
            Following(session, "count", lambda at=at: urls[at:] + urls[:at])  # type: ignore[misc]
            for at in range(3)
        ]
        reading = [asyncio.create_task(each.run()) for each in followed]
        begun.close()
        for each in followed:
            await each.until(lambda it: "20 " in it.text)
        try:
            yield followed
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)


async def test_a_server_is_killed_and_its_stream_goes_on(gateways: list[Gateway]) -> None:
    async with clients(gateways) as readers:
        gateways[0].kill()
        for reader in readers:
            await reader.until(lambda it: it.last)
            assert reader.last is not None
            assert (reader.last["type"], reader.text) == ("complete", counted(NUMBERS))
            assert max(reader.gaps) < 6
        near, *far = readers
        assert [each.restarts for each in far] == [0, 0]
        assert [each.connections for each in far] == [1, 1]
        assert near.restarts <= 1  # it may have seen what was not written


@pytest.mark.parametrize("gateways", [False], indirect=True)
async def test_a_server_is_killed_and_its_readers_are_told(gateways: list[Gateway]) -> None:
    async with clients(gateways) as readers:
        gateways[0].kill()
        for reader in readers:
            await reader.until(lambda it: it.last)
            assert reader.last is not None
            assert reader.last["code"] == "node_lost"
            assert counted(NUMBERS).startswith(reader.text)
            assert reader.last["partial"] == reader.text
            assert max(reader.gaps) < 6


async def test_a_stopped_server_is_replaced_and_follows(gateways: list[Gateway]) -> None:
    async with clients(gateways) as readers:
        gateways[0].pause()
        await readers[1].until(lambda it: len(it.text) > 200)
        await asyncio.sleep(3)
        gateways[0].go_on()
        for reader in readers:
            await reader.until(lambda it: it.last)
            assert reader.last is not None
            assert (reader.last["type"], reader.text) == ("complete", counted(NUMBERS))
        assert [each.restarts for each in readers[1:]] == [0, 0]


async def test_all_servers_are_stopped_for_a_while(gateways: list[Gateway]) -> None:
    """As when a machine sleeps: nobody is taken for dead because all were late."""
    async with clients(gateways) as readers:
        for each in gateways:
            each.pause()
        await asyncio.sleep(3)
        for each in reversed(gateways):
            each.go_on()
        for reader in readers:
            await reader.until(lambda it: it.last)
            assert (reader.text, reader.restarts) == (counted(NUMBERS), 0)


async def test_a_stream_is_cancelled_elsewhere_at_once(gateways: list[Gateway]) -> None:
    async with clients(gateways) as readers, aiohttp.ClientSession() as session:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with session.delete(f"{gateways[2].url}/streams/count") as response:
            assert (await response.json())["status"] == "cancelled"
        await readers[0].until(lambda it: it.last)
        assert loop.time() - begun < 1.0
        assert readers[0].last is not None
        assert readers[0].last["finishReason"] == "cancelled"


async def test_a_server_that_finishes_lets_others_read_its_streams(
    gateways: list[Gateway],
) -> None:
    async with clients(gateways) as readers:
        gateways[0].stop()
        for reader in readers:
            await reader.until(lambda it: it.last)
            assert reader.text == counted(NUMBERS) or reader.last["finishReason"] == "cancelled"  # type: ignore[index]
        urls = [each.url for each in gateways[1:]]
        async with aiohttp.ClientSession() as session:
            late = Following(session, "count", lambda: urls)
            await late.run()
            assert late.text == readers[1].text
