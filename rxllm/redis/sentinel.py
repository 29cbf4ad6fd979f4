"""The master of a Redis Sentinel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError

__all__ = ["Master"]


class Master:
    """Finds the master for connections that redis-py makes for a client of a Sentinel.

    In contrast to the pool of that client, it belongs to no event loop, since each question has a
    connection of its own, and a Sentinel that has died or hangs is passed over soon.

    Args:
        pool: that of the client.
        options: of the connections to a Sentinel, besides its own.
        timeout: seconds in which all Sentinels must have been asked.

    Attributes:
        name: of the master.
        is_master, check_connection: for redis-py.
    """

    is_master: Final = True

    def __init__(
        self, pool: SentinelConnectionPool, options: Mapping[str, Any], timeout: float
    ) -> None:
        self.check_connection: bool = pool.check_connection
        self.name: str = pool.service_name
        self._manager: Any = pool.sentinel_manager
        self._sentinels: list[Redis] = list(self._manager.sentinels)
        self._options = options
        self._patience = timeout / (len(self._sentinels) + 1)

    async def get_master_address(self) -> tuple[str, int]:
        """Return its host and port. Called by redis-py for each new connection.

        Raises:
            redis.ConnectionError: no Sentinel that answers knows a master.
        """
        for sentinel in tuple(self._sentinels):
            state = await self._ask(sentinel)
            if state is not None and self._manager.check_master_state(state, self.name):
                self._sentinels.sort(key=lambda each: each is not sentinel)  # it is asked first
                return state["ip"], state["port"]
        raise LostError(f"no Sentinel that answers knows the master {self.name!r}")

    async def _ask(self, sentinel: Redis) -> Any:
        """Return what a Sentinel knows of the master, or `None`."""
        pool = sentinel.connection_pool
        options = {**pool.connection_kwargs, **self._options}
        client = Redis.from_pool(ConnectionPool(pool.connection_class, **options))
        try:
            async with asyncio.timeout(self._patience):
                masters: Any = await client.sentinel_masters()
        except (RedisError, OSError, TimeoutError):
            return None
        finally:
            await client.aclose()
        return masters.get(self.name)
