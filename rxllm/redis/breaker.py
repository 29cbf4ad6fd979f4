"""`RedisBreaker`: the failures of a model, as several processes have met them."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

from reactivex.abc import DisposableBase

from rxllm.errors import StoreUnavailableError
from rxllm.operators.recovery import CircuitBreaker, Permit
from rxllm.redis.connections import Connected, Link, Server
from rxllm.redis.scripts import NOW, Script, key_for, milliseconds

__all__ = ["RedisBreaker"]

# Keys: one that exists while the circuit is open; the recent failures, by time. What happens is
# published on the channel of the first: "open <ms>", "failed", "closed" (after a successful probe)
# or "cleared" (after any other success).
_FAIL: Final = Script(
    NOW
    + """
local failures, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local is_probe, id = ARGV[4] == '1', ARGV[5]
if redis.call('EXISTS', KEYS[1]) == 1 and not is_probe then
  return
end
redis.call('ZADD', KEYS[2], now, id)
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -failures - 1)
redis.call('PEXPIRE', KEYS[2], window + 1000)
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
local enough = redis.call('ZCARD', KEYS[2]) == failures and now - first <= window
if is_probe or enough then
  redis.call('SET', KEYS[1], '', 'PX', ARGV[3])
  redis.call('DEL', KEYS[2])
  redis.call('PUBLISH', KEYS[1], 'open ' .. ARGV[3])
else
  redis.call('PUBLISH', KEYS[1], 'failed')
end
"""
)

_SUCCEED: Final = Script(
    """
redis.call('DEL', KEYS[2])
if ARGV[1] == '1' then
  redis.call('DEL', KEYS[1])
  redis.call('PUBLISH', KEYS[1], 'closed')
else
  redis.call('PUBLISH', KEYS[1], 'cleared')
end
"""
)

_READ: Final = Script("return {redis.call('PTTL', KEYS[1]), redis.call('EXISTS', KEYS[2])}")


class RedisBreaker(Connected, CircuitBreaker):
    """A `CircuitBreaker` whose failures are counted, and whose state is known, in all processes.

    Each process decides by its own state, without waiting for Redis, and tells the others of
    failures, and of a success after them: the circuit opens and closes in all of them within
    milliseconds. A process that uses the breaker for the first time permits streams until it has
    read the state. After `reset_after` seconds each process may send one probe; the first of them
    that succeeds closes the circuit everywhere, and one that fails opens it again.

    While Redis can't be reached, each process goes by the failures of its own streams; when it is
    back, what the others have found is taken over. Redis holds times, and nothing of any error.

    Once used, it listens until `close`, or until the event loop ends.

    Args:
        server: a URL, a `redis.asyncio.Redis`, or `RedisConnections` to share.
        name: whose failures they are, such as the name of a model. All breakers of this name share
            them, and must be given the same numbers.
        failures, window, reset_after: see `CircuitBreaker`.

    Raises:
        TypeError, ValueError: an argument is not such a value.

    >>> RedisBreaker("redis://127.0.0.1:6379", "gpt", failures=3).state
    'closed'
    """

    def __init__(
        self,
        server: Server,
        name: str,
        failures: int = 5,
        window: float = 60.0,
        reset_after: float = 30.0,
    ) -> None:
        Connected.__init__(self, server)
        CircuitBreaker.__init__(self, failures, window, reset_after)
        self.name: str = name
        key = key_for("breaker", name)
        self.keys: list[str] = [key, f"{key}:f"]
        self._rules = (failures, milliseconds(window), milliseconds(reset_after))
        self._have_failed = False  # streams of any process, since the last success
        self._heard = 0  # messages
        self._listeners: dict[Link, DisposableBase] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, now: float) -> Permit | None:
        """A permit to call the model at `now` (clock time in seconds), or `None` if refused.

        Raises:
            NoEventLoopError: no event loop is running.
        """
        self._link()
        return super().ask(now)

    def judge(
        self, permit: Permit, failed_at: float | None, error: Exception | None = None
    ) -> bool:
        """Record the outcome of a stream, and tell the other processes. For `Permit`."""
        is_probe = self.state == "half_open"  # the verdict of any other stream doesn't count then
        if not super().judge(permit, failed_at, error):
            return False
        if failed_at is not None:
            self._have_failed = True
            self._tell(_FAIL, *self._rules, int(is_probe), secrets.token_hex(8))
        elif self._have_failed or is_probe:
            self._have_failed = False
            self._tell(_SUCCEED, int(is_probe))
        return True

    async def close(self) -> None:
        """Listen no longer on the running event loop, and close its connections.

        Those of `RedisConnections` stay open. Idempotent; the next use opens and listens again.
        """
        for link in list(self._listeners):
            if link.loop is asyncio.get_running_loop():
                self._listeners.pop(link).dispose()
        await super().close()

    def _link(self) -> Link:
        """Listen on this event loop, too."""
        link = self._connections.link()
        if link not in self._listeners:
            for closed in [each for each in list(self._listeners) if each.is_closed]:
                self._listeners.pop(closed, None)
            loop = link.loop

            def on_message(message: str) -> None:
                self._on_message(message, loop.time())

            def on_ready() -> None:
                self._start(self._read(link))

            listener = link.messages.listen(self.keys[0], on_message, on_ready)
            self._listeners[link] = listener
        return link

    def _on_message(self, message: str, now: float) -> None:
        self._heard += 1
        kind, _, milliseconds_left = message.partition(" ")
        self._have_failed = kind in ("failed", "open")
        if kind == "open":
            self.adopt(int(milliseconds_left) / 1000, now)
        elif kind == "closed" or (kind == "cleared" and self.state == "closed"):
            self.adopt(0.0, now)

    async def _read(self, link: Link) -> None:
        """Take over the state: messages may have been missed."""
        heard = None
        while heard != self._heard:  # a message may overtake the reply, which is then older
            heard = self._heard
            try:
                left, have_failed = await link.send(_READ, self.keys)
            except StoreUnavailableError:  # reported by the connection, which will be made again
                return
        self._have_failed = bool(have_failed) or left > 0
        if left > 0:
            self.adopt(left / 1000, link.loop.time())

    def _tell(self, script: Script, *arguments: str | int) -> None:
        sent = self._link().send(script, self.keys, *arguments)

        async def settle() -> None:
            try:
                await sent
            except StoreUnavailableError:  # reported by the connection
                return

        self._start(settle())

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="rxllm redis breaker")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
