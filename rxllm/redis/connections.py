"""Connections to one Redis, by event loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Final, TypeAlias

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from rxllm.arguments import check_number
from rxllm.redis.commands import CommandQueue
from rxllm.redis.messages import Messages
from rxllm.redis.scripts import Script
from rxllm.redis.sentinel import Master
from rxllm.valve import running_loop

__all__ = ["Connected", "Link", "RedisConnections", "Server"]

_MAX_CONNECTIONS: Final = 16

_log: Final = logging.getLogger("rxllm.redis")


class RedisConnections:
    """Connections to one Redis (7 or later) or Valkey (7.2 or later), on any number of event loops.

    Nothing connects before it is used. Each event loop has one connection for commands, which are
    sent in batches, and one for messages, if something listens. They are closed by `close`, or
    together with the loop if its asynchronous generators are shut down, as `asyncio.run` does.

    Args:
        server: a URL such as `redis://127.0.0.1:6379/0`, `rediss://...` for TLS or `unix://...`, or
            a `redis.asyncio.Redis`, whose address, credentials and TLS settings are used, but not
            its connections. That of `Sentinel.master_for` follows the master.
        timeout: seconds after which a command has failed, above 0.

    Raises:
        TypeError, ValueError: an argument is not such a value.

    >>> RedisConnections("redis://:secret@127.0.0.1:6379/0")
    RedisConnections('127.0.0.1:6379', timeout=2.0)
    """

    def __init__(self, server: str | Redis, *, timeout: float = 2.0) -> None:
        self.timeout: float = check_number(
            "timeout", timeout, "the seconds that a command may take", above=0
        )
        self._server = server
        if not isinstance(server, str | Redis):
            raise TypeError(
                f"server must be a URL or a redis.asyncio.Redis, got {type(server).__name__}"
            )
        options = self._pool().connection_kwargs  # raises a ValueError if the URL is invalid
        master = options.get("connection_pool")
        self.address: str = (
            master.name
            if isinstance(master, Master)
            else options.get("path")
            or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        )
        self._links: dict[asyncio.AbstractEventLoop, Link] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r}, timeout={self.timeout})"

    def link(self) -> Link:
        """Return the connections of the running event loop.

        Raises:
            NoEventLoopError: no event loop is running.
        """
        loop = running_loop()
        link = self._links.get(loop)
        if link is None or link.is_closed or link.pid != os.getpid():
            for closed in [known for known in list(self._links) if known.is_closed()]:
                self._links.pop(closed, None)
            link = self._links[loop] = Link(self, Redis.from_pool(self._pool()))
        return link

    async def close(self) -> None:
        """Close the connections of the running event loop. Idempotent.

        The next use opens others.
        """
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is not None:
            await link.close()

    async def __aenter__(self) -> RedisConnections:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _pool(self) -> BlockingConnectionPool:
        # With a socket timeout, redis-py swallows cancellations on Python 3.11; and a command that
        # it repeats by itself may be executed twice. `asyncio.timeout` and our own rules do both.
        options: dict[str, Any] = {
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            "decode_responses": False,
        }
        size: dict[str, Any] = {"max_connections": _MAX_CONNECTIONS, "timeout": None}
        if isinstance(self._server, str):
            pool = BlockingConnectionPool.from_url(self._server, **size)
            pool.connection_kwargs |= options  # not those of the URL
            return pool
        theirs = self._server.connection_pool
        given = {**theirs.connection_kwargs, **options}
        if isinstance(theirs, SentinelConnectionPool):
            if not theirs.is_master:
                raise ValueError("server must be the client of a master: use Sentinel.master_for")
            given["connection_pool"] = Master(theirs, options, self.timeout)
        return BlockingConnectionPool(connection_class=theirs.connection_class, **given, **size)


class Link:
    """The connections of one event loop. Used on its thread alone.

    Attributes:
        loop: the event loop.
        client: for commands that are neither scripts nor messages.
        messages: between processes.
        is_closed: whether `close` has been called.
        pid: of the process; a forked child must not use what it inherits.
    """

    def __init__(self, connections: RedisConnections, client: Redis) -> None:
        self.client: Redis = client
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.is_closed: bool = False
        self.pid: int = os.getpid()
        self._address = connections.address
        self._is_away = False
        self._lifetime: AsyncGenerator[None, None] | None = None
        self._commands = CommandQueue(client, connections.timeout, self._open, self._report)
        self.messages: Messages = Messages(client, connections.timeout, self._open, self._report)

    def send(
        self, script: Script, keys: list[str], *arguments: str | float | bytes
    ) -> asyncio.Future[Any]:
        """Send a script after those sent before; return a future of its reply.

        A caller that is cancelled, or cancels the future, doesn't interrupt the connection: the
        script is left out if it hasn't been sent yet.

        Raises:
            StoreUnavailableError: into the future: Redis can't be reached, or refused the script.
                It may have been executed all the same.
        """
        return self._commands.send(script, keys, arguments)

    def report_refusal(self, why: str) -> None:
        """Log what Redis has refused, at most once a minute."""
        self._commands.report_refusal(why)

    async def close(self) -> None:
        """Fail the commands under way, and close the connections."""
        self.is_closed = True
        await self._commands.close()
        await self.messages.close()
        await self.client.aclose()
        await self.client.connection_pool.disconnect()
        if self._lifetime is not None:
            lifetime, self._lifetime = self._lifetime, None
            await lifetime.aclose()

    async def _open(self) -> None:
        """Let the link be closed together with its loop."""
        if self._lifetime is None:
            self._lifetime = self._until_shutdown()
            await anext(self._lifetime)

    async def _until_shutdown(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._lifetime = None
            if not self.is_closed:
                await self.close()

    def _report(self, error: Exception | None) -> None:
        """Log that Redis is away, and that it is back, once each."""
        if (error is not None) == self._is_away:
            return
        self._is_away = error is not None
        if error is not None:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            _log.warning("Redis at %s is unavailable (%s)", self._address, reason)
        else:
            _log.warning("Redis at %s is available again", self._address)


Server: TypeAlias = str | Redis | RedisConnections
"""What the classes of this package take: connections to share, or what to connect to."""


class Connected:
    """Something that uses connections, and closes those that it has made.

    Args:
        server: connections to share, or what to connect to.
    """

    def __init__(self, server: Server) -> None:
        self._is_shared = isinstance(server, RedisConnections)
        self._connections = (
            server if isinstance(server, RedisConnections) else RedisConnections(server)
        )

    async def close(self) -> None:
        """Close the connections of the running event loop, unless `RedisConnections` were given.

        Idempotent. The next use opens others.
        """
        if not self._is_shared:
            await self._connections.close()
