"""`RedisPool`: slots that the streams of several processes share."""

from __future__ import annotations

import asyncio
import os

from rxllm.arguments import check_int, check_number
from rxllm.operators.controlling import Pooled, RateLimiter, SlotPool
from rxllm.redis.connections import Connected, Link, Server
from rxllm.redis.pool_node import PoolNode
from rxllm.redis.scripts import key_for

__all__ = ["RedisPool"]


class RedisPool(Connected, SlotPool):
    """Slots for the streams of several processes, for `limit_concurrency`.

    Streams are first come, first served, whichever process they belong to, and the pool is fair
    among their clients as a `Pool` is. Streams belong to the same client if the `repr` of their
    `client` is the same. Slots aren't lent. A slot is a lease that the process of its stream
    renews: the slots and the places of a process that died, or was stopped, are free after `lease`
    seconds, and at most a third more if no stream enters or leaves.

    There are never more than `limit` streams in slots, with two exceptions. A process that was
    stopped for longer than `lease` has lost its slots, but its streams go on. And if Redis loses
    its data, or is away for longer than `lease`, running streams take their slots again within a
    third of `lease`, and others may start before that. In a forked child, a pool starts empty.

    While Redis can't be reached, streams that have a slot go on, those in the queue wait, and a new
    one fails with a `StoreUnavailableError`, which is retried. Streams in slots when the
    connections are closed go on, and their slots are free after `lease` seconds; those that wait
    fail. Redis holds no text of any stream, and of its client a hash.

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
        self.limiter: RateLimiter | None = limiter
        self.limit: int = check_int("limit", limit, "the number of streams at once")
        self.queue: int = check_int(
            "queue", queue, "the number of streams that may wait", minimum=0
        )
        self.wait: float = check_number("wait", wait, "the seconds that a stream may wait", above=0)
        self.lease: float = check_number("lease", lease, "the seconds that a slot is held", above=0)
        holders = key_for("pool", name)
        self.keys: list[str] = [holders, *(f"{holders}:{each}" for each in "qwnc")]
        super().__init__(server)
        self._nodes: dict[Link, PoolNode] = {}

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
            self._nodes[link] = PoolNode(link, self.keys, self.limit, self.queue, self.lease)
        self._nodes[link].enter(stream)
        return False

    def place(self, stream: Pooled) -> int | None:
        """Return its place in the queue of all processes; `None` if it doesn't wait.

        It is that of its arrival at first, and then, each third of `lease`, the one in which the
        streams will be served if no others come.
        """
        node = self._node_of(stream)
        return None if node is None else node.slots[stream].place

    def leave(self, stream: Pooled) -> asyncio.Task[None] | None:
        """Release the slot or the place in the queue, if any. Called by `limit_concurrency`."""
        node = self._node_of(stream)
        return None if node is None else node.leave(stream)

    def _node_of(self, stream: Pooled) -> PoolNode | None:
        return next((each for each in list(self._nodes.values()) if stream in each.slots), None)

    def _count(self, has_slot: bool) -> int:
        return sum(
            slot.has_slot is has_slot
            for link, node in list(self._nodes.items())
            if link.pid == os.getpid()
            for slot in list(node.slots.values())
        )
