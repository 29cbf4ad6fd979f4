"""`RedisPool`: slots that the streams of several processes share."""

from __future__ import annotations

import asyncio
import secrets
from itertools import count
from typing import Any, Final

from rxllm.arguments import check_int, check_number
from rxllm.errors import PoolFullError, StoreUnavailableError
from rxllm.operators.controlling import Pooled, RateLimiter, SlotPool
from rxllm.redis.connections import Connected, Link, Server
from rxllm.redis.scripts import NOW, Script, key_for, milliseconds

__all__ = ["RedisPool"]

# Keys: holders by the end of their lease; the queue, by number; those in it by the end of their
# lease; the last number. Arguments: limit, lease (ms). An id is "<node>/<number>", and its node
# listens to "<holders>:<node>".
_COMMON: Final = (
    NOW
    + """
local holders, queue, alive, numbers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local limit, lease = tonumber(ARGV[1]), tonumber(ARGV[2])

local function wait(id)
  if not redis.call('ZSCORE', queue, id) then
    redis.call('ZADD', queue, redis.call('INCR', numbers), id)
  end
  redis.call('ZADD', alive, now + lease, id)
end

local function forget(id)
  redis.call('ZREM', holders, id)
  redis.call('ZREM', queue, id)
  redis.call('ZREM', alive, id)
end

local function pass_on(own)
  redis.call('ZREMRANGEBYSCORE', holders, '-inf', now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', now)) do
    forget(id)
  end
  while redis.call('ZCARD', holders) < limit do
    local first = redis.call('ZPOPMIN', queue)[1]
    if not first then break end
    redis.call('ZREM', alive, first)
    redis.call('ZADD', holders, now + lease, first)
    if first ~= own then
      redis.call('PUBLISH', holders .. ':' .. string.match(first, '^[^/]+'), first)
    end
  end
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, lease + 60000)
  end
end

local function place(id)
  local rank = not redis.call('ZSCORE', holders, id) and redis.call('ZRANK', queue, id)
  return rank and rank + 1 or 0
end
"""
)

_ENTER: Final = Script(
    _COMMON
    + """
local id, longest = ARGV[3], tonumber(ARGV[4])
if not redis.call('ZSCORE', holders, id) then
  wait(id)
end
pass_on(id)
local at = place(id)
if at > longest then
  forget(id)
  return -1
end
return at
"""
)
"""Return 0 for a slot, a place in the queue, or -1 if that is full."""

_LEAVE: Final = Script(_COMMON + "forget(ARGV[3]) pass_on('')")

_RENEW: Final = Script(
    _COMMON
    + """
for at = 4, #ARGV do
  local id = ARGV[at]
  if at < 4 + tonumber(ARGV[3]) or redis.call('ZSCORE', holders, id) then
    forget(id)
    redis.call('ZADD', holders, now + lease, id)
  else
    wait(id)
  end
end
pass_on('')
local places = {}
for at = 4, #ARGV do
  places[at - 3] = place(ARGV[at])
end
return places
"""
)
"""Renew the leases of streams that run, as many as the third argument says, and of those that wait.
Return their places; 0 for a slot. Running streams that Redis has forgotten are held again."""


class RedisPool(Connected, SlotPool):
    """Slots for the streams of several processes, for `limit_concurrency`.

    Streams are first come, first served, whichever process they belong to; `client=` of
    `limit_concurrency` has no effect, and slots aren't lent. A slot is a lease that the process of
    its stream renews: the slots and the places of a process that died, or was stopped, are free
    after `lease` seconds, and at most a third more if no stream enters or leaves.

    There are never more than `limit` streams in slots, with two exceptions. A process that was
    stopped for longer than `lease` has lost its slots, but its streams go on. And if Redis loses
    its data, running streams take their slots again within a third of `lease`, and others may start
    before that.

    While Redis can't be reached, streams that have a slot go on, those in the queue wait, and a new
    one fails with a `StoreUnavailableError`, which is retried. Streams
    in slots when the connections are closed go on, and their slots are free after `lease` seconds.
    Redis holds no text of any stream.

    Args:
        server: a URL, a `redis.asyncio.Redis`, or `RedisConnections` to share.
        name: whose slots they are, such as the name of a model or a machine. All pools of this name
            share them, and must be given the same numbers.
        limit: maximum number of concurrent streams, 1 or more.
        queue: streams that may wait for a slot, 0 or more; any further one fails.
        wait: maximum seconds that a stream waits for its slot, above 0.
        limiter: permits the requests of streams that have a slot; `None` for no such limit.
        lease: seconds for which a slot is held without being renewed, above 0.

    Raises:
        TypeError, ValueError: an argument is not such a value.

    >>> RedisPool("redis://127.0.0.1:6379", "gpt", 3)
    RedisPool('gpt', limit=3, queue=100, wait=30.0): 0 active, 0 waiting here
    """

    def __init__(
        self,
        server: Server,
        name: str,
        limit: int,
        *,
        queue: int = 100,
        wait: float = 30.0,
        limiter: RateLimiter | None = None,
        lease: float = 10.0,
    ) -> None:
        if not isinstance(limiter, RateLimiter | None):
            raise TypeError(f"limiter must be a RateLimiter or None, got {type(limiter).__name__}")
        self.name: str = name
        self.limiter = limiter
        self.limit = check_int("limit", limit, "the number of streams at once")
        self.queue: int = check_int(
            "queue", queue, "the number of streams that may wait", minimum=0
        )
        self.wait = check_number("wait", wait, "the seconds that a stream may wait", above=0)
        self.lease: float = check_number("lease", lease, "the seconds that a slot is held", above=0)
        holders = key_for("pool", name)
        self.keys: list[str] = [holders, f"{holders}:q", f"{holders}:w", f"{holders}:n"]
        super().__init__(server)
        self._nodes: dict[Link, _Node] = {}

    def __repr__(self) -> str:
        return (
            f"RedisPool({self.name!r}, limit={self.limit}, queue={self.queue}, wait={self.wait}): "
            f"{self.active} active, {self.waiting} waiting here"
        )

    @property
    def active(self) -> int:
        """The number of slots that streams of this process hold."""
        return self._count(has_slot=True)

    @property
    def waiting(self) -> int:
        """The number of streams of this process that wait for a slot."""
        return self._count(has_slot=False)

    def enter(self, stream: Pooled) -> bool:
        """Ask for a slot. The stream is admitted or refused later. Called by `limit_concurrency`.

        Raises:
            NoEventLoopError: no event loop is running.
        """
        link = self._connections.link()
        if link not in self._nodes:
            for closed in [each for each in self._nodes if each.is_closed]:
                del self._nodes[closed]
            self._nodes[link] = _Node(self, link)
        self._nodes[link].enter(stream)
        return False

    def place(self, stream: Pooled) -> int | None:
        """Return its place in the queue of all processes, as of the last third of `lease`."""
        node = self._node_of(stream)
        return None if node is None else node.slots[stream].place

    def leave(self, stream: Pooled) -> asyncio.Task[None] | None:
        """Release the slot or the place in the queue, if any. Called by `limit_concurrency`."""
        node = self._node_of(stream)
        return None if node is None else node.leave(stream)

    def _node_of(self, stream: Pooled) -> _Node | None:
        return next((each for each in list(self._nodes.values()) if stream in each.slots), None)

    def _count(self, has_slot: bool) -> int:
        return sum(
            slot.has_slot is has_slot
            for node in list(self._nodes.values())
            for slot in list(node.slots.values())
        )


class _Slot:
    """A slot, or a place in the queue."""

    def __init__(self, id: str) -> None:  # noqa: A002
        self.id = id
        self.has_slot = False
        self.place: int | None = None  # in the queue, once that is known


class _Node:
    """The streams of one pool on one event loop."""

    def __init__(self, pool: RedisPool, link: Link) -> None:
        self.slots: dict[Pooled, _Slot] = {}
        self._pool = pool
        self._link = link
        self._name = secrets.token_hex(8)
        self._numbers = count()
        self._renewing: asyncio.Task[None] | None = None
        self._entering: set[asyncio.Task[None]] = set()
        self._listens = False

    def enter(self, stream: Pooled) -> None:
        slot = self.slots[stream] = _Slot(f"{self._name}/{next(self._numbers)}")
        reply = self._send(_ENTER, slot.id, self._pool.queue)
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._enter(stream, slot, reply), name="rxllm redis pool")
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)
        if self._renewing is None:
            self._renewing = loop.create_task(self._renew(), name="rxllm redis pool leases")

    def leave(self, stream: Pooled) -> asyncio.Task[None]:
        slot = self._forget(stream)
        released = self._send(_LEAVE, slot.id)
        return asyncio.get_running_loop().create_task(
            _settle(released), name="rxllm redis pool release"
        )

    async def _enter(self, stream: Pooled, slot: _Slot, reply: asyncio.Future[int]) -> None:
        try:
            place = await reply
        except StoreUnavailableError as error:
            self._refuse(stream, slot, error)
            return
        if place < 0:
            words = f"all {self._pool.limit} slots are taken and {self._pool.queue} streams wait"
            self._refuse(stream, slot, PoolFullError(words))
        else:
            self._place(stream, slot, place)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._pool.lease / 3)
            await self._look()

    async def _look(self) -> None:
        """Renew all leases, and learn who has been admitted."""
        slots = [(stream, slot) for stream, slot in self.slots.items() if slot.has_slot]
        held = len(slots)
        slots += [(stream, slot) for stream, slot in self.slots.items() if slot.place is not None]
        if not slots:
            return
        reply = self._send(_RENEW, held, *[slot.id for _, slot in slots])
        try:
            places = await reply
        except StoreUnavailableError:  # reported by the connection; the next renewal may do
            return
        for (stream, slot), place in zip(slots, places, strict=True):
            self._place(stream, slot, place)

    def _place(self, stream: Pooled, slot: _Slot, place: int) -> None:
        """Take over the place of a stream; 0 for a slot."""
        if self.slots.get(stream) is not slot or slot.has_slot:
            return  # it has left, or been admitted, meanwhile
        if place > 0:
            slot.place = place
            self._listen()
            return
        slot.has_slot, slot.place = True, None
        try:
            stream.admit()
        except Exception:  # its scheduler accepts no more work: a closed event loop
            self.leave(stream)

    def _refuse(self, stream: Pooled, slot: _Slot, error: Exception) -> None:
        if self.slots.get(stream) is slot:
            self._forget(stream)
            self._send(_LEAVE, slot.id)  # it may have been executed all the same
            stream.refuse(error)

    def _forget(self, stream: Pooled) -> _Slot:
        slot = self.slots.pop(stream)
        if not self.slots and self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
            if self._listens:
                self._listens = False
                self._link.messages.forget(self._channel)
        return slot

    @property
    def _channel(self) -> str:
        return f"{self._pool.keys[0]}:{self._name}"

    def _listen(self) -> None:
        if not self._listens:
            self._listens = True
            self._link.messages.listen(self._channel, self._on_admitted, self._on_listening)

    def _on_admitted(self, id: str) -> None:  # noqa: A002
        for stream, slot in self.slots.items():
            if slot.id == id:
                self._place(stream, slot, 0)
                return

    def _on_listening(self) -> None:
        """Somebody may have been admitted before, or while there was no connection."""
        task = asyncio.get_running_loop().create_task(self._look(), name="rxllm redis pool")
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    def _send(self, script: Script, *arguments: str | float) -> asyncio.Future[Any]:
        pool = self._pool
        fixed = pool.limit, milliseconds(pool.lease)
        return self._link.send(script, pool.keys, *fixed, *arguments)


async def _settle(released: asyncio.Future[Any]) -> None:
    try:
        await released
    except StoreUnavailableError:  # reported by the connection; the lease isn't renewed any more
        return
