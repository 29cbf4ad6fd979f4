"""`pace`: as fast as suits the subscriber."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from reactivex import Observable, abc

from rxllm.arguments import check_int, check_number
from rxllm.chunks import Chunk
from rxllm.operators._pacer import Pacer, is_paced
from rxllm.stream import Stream

__all__ = ["pace"]


def pace(gap: float = 0.015, window: int = 10) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Leave the subscriber so much time that, on average, chunks come `gap` seconds apart.

    ::

        S-abcd--------(E,|)            the subscriber takes 1 s for a and b, 5 s for c
        [ pace(gap=3, window=2) ]
        S-a--b--c----d(E,|)

    The time that the subscriber takes for a chunk is measured, from the moment when it gets it to
    the moment when it is ready for the next one: when its `on_next` has returned and its valve is
    open. When it closes after that, this does not count. The pause after the chunk is `gap` less
    the mean of what the last `window` chunks took. So a fast subscriber gets a chunk each `gap`
    seconds; one that takes long now and then gets the next ones sooner, until the average is right;
    one that always takes longer than `gap` gets each chunk as soon as it is ready, with no pause on
    top.

    `Token`, `Reasoning` and `Batch` are paced; other chunks, and those without any text, take no
    time, and leave in their order. Chunks are passed on as they came: the joined text is the same.
    All sources of a merge share the pace, as they share the subscriber.

    - Completion: waits until all has left. Error: what is held leaves first, at once.
    - Restart: what is held of that answer is dropped; usage, progress and notices that waited with
      it leave before the notice of the restart. What was measured stays.
    - Disposal: what is held is dropped, the timer cancelled.
    - Demand: upstream is held while 1024 chunks wait, and goes on when half of them have left.
      Nothing leaves while the valve is closed.

    Args:
        gap: seconds between two chunks, above 0.
        window: of how many chunks the mean is taken, 1 or more.

    Raises:
        ValueError: `gap` is not above 0, or `window` below 1.
        TypeError: they are no numbers, or `window` is no whole one.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> for time, event in marbles.run(marbles.cold("(a,b,c)|").pipe(pace(0.5))):
    ...     print(time, getattr(event, "text", event))
    0.0 a
    0.5 b
    1.0 c
    7.0 |
    """
    gap = check_number("gap", gap, "the time between two chunks, in seconds", above=0)
    window = check_int("window", window, "the number of chunks that the mean is taken of")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Pacing(observer, scheduler, gap, window).start(source)

        return Stream(subscribe, "pace", of_chunks=True)

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
        self._given: float | None = None  # when the chunk that it takes now was due to it
        self._free: float | None = None  # when it was ready for the next one; None: for the first

    def due(self, since: float) -> float:
        if self._free is None or not is_paced(self.queue[0][1]):
            return since
        return self._free + max(0.0, self._gap - sum(self._taken) / len(self._taken))

    def left(self, chunk: Chunk, due: float) -> None:
        if is_paced(chunk):
            self._given = due  # not the time now: so a late timer is made up for

    def ready(self) -> None:
        if self._given is not None:
            self._free = self.clock()
            self._taken.append(self._free - self._given)
            self._given = None
