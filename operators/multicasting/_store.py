"""Stores for whole answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from functools import cached_property
from threading import Lock
from typing import TypeAlias

from rxllm.arguments import check_int
from rxllm.operators.multicasting._lookup import Lookup
from rxllm.operators.multicasting._multiplex import Multiplexed

__all__ = ["AsyncCacheStore", "CacheStore", "Flight", "MemoryStore"]

Flight: TypeAlias = tuple[object, str]
"""An event loop and a key."""


class CacheStore(ABC):
    """The base class of the stores of `cache`. Implement `get` and `put` for a custom store.

    Both are called on the event loop's thread, so they must be fast. The streams of all `cache`
    operators with the same store share their calls.
    """

    @abstractmethod
    def get(self, key: str, *, now: float) -> bytes | None:
        """The answer stored under `key`, or `None` if it is missing or has expired.

        Args:
            key: the key of the request.
            now: seconds on the clock of the scheduler, the same clock as for `put`.
        """

    @abstractmethod
    def put(self, key: str, answer: bytes, *, now: float, ttl: float | None) -> None:
        """Store `answer` and replace an older one.

        Args:
            key: the key of the request.
            answer: JSON in UTF-8.
            now: seconds on the clock of the scheduler.
            ttl: seconds from now until it expires, or `None` for never.
        """

    @cached_property
    def under_way(self) -> dict[Flight, Multiplexed]:
        """The running calls by event loop and key. Maintained by `cache`."""
        return {}


class AsyncCacheStore(ABC):
    """The base class of the stores of `cache` that other processes share.

    Of all processes that `get` the same missing answer at once, one is told to ask the model; the
    others wait for its answer. All methods are called on the event loop of the streams.
    """

    @abstractmethod
    async def get(self, key: str) -> bytes | None:
        """The answer stored under `key`, or `None` if the caller should ask the model.

        It then calls `put` or `release` in the end. Waits while another process asks. Cancelling it
        must not leave the others waiting.
        """

    @abstractmethod
    async def put(self, key: str, answer: bytes, *, ttl: float | None) -> None:
        """Store `answer` and replace an older one; processes that wait for it get it.

        Args:
            key: the key of the request.
            answer: JSON in UTF-8.
            ttl: seconds from now until it expires, or `None` for as long as the store keeps it.
        """

    @abstractmethod
    async def release(self, key: str) -> None:
        """Let another process ask: the call of this one has ended without an answer to store."""

    @cached_property
    def under_way(self) -> dict[Flight, Multiplexed]:
        """The running calls by event loop and key. Maintained by `cache`."""
        return {}

    @cached_property
    def lookups(self) -> dict[Flight, Lookup]:
        """The running calls of `get` by event loop and key. Maintained by `cache`."""
        return {}


class MemoryStore(CacheStore):
    """A store in memory that evicts the least recently used answers.

    Args:
        max_entries: the maximum number of answers, 1 or more.
        max_bytes: the maximum size of keys and answers together, 1 or more. A single answer that is
            larger isn't stored.

    Attributes:
        hits, misses: how many times an answer was found, and how many times it wasn't.
        size: the size of the stored keys and answers in bytes.

    Raises:
        TypeError: a limit is not an integer.
        ValueError: a limit is below 1.

    >>> store = MemoryStore(max_entries=2)
    >>> for key in "abc":
    ...     store.put(key, b"...", now=0.0, ttl=60.0)
    >>> store.get("a", now=1.0), store.get("c", now=1.0), store.get("c", now=60.0)
    (None, b'...', None)
    """

    def __init__(self, max_entries: int = 1000, max_bytes: int = 64 * 2**20) -> None:
        self._max_entries = check_int("max_entries", max_entries, "the number of answers to keep")
        self._max_bytes = check_int("max_bytes", max_bytes, "the bytes of keys and answers to keep")
        self._lock = Lock()  # streams of several event loops may share the store
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # answer, expiry
        self.hits: int = 0
        self.misses: int = 0
        self.size: int = 0

    def __len__(self) -> int:
        """The number of stored answers, expired ones included."""
        return len(self._entries)

    def get(self, key: str, *, now: float) -> bytes | None:
        """The answer, which becomes the most recently used."""
        with self._lock:
            answer, until = self._entries.get(key, (None, 0.0))
            if answer is not None and now >= until:
                self._remove(key)
                answer = None
            if answer is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return answer

    def put(self, key: str, answer: bytes, *, now: float, ttl: float | None) -> None:
        """Store the answer, and evict others if the store is full."""
        with self._lock:
            if key in self._entries:
                self._remove(key)
            size = _size(key, answer)
            if size > self._max_bytes:
                return
            self._entries[key] = answer, float("inf") if ttl is None else now + ttl
            self.size += size
            while len(self._entries) > self._max_entries or self.size > self._max_bytes:
                self._remove(next(iter(self._entries)))

    def _remove(self, key: str) -> None:
        answer, _ = self._entries.pop(key)
        self.size -= _size(key, answer)


def _size(key: str, answer: bytes) -> int:
    return len(key.encode(errors="surrogatepass")) + len(answer)
