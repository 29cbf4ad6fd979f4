"""`rate_limit`: at most so many tokens per second."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

from reactivex import Observable, abc

from rxllm.arguments import check_callable, check_number
from rxllm.chunks import Batch, Chunk, Reasoning, Token
from rxllm.operators._pacer import Pacer, is_paced
from rxllm.stream import Stream

__all__ = ["rate_limit"]


def rate_limit(
    per_second: float = 100.0,
    burst: float = 200.0,
    cost: Callable[[Token | Reasoning | Batch], float] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Limit the stream to a number of tokens per second.

    ::

        S-abcd------e(E,|)
        [ rate_limit(per_second=0.5, burst=2) ]
        S-abc-d-----e(E,|)

    This is a token bucket: it holds `burst` tokens, starts full, and refills at `per_second`. A
    chunk is sent when the bucket holds its cost, which is then taken out. A chunk that costs more
    than `burst` waits until its whole cost would have been refilled, and leaves the bucket empty.
    So at most `burst + per_second * time` has been sent at any time since the start, and nothing
    waits forever.

    A `Token` or `Reasoning` costs 1, and a `Batch` costs 1 for each of them; those with empty text
    are free. Other chunks are free too, and are sent in order. Chunks are passed on unchanged, so
    the joined text is the same. After a merge all sources share one bucket.

    - Completion: waits until every chunk has been sent. Error: held chunks are sent first,
      immediately. If `cost` raises, the error takes the place of its chunk, and the chunks behind
      it are dropped.
    - Restart: held content of that answer is dropped; usage, progress and notices held with it are
      sent before the restart notice. Tokens already spent are not refunded.
    - Disposal: held chunks are dropped and the timer is cancelled.
    - Demand: upstream is paused while 1024 chunks wait, and resumes when half of them have been
      sent. Nothing is sent while the valve is closed, but the bucket keeps filling.

    Args:
        per_second: refill rate in tokens per second, above 0.
        burst: capacity of the bucket in tokens, above 0.
        cost: overrides the cost of a chunk: a number, 0 or more. Called when the chunk reaches the
            front of the queue.

    Raises:
        ValueError: `per_second` or `burst` is not above 0; into `on_error`, if `cost` returned an
            invalid cost.
        TypeError: `per_second` or `burst` is not a number, or `cost` can't be called.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> limited = marbles.cold("(a,b,c,d)|").pipe(rate_limit(per_second=2, burst=2))
    >>> for time, event in marbles.run(limited):
    ...     print(time, getattr(event, "text", event))
    0.0 a
    0.0 b
    0.5 c
    1.0 d
    9.0 |
    """
    per_second = check_number("per_second", per_second, "tokens per second", above=0)
    burst = check_number("burst", burst, "tokens that may be sent at once", above=0)
    price = _cost if cost is None else check_callable("cost", cost, "a function of a chunk")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Bucket(observer, scheduler, per_second, burst, price).start(source)

        return Stream(subscribe, "rate_limit", of_chunks=True)

    return operator


def _cost(chunk: Token | Reasoning | Batch) -> float:
    return sum(map(is_paced, chunk.chunks)) if type(chunk) is Batch else is_paced(chunk)


class _Bucket(Pacer):
    """The state of one subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        per_second: float,
        burst: float,
        cost: Callable[[Token | Reasoning | Batch], float],
    ) -> None:
        super().__init__(observer, scheduler)
        self._per_second = per_second
        self._to_fill = burst / per_second
        self._cost = cost
        self._empty = float("-inf")  # when the bucket was empty, extrapolated
        self._wait = 0.0  # seconds to refill the cost of the first chunk

    def due(self, since: float) -> float:
        chunk = self.queue[0][1]
        self._wait = 0.0
        if not isinstance(chunk, Token | Reasoning | Batch):
            return since
        cost = self._cost(chunk)
        if not (isinstance(cost, Real) and 0 <= cost < float("inf")):
            raise ValueError(f"cost must return a finite number, 0 or more, got {cost!r}")
        self._wait = cost / self._per_second
        return max(self._empty, self.clock() - self._to_fill) + self._wait

    def left(self, chunk: Chunk, due: float) -> None:
        # If the chunk waited for the valve, the bucket has filled since then, up to its capacity.
        filled_at_most = self.clock() - max(0.0, self._to_fill - self._wait)
        self._empty = max(self._empty + self._wait, filled_at_most)
