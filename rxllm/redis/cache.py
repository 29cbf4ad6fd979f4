"""`RedisCache`: answers that several processes share, and ask for once."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any, Final

from rxllm.arguments import check_number
from rxllm.errors import StoreUnavailableError
from rxllm.operators.multicasting import AsyncCacheStore
from rxllm.redis.connections import Connected, Link, Server
from rxllm.redis.scripts import Script, digest, key_for, milliseconds

__all__ = ["RedisCache"]

_LONGEST: Final = 7 * 86400.0

# Keys: the answer; the token of the process that asks the model. The end of that call is published
# on the channel of the first key.
_FIND: Final = Script(
    """
local answer = redis.call('GET', KEYS[1])
if answer then return answer end
local token, lease = ARGV[1], ARGV[2]
if redis.call('SET', KEYS[2], token, 'NX', 'PX', lease) or redis.call('GET', KEYS[2]) == token then
  return 0
end
return math.max(1, redis.call('PTTL', KEYS[2]))
"""
)
"""Return the answer; 0 if the caller should ask; or the milliseconds for which another one is
known to ask."""

_RENEW: Final = Script(
    """
local token = redis.call('GET', KEYS[2])
if not token or token == ARGV[1] then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
end
"""
)

_END: Final = Script(
    """
if ARGV[2] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
local asked = redis.call('GET', KEYS[2]) == ARGV[1]
if asked then redis.call('DEL', KEYS[2]) end
if asked or ARGV[2] then redis.call('PUBLISH', KEYS[1], '') end
"""
)


class RedisCache(Connected, AsyncCacheStore):
    """Answers for `cache` that several processes share.

    Of all processes that miss the same answer, one asks the model, for as long as it renews its
    lease; the others wait for its answer, at most `wait` seconds, and then ask by themselves. If
    the call fails, or is stopped by its last subscriber, another process asks at once; if its
    process dies, after `lease` seconds. In a process, streams share a call as with a `MemoryStore`.

    While Redis can't be reached, nothing is found and nothing is stored: each process asks. Redis
    holds the answers as JSON, and the SHA-256 of their keys, so that no prompt is in them; whoever
    can write to it can say what the model answers. It evicts answers as it is configured to.

    Args:
        server: a URL, a `redis.asyncio.Redis`, or `RedisConnections` to share.
        name: whose answers they are. All caches of this name share them.
        wait: maximum seconds that a stream waits for the answer of another process, above 0.
        lease: seconds after which a process that died has ceased to ask, above 0.
        longest: maximum seconds for which an answer is stored, above 0, also if its `ttl` is longer
            or `None`.

    Attributes:
        hits, misses: how many times this process has found an answer, and how many times not.

    Raises:
        TypeError, ValueError: an argument is not such a value.

    >>> RedisCache("redis://127.0.0.1:6379", "answers").wait
    60.0
    """

    def __init__(
        self,
        server: Server,
        name: str,
        *,
        wait: float = 60.0,
        lease: float = 10.0,
        longest: float = _LONGEST,
    ) -> None:
        super().__init__(server)
        key_for("cache", name)
        self.name: str = name
        self.wait: float = check_number("wait", wait, "the seconds that a stream may wait", above=0)
        self.lease: float = check_number(
            "lease", lease, "the seconds until a dead process has ceased to ask", above=0
        )
        self.longest: float = check_number(
            "longest", longest, "the seconds for which an answer is stored", above=0
        )
        self.hits: int = 0
        self.misses: int = 0
        self._calls: dict[tuple[Link, str], _Call] = {}

    async def get(self, key: str) -> bytes | None:
        """The answer, or `None` if this process should ask.

        Raises:
            NoEventLoopError: no event loop is running.
        """
        call = _Call(self._connections.link(), self._keys(key), self.lease)
        answer: bytes | None = None
        try:
            async with asyncio.timeout(self.wait):
                answer = await call.find()
        except (StoreUnavailableError, TimeoutError):  # reported by the connection, or too long
            pass
        if answer is not None:
            self.hits += 1
            return answer
        self.misses += 1
        if call.asks:
            for closed in [each for each in list(self._calls) if each[0].is_closed]:
                self._calls.pop(closed, None)
            self._calls[call.link, key] = call
        return None

    async def put(self, key: str, answer: bytes, *, ttl: float | None) -> None:
        """Store the answer for `ttl` seconds, at most `longest`."""
        seconds = self.longest if ttl is None else min(ttl, self.longest)
        await self._end(key, answer, milliseconds(seconds))

    async def release(self, key: str) -> None:
        """Let another process ask, if this one does."""
        await self._end(key)

    async def _end(self, key: str, *answer: bytes | int) -> None:
        link = self._connections.link()
        call = self._calls.pop((link, key), None)
        if call is None:
            if not answer:
                return
            call = _Call(link, self._keys(key), self.lease)
        with suppress(StoreUnavailableError):  # reported by the connection
            await call.end(*answer)

    def _keys(self, key: str) -> list[str]:
        name = key_for("cache", f"{self.name}:{digest(key)}")
        return [name, f"{name}:a"]


class _Call:
    """A call of one process, or its wait for that of another.

    Attributes:
        link: the connections.
        asks: whether this process asks; it renews its lease until `end`.
    """

    def __init__(self, link: Link, keys: list[str], lease: float) -> None:
        self.link: Link = link
        self.asks: bool = False
        self._keys = keys
        self._lease = lease
        self._token = secrets.token_hex(16)
        self._renewing: asyncio.Task[None] | None = None

    async def find(self) -> bytes | None:
        """The answer, or `None` if this process asks."""
        try:
            found = await self._look()
            if isinstance(found, int) and found > 0:
                found = await self._wait(found)
        except (Exception, asyncio.CancelledError):
            self.end()  # it may ask: the reply was lost
            raise
        if isinstance(found, bytes):
            return found
        self.asks = True
        self._renewing = self.link.loop.create_task(self._renew(), name="rxllm redis cache")
        return None

    def end(self, *answer: bytes | int) -> asyncio.Future[Any]:
        """Cease to ask, and store the answer with its milliseconds, if there is one."""
        self.asks = False
        if self._renewing is not None:
            self._renewing.cancel()
        return self.link.send(_END, self._keys, self._token, *answer)

    async def _look(self) -> bytes | int:
        found: bytes | int = await self.link.send(
            _FIND, self._keys, self._token, milliseconds(self._lease)
        )
        return found

    async def _wait(self, left: int) -> bytes | int:
        """Wait until another process has ended its call, or its lease has."""
        ended = asyncio.Event()
        listener = self.link.messages.listen(self._keys[0], lambda _: ended.set(), ended.set)
        found: bytes | int = left
        try:
            while isinstance(found, int) and found > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(found / 1000 + 0.01):
                        await ended.wait()
                ended.clear()
                found = await self._look()
        finally:
            listener.dispose()
        return found

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            with suppress(StoreUnavailableError):  # reported by the connection
                await self.link.send(_RENEW, self._keys, self._token, milliseconds(self._lease))
