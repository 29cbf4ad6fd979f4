"""`pace`: chunks spaced by how fast the subscriber handles them."""

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
    """Pause after each chunk so that, on average, chunks are sent `gap` seconds apart.

    ::

        S-abcd--------(E,|)            the subscriber takes 1 s for a and b, 5 s for c
        [ pace(gap=3, window=2) ]
        S-a--b--c----d(E,|)

    The time that the subscriber spends on a chunk is measured from when it receives the chunk until
    it is ready for the next one, that is, until its `on_next` has returned and its valve is open. A
    valve that closes later doesn't count. The pause after a chunk is `gap` minus the mean of the
    last `window` measurements. So a fast subscriber gets a chunk every `gap` seconds; after an
    occasional slow chunk the next ones come sooner, until the average is right; and a subscriber
    that always takes longer than `gap` gets each chunk as soon as it is ready, with no extra pause.

    `Token`, `Reasoning` and `Batch` are paced; other chunks, and those with empty text, are sent in
    order without a delay. Chunks are passed on unchanged, so the joined text is the same. All
    sources of a merge share the pace, as they share the subscriber.

    - Completion: waits until every chunk has been sent. Error: held chunks are sent first,
      immediately.
    - Restart: held content of that answer is dropped; usage, progress and notices held with it are
      sent before the restart notice. The measurements are kept.
    - Disposal: held chunks are dropped and the timer is cancelled.
    - Demand: upstream is paused while 1024 chunks wait, and resumes when half of them have been
      sent. Nothing is sent while the valve is closed.

    Args:
        gap: seconds between two chunks, above 0.
        window: number of measurements in the mean, 1 or more.

    Raises:
        ValueError: `gap` is not above 0, or `window` is below 1.
        TypeError: `gap` is not a number, or `window` is not an integer.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> for time, event in marbles.run(marbles.cold("(a,b,c)|").pipe(pace(0.5))):
    ...     print(time, getattr(event, "text", event))
    0.0 a
    0.5 b
    1.0 c
    7.0 |
    """
    gap = check_number("gap", gap, "seconds between two chunks", above=0)
    window = check_int("window", window, "the number of chunks to average over")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _SubscriberPacer(observer, scheduler, gap, window).start(source)

        return Stream(subscribe, "pace", of_chunks=True)

    return operator


class _SubscriberPacer(Pacer):
    """The state of one subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        gap: float,
        window: int,
    ) -> None:
        super().__init__(observer, scheduler)
        self._gap = gap
        self._taken: deque[float] = deque(maxlen=window)  # seconds spent on each of the last chunks
        self._given: float | None = None  # when the current chunk was due
        self._free: float | None = None  # when it became ready; None before the first chunk

    def due(self, since: float) -> float:
        if self._free is None or not is_paced(self.queue[0][1]):
            return since
        return self._free + max(0.0, self._gap - sum(self._taken) / len(self._taken))

    def left(self, chunk: Chunk, due: float) -> None:
        if is_paced(chunk):
            self._given = due  # not the current time, to make up for a late timer

    def ready(self) -> None:
        if self._given is not None:
            self._free = self.clock()
            self._taken.append(self._free - self._given)
            self._given = None
