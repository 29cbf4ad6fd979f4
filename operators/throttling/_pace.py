"""`pace`: as fast as suits the subscriber."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from reactivex import Observable, abc

from rxllm.chunks import Batch, Chunk, Reasoning, Token
from rxllm.operators._pacer import Pacer

__all__ = ["pace"]


def pace(gap: float = 0.015, window: int = 10) -> Callable[[Observable[Chunk]], Observable[Chunk]]:
    """Leave the subscriber so much time that, on average, chunks come `gap` seconds apart.

    ::

        S-abcd--------(E,|)            the subscriber takes 1 s for a and b, 5 s for c
        [ pace(gap=3, window=2) ]
        S-a--b--c----d(E,|)

    The time that the subscriber takes for a chunk is measured, from the moment when it gets it to
    the moment when it is ready for the next one: when its `on_next` has returned and its valve is
    open. The pause after that is `gap` less the mean of what the last `window` chunks took. So a
    fast subscriber gets a chunk each `gap` seconds; one that takes long now and then gets the next
    ones sooner, until the average is right; one that always takes longer than `gap` gets each chunk
    as soon as it is ready, with no pause on top.

    `Token`, `Reasoning` and `Batch` are paced; other chunks take no time, and leave in their
    order. Chunks are passed on as they came: the joined text is the same. All sources of a merge
    share the pace, as they share the subscriber.

    - Completion: waits until all has left. Error: what is held leaves first, at once.
    - Restart: what is held of that stream is dropped; what was measured stays.
    - Disposal: what is held is dropped, the timer cancelled.
    - Demand: upstream is held while 1024 chunks wait, and goes on when half of them have left.
      Nothing leaves while the valve is closed.

    Args:
        gap: seconds between two chunks, above 0.
        window: of how many chunks the mean is taken, 1 or more.

    Raises:
        ValueError: `gap` is not above 0, or `window` below 1.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> for time, event in marbles.run(marbles.cold("(a,b,c)|").pipe(pace(0.5))):
    ...     print(time, getattr(event, "text", event))
    0.0 a
    0.5 b
    1.0 c
    7.0 |
    """
    if not 0 < gap < float("inf"):
        raise ValueError(f"gap is the time between two chunks, in seconds above 0: {gap}")
    if window < 1:
        raise ValueError(f"window is a number of chunks, 1 or more: {window}")

    def operator(source: Observable[Chunk]) -> Observable[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Pacing(observer, scheduler, gap, window).start(source)

        return Observable(subscribe)

    return operator


class _Pacing(Pacer):
    """One subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        gap: float,
        window: int,
    ) -> None:
        super().__init__(observer, scheduler)
        self._gap = gap
        self._taken: deque[float] = deque(maxlen=window)  # seconds for each of the last chunks
        self._given: float | None = None  # when the last chunk was due to the subscriber
        self._free = 0.0  # when the subscriber was ready again

    def due(self, since: float) -> float:
        if self._given is None or not _is_paced(self.queue[0][1]):
            return since
        self._taken.append(self._free - self._given)
        pause = self._gap - sum(self._taken) / len(self._taken)
        return self._free + max(0.0, pause)

    def left(self, chunk: Chunk, due: float) -> None:
        if _is_paced(chunk):
            self._given = due  # not the time now: so a late timer is made up for

    def ready(self) -> None:
        self._free = self.clock()


def _is_paced(chunk: Chunk) -> bool:
    return isinstance(chunk, Token | Reasoning | Batch)
