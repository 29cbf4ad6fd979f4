"""Fixtures: a redis-server for all tests, emptied for each, or one of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from rxllm.redis import RedisConnections
from rxllm.testing import Marbles
from tests.redis.server import RedisServer


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(_server: RedisServer) -> RedisServer:
    """A server without keys and scripts."""
    _server.client.flushall()
    _server.client.script_flush()
    return _server


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that the test may stop."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def connections(server: RedisServer) -> AsyncIterator[RedisConnections]:
    async with RedisConnections(server.url) as connections:
        yield connections


@pytest.fixture
def marbles() -> Marbles:
    """A test bench in virtual time, without an event loop."""
    return Marbles()
