"""`Pool`: a limit on how many streams run at once."""

from __future__ import annotations

from collections import OrderedDict
from threading import RLock
from typing import Protocol

from rxllm.arguments import check_int, check_number
from rxllm.errors import PoolFullError
from rxllm.operators.controlling._after_fork import clear_after_fork
from rxllm.operators.controlling._limiter import Limiter

__all__ = ["Pool"]


class Pooled(Protocol):
    """A holder of a slot: a subscription of `limit_concurrency`."""

    @property
    def is_stranded(self) -> bool:
        """Whether its event loop was closed before the stream ended."""
        ...

    def admit(self) -> None:
        """Start in the slot just granted.

        Must not call the pool back synchronously. If it raises, the slot goes to the next one.
        """


class Pool:
    """First-come, first-served slots for streams that have `limit_concurrency(pool)` in their pipe.

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
        TypeError: an argument is not a number or not an integer, or `limiter` not a `Limiter`.
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
        limiter: Limiter | None = None,
        lend_after: float | None = None,
    ) -> None:
        if not isinstance(limiter, Limiter | None):
            raise TypeError(f"limiter must be a Limiter or None, got {type(limiter).__name__}")
        self.limiter: Limiter | None = limiter
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
        return len(self._waiting)

    def clear(self) -> None:
        """Forget all streams: they run in the process that this one was forked from."""
        self._lock = RLock()  # streams of several event loops may share the pool
        self._holders: set[Pooled] = set()
        self._idle: OrderedDict[Pooled, None] = OrderedDict()  # holders that would lend
        self._waiting: OrderedDict[Pooled, None] = OrderedDict()

    def enter(self, stream: Pooled) -> bool:
        """Take a slot (True) or a place in the queue (False). Called by `limit_concurrency`.

        Raises:
            PoolFullError: the queue is full.
        """
        with self._lock:
            if len(self._holders) >= self.limit:  # some may belong to closed loops
                for each in [each for each in self._holders if each.is_stranded]:
                    self._holders.discard(each)
                    self._idle.pop(each, None)
            # While a slot is free, no stream waits: `leave` passes each freed slot on.
            if self._has_room():
                self._holders.add(stream)
                return True
            if len(self._waiting) >= self.queue:
                raise PoolFullError(
                    f"all {self.limit} slots are taken and {self.waiting} streams are waiting"
                )
            self._waiting[stream] = None
            return False

    def leave(self, stream: Pooled) -> None:
        """Release the slot or the place in the queue, if any. Called by `limit_concurrency`."""
        with self._lock:
            self._waiting.pop(stream, None)
            self._holders.discard(stream)
            self._idle.pop(stream, None)
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
            self._waiting[stream] = None
            self._pass_on()
            return False

    def _has_room(self) -> bool:
        """Whether a slot is free, or one can be lent, which makes it free."""
        if len(self._holders) >= self.limit and self._idle:
            lender, _ = self._idle.popitem(last=False)
            self._holders.discard(lender)
        return len(self._holders) < self.limit

    def _pass_on(self) -> None:
        while self._waiting and self._has_room():
            first, _ = self._waiting.popitem(last=False)
            self._holders.add(first)
            try:
                first.admit()
            except Exception:  # its scheduler accepts no more work: a closed event loop
                self._holders.discard(first)
