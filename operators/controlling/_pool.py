"""`Pool`: a limit on how many streams run at once."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Hashable
from itertools import count
from threading import RLock
from typing import ClassVar, Protocol

from rxllm.arguments import check_int, check_number
from rxllm.errors import PoolFullError
from rxllm.operators.controlling._after_fork import clear_after_fork
from rxllm.operators.controlling._limiter import RateLimiter

__all__ = ["Pool", "Pooled", "SlotPool"]


class Pooled(Protocol):
    """A holder of a slot: a subscription of `limit_concurrency`."""

    @property
    def client(self) -> Hashable:
        """Whose stream it is."""
        ...

    @property
    def is_stranded(self) -> bool:
        """Whether its event loop was closed before the stream ended."""
        ...

    def admit(self) -> None:
        """Start in the slot just granted.

        Must not call the pool back synchronously. If it raises, the slot goes to the next one.
        """

    def refuse(self, error: Exception) -> None:
        """Fail in a turn of its own instead of starting. The pool has forgotten the stream."""


class SlotPool(ABC):
    """The base class of the pools of `limit_concurrency`: `Pool`, and `rxllm.redis.RedisPool`.

    All methods are called by `limit_concurrency`, each on the thread of the stream's event loop.

    Attributes:
        limit: maximum number of concurrent streams.
        wait: maximum seconds that a stream waits for its slot.
        limiter: permits the requests of streams that have a slot; `None` for no such limit.
        OVERTAKEN: maximum number of later streams that overtake one, for each slot of its client.
    """

    OVERTAKEN: ClassVar[int] = 16
    limit: int
    wait: float
    limiter: RateLimiter | None

    @abstractmethod
    def enter(self, stream: Pooled) -> bool:
        """Return True if `stream` has a slot; else it is admitted or refused later.

        Raises:
            PoolFullError: the queue is full.
        """

    @abstractmethod
    def place(self, stream: Pooled) -> int | None:
        """Return its place in the queue, from 1; `None` if it doesn't wait, or none is known."""

    @abstractmethod
    def leave(self, stream: Pooled) -> asyncio.Task[None] | None:
        """Release the slot or the place in the queue, if any.

        Returns:
            What releases it, if that takes time: the sink of the stream waits for it.
        """


class Pool(SlotPool):
    """Slots for streams that have `limit_concurrency(pool)` in their pipe.

    They are first come, first served. If the streams belong to several clients, a free slot goes to
    a client with fewer slots first, so that one with many requests doesn't hold up the others: for
    each slot that its client has, a stream is overtaken by at most 16 later ones.

    One pool may serve streams of any number of models, on any number of event loops, but of one
    process: in a forked child it starts empty. 3 concurrent streams suit a local engine, 10 a
    remote model. With a `Limiter`, its streams also keep to the rate limits of a provider, which
    are learned from its headers; see `limit`.

    Args:
        limit: maximum number of concurrent streams, 1 or more.
        queue: streams that may wait for a slot, 0 or more; any further one fails immediately.
        wait: maximum seconds that a stream waits for its slot, above 0.
        limiter: permits the requests of streams that have a slot; `None` for no such limit.
        lend_after: seconds after which a stream whose subscriber doesn't keep up lends its slot to
            one that waits, 0 or more; `None` to keep it. When there is demand again, it waits for
            its slot at the end of the queue, for as long as that takes.

    Raises:
        TypeError: an argument is not a number or not an integer, or `limiter` not a `RateLimiter`.
        ValueError: a number is out of range.

    >>> pool = Pool(3)
    >>> pool
    Pool(limit=3, queue=100, wait=30.0): 0 active, 0 waiting
    """

    def __init__(
        self,
        limit: int,
        *,
        queue: int = 100,
        wait: float = 30.0,
        limiter: RateLimiter | None = None,
        lend_after: float | None = None,
    ) -> None:
        if not isinstance(limiter, RateLimiter | None):
            raise TypeError(f"limiter must be a Limiter or None, got {type(limiter).__name__}")
        self.limiter: RateLimiter | None = limiter
        self.limit: int = check_int("limit", limit, "the number of streams at once")
        self.queue: int = check_int(
            "queue", queue, "the number of streams that may wait", minimum=0
        )
        self.wait: float = check_number("wait", wait, "the seconds that a stream may wait", above=0)
        self.lend_after: float | None = lend_after
        if lend_after is not None:
            check_number("lend_after", lend_after, "the seconds until a slot is lent", minimum=0)
        self.clear()
        clear_after_fork(self)

    def __repr__(self) -> str:
        return (
            f"Pool(limit={self.limit}, queue={self.queue}, wait={self.wait}): "
            f"{self.active} active, {self.waiting} waiting"
        )

    @property
    def active(self) -> int:
        """The number of slots in use."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """The number of streams waiting for a slot."""
        return len(self._numbers)

    def clear(self) -> None:
        """Forget all streams: they run in the process that this one was forked from."""
        self._lock = RLock()  # streams of several event loops may share the pool
        self._holders: set[Pooled] = set()
        self._slots: Counter[Hashable] = Counter()  # by client
        self._idle: OrderedDict[Pooled, None] = OrderedDict()  # holders that would lend
        self._waiting: dict[Hashable, OrderedDict[Pooled, None]] = {}  # by client
        self._numbers: dict[Pooled, int] = {}  # of those that wait, in the order of their arrival
        self._next_number = count()

    def enter(self, stream: Pooled) -> bool:
        """Take a slot (True) or a place in the queue (False). Called by `limit_concurrency`.

        Raises:
            PoolFullError: the queue is full.
        """
        with self._lock:
            if len(self._holders) >= self.limit:  # some may belong to closed loops
                for each in [each for each in self._holders if each.is_stranded]:
                    self._drop(each)
            # While a slot is free, no stream waits: `leave` passes each freed slot on.
            if self._has_room():
                self._hold(stream)
                return True
            if self.waiting >= self.queue:
                raise PoolFullError(
                    f"all {self.limit} slots are taken and {self.waiting} streams are waiting"
                )
            self._enqueue(stream)
            return False

    def place(self, stream: Pooled) -> int | None:
        """Return its place in the queue, from 1; `None` if it doesn't wait.

        A stream that comes later may be served before, if its client has fewer slots.
        """
        with self._lock:
            if stream not in self._numbers:
                return None
            ranks = {
                each: self._rank(each, index)
                for queue in self._waiting.values()
                for index, each in enumerate(queue)
            }
            return 1 + sum(rank < ranks[stream] for rank in ranks.values())

    def leave(self, stream: Pooled) -> None:
        """Release the slot or the place in the queue, if any. Called by `limit_concurrency`."""
        with self._lock:
            self._dequeue(stream)
            self._drop(stream)
            self._pass_on()

    def lend(self, stream: Pooled) -> None:
        """Let another stream have the slot, if one waits for it. Called by `limit_concurrency`."""
        with self._lock:
            if stream in self._holders:
                self._idle[stream] = None
                self._pass_on()

    def take_back(self, stream: Pooled) -> bool:
        """Return whether the slot is still there; else queue for one.

        Called by `limit_concurrency`.
        """
        with self._lock:
            if stream in self._holders:
                self._idle.pop(stream, None)
                return True
            self._enqueue(stream)
            self._pass_on()
            return False

    def _hold(self, stream: Pooled) -> None:
        self._holders.add(stream)
        self._slots[stream.client] += 1

    def _drop(self, stream: Pooled) -> None:
        self._idle.pop(stream, None)
        if stream in self._holders:
            self._holders.discard(stream)
            self._slots[stream.client] -= 1
            if not self._slots[stream.client]:
                del self._slots[stream.client]

    def _enqueue(self, stream: Pooled) -> None:
        self._numbers[stream] = next(self._next_number)
        self._waiting.setdefault(stream.client, OrderedDict())[stream] = None

    def _dequeue(self, stream: Pooled) -> None:
        if self._numbers.pop(stream, None) is not None:
            queue = self._waiting[stream.client]
            del queue[stream]
            if not queue:
                del self._waiting[stream.client]

    def _first_waiting(self) -> Pooled:
        return min([next(iter(queue)) for queue in self._waiting.values()], key=self._rank)

    def _rank(self, stream: Pooled, before: int = 0) -> tuple[int, int]:
        """Return the order of a waiting stream, given how many of its client come before it."""
        number = self._numbers[stream]
        return number + self.OVERTAKEN * (self._slots[stream.client] + before), number

    def _has_room(self) -> bool:
        """Whether a slot is free, or one can be lent, which makes it free."""
        if len(self._holders) >= self.limit and self._idle:
            self._drop(next(iter(self._idle)))
        return len(self._holders) < self.limit

    def _pass_on(self) -> None:
        while self._waiting and self._has_room():
            first = self._first_waiting()
            self._dequeue(first)
            self._hold(first)
            try:
                first.admit()
            except Exception:  # its scheduler accepts no more work: a closed event loop
                self._drop(first)
