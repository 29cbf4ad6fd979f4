"""Queues for subscribers that lag behind, one class for each policy."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Literal, Protocol, TypeAlias

from rxllm.chunks import Chunk, Notice, Reasoning, StateKey, is_final_state, state_key
from rxllm.coalesced import Coalesced
from rxllm.restart import committed, forget, survives_restart, surviving

__all__ = ["Backlog", "OnLag", "backlog"]

OnLag: TypeAlias = Literal["block", "drop_oldest", "latest", "coalesce", "evict"]


class Backlog(Protocol):
    """A queue of chunks for one subscriber."""

    @property
    def lag(self) -> int:
        """How many chunks the subscriber is behind."""
        ...

    def __len__(self) -> int:
        """The number of chunks that can be taken now."""
        ...

    def append(self, chunk: Chunk) -> None:
        """Queue `chunk`."""
        ...

    def popleft(self) -> Chunk:
        """Remove and return the first chunk."""
        ...

    def take_back(self, source: str | None) -> None:
        """Drop the chunks that a restart of `source` takes back; `None` means all sources."""
        ...


def backlog(on_lag: OnLag, capacity: int) -> Backlog:
    """An empty queue for this policy."""
    if on_lag == "drop_oldest":
        return _DropOldest(capacity)
    if on_lag == "latest":
        return _Latest()
    return Coalesced() if on_lag == "coalesce" else _Fifo()


class _Fifo:
    """Keeps all chunks."""

    __slots__ = ("_chunks",)

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def lag(self) -> int:
        return len(self._chunks)

    def append(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)

    def popleft(self) -> Chunk:
        return self._chunks.popleft()

    def take_back(self, source: str | None) -> None:
        self._chunks = deque(surviving(self._chunks, source))


class _DroppingQueue:
    """A queue with gaps, where a `Notice` reports the number of dropped chunks."""

    __slots__ = ("_chunks", "_gaps", "_number")

    def __init__(self) -> None:
        self._chunks: OrderedDict[int, Chunk] = OrderedDict()
        self._gaps: dict[str | None, tuple[int, int]] = {}  # by source: position, count
        self._number = 0

    def __len__(self) -> int:
        return len(self._chunks) + len(self._gaps)

    @property
    def lag(self) -> int:
        return len(self._chunks) + sum(count for _, count in self._gaps.values())

    def append(self, chunk: Chunk) -> None:
        self._number += 1
        self._chunks[self._number] = chunk
        if chunk.is_droppable and not is_final_state(chunk):
            self._make_room(self._number, chunk)

    def popleft(self) -> Chunk:
        number = next(iter(self._chunks)) if self._chunks else self._number + 1
        for source, (place, count) in self._gaps.items():
            if place < number:
                del self._gaps[source]
                return Notice("lagged", skipped=count, source=source)
        chunk = self._chunks.pop(number)
        self._taken(number, chunk)
        return chunk

    def take_back(self, source: str | None) -> None:
        forget(self._gaps, source)
        waiting = list(self._chunks.items())
        kept = committed([chunk for _, chunk in waiting], source)
        for number, chunk in waiting[kept:]:
            if not survives_restart(chunk, source):
                del self._chunks[number]
                self._taken(number, chunk)

    def _drop(self, number: int) -> None:
        source = self._chunks.pop(number).source
        place, count = self._gaps.get(source, (number, 0))
        self._gaps[source] = place, count + 1

    def _make_room(self, number: int, chunk: Chunk) -> None:
        """Drop chunks if needed, after the droppable `chunk` was queued at `number`."""
        raise NotImplementedError

    def _taken(self, number: int, chunk: Chunk) -> None:
        """Forget `chunk`, which has left the queue."""
        raise NotImplementedError


class _DropOldest(_DroppingQueue):
    """Keeps the newest `capacity` of the droppable chunks."""

    __slots__ = ("_capacity", "_droppable")

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity
        self._droppable: OrderedDict[int, None] = OrderedDict()

    def _make_room(self, number: int, chunk: Chunk) -> None:
        self._droppable[number] = None
        if len(self._droppable) > self._capacity:
            self._drop(self._droppable.popitem(last=False)[0])

    def _taken(self, number: int, chunk: Chunk) -> None:
        self._droppable.pop(number, None)


class _Latest(_DroppingQueue):
    """Keeps the newest droppable chunk of each source and kind."""

    __slots__ = ("_newest",)

    def __init__(self) -> None:
        super().__init__()
        self._newest: dict[StateKey, int] = {}

    def _make_room(self, number: int, chunk: Chunk) -> None:
        key = _kind_key(chunk)
        older = self._newest.get(key)
        self._newest[key] = number
        if older is not None and state_key(chunk) is not None:
            del self._chunks[older]  # no loss: the newer state includes it
        elif older is not None:
            self._drop(older)

    def _taken(self, number: int, chunk: Chunk) -> None:
        key = _kind_key(chunk)
        if self._newest.get(key) == number:
            del self._newest[key]


def _kind_key(chunk: Chunk) -> StateKey:
    """The kind of which `chunk` is the newest: the text of a source, its reasoning, or a state."""
    return state_key(chunk) or (type(chunk) is Reasoning, chunk.source)
