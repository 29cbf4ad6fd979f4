"""Where whole answers are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from functools import cached_property
from threading import Lock

from rxllm.arguments import check_int
from rxllm.operators.multicasting._multiplex import Multiplexed

__all__ = ["CacheStore", "MemoryStore"]


class CacheStore(ABC):
    """What `cache` keeps answers in. Write `get` and `put`, and another store can take its place.

    Both are called on the event loop's thread, so they have to be quick. The streams of all
    `cache` operators with the same store share their calls.
    """

    @abstractmethod
    def get(self, key: str, *, now: float) -> bytes | None:
        """The answer that was put here under `key`, if it is still here and not too old.

        Args:
            key: its name.
            now: seconds on the clock of the scheduler, the same that `put` got.
        """

    @abstractmethod
    def put(self, key: str, answer: bytes, *, now: float, ttl: float | None) -> None:
        """Keep `answer`, in place of an older one.

        Args:
            key: its name.
            answer: JSON in UTF-8.
            now: seconds on the clock of the scheduler.
            ttl: how many seconds from now on it may be given out; None: for ever.
        """

    @cached_property
    def under_way(self) -> dict[tuple[object, str], Multiplexed]:
        """The calls that are being made now, by event loop and key. `cache` keeps it."""
        return {}


class MemoryStore(CacheStore):
    """Answers in memory; those that were not asked for the longest make room for new ones.

    Args:
        max_entries: answers, 1 or more.
        max_bytes: of keys and answers together, 1 or more. An answer that is larger alone is not
            kept.

    Attributes:
        hits, misses: how many times an answer was found here, and how many times not.
        size: bytes of the keys and answers that are here.

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
        self._lock = Lock()  # streams of several event loops may share it
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # until when
        self.hits: int = 0
        self.misses: int = 0
        self.size: int = 0

    def __len__(self) -> int:
        """How many answers are here, those that are too old included."""
        return len(self._entries)

    def get(self, key: str, *, now: float) -> bytes | None:
        """The answer, which counts as asked for now."""
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
        """Keep the answer, and drop others if there are too many."""
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
