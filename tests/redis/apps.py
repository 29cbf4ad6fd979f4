"""Several servers on one Redis, in one process, as a client meets them behind a load balancer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from rxllm.redis import RedisStreams
from rxllm.server import Limits, create_app
from rxllm.server.keys import Key
from rxllm.testing import no_leaks
from tests.server.serving import Stepwise, Uncancelled

__all__ = ["LEASE", "ServerNode", "serving_all"]

LEASE = 0.6


class ServerNode:
    """A server, its model, and its client.

    Args:
        url: of the Redis.
        address, keys, take_over: see `create_app`.
        limits: that differ from the defaults.

    Attributes:
        model: says its chunks when the test permits it.
        session: of the client.
    """

    def __init__(
        self,
        url: str,
        *,
        address: str | None = None,
        keys: Sequence[Key] = (),
        take_over: bool = True,
        **limits: Any,
    ) -> None:
        self.model = Stepwise()
        self.app: web.Application = create_app(
            {"tiny": self.model},
            limits=Limits(**limits),
            store=partial(RedisStreams, url, lease=LEASE, flush=0.005),
            address=address,
            keys=keys,
            take_over=take_over,
        )
        self.session: aiohttp.ClientSession
        self._server: TestServer

    async def start(self) -> None:
        self._server = Uncancelled(self.app)
        await self._server.start_server()
        self.session = aiohttp.ClientSession(
            self._server.make_url("/"), timeout=aiohttp.ClientTimeout()
        )

    async def close(self) -> None:
        await self.session.close()
        await self._server.close()

    async def rooms(self) -> list[str]:
        """Return the names of the rooms that it lists."""
        async with self.session.get("/rooms") as response:
            return [each["name"] for each in (await response.json())["rooms"]]


@asynccontextmanager
async def serving_all(*nodes: ServerNode) -> AsyncIterator[None]:
    """Run the servers; none may leave anything behind."""
    async with no_leaks(), AsyncExitStack() as stack:
        for node in nodes:
            await node.start()
            stack.push_async_callback(node.close)
        yield
