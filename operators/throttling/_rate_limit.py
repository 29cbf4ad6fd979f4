"""`rate_limit`: so many tokens in a second, and no more."""

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
    """Hold chunks so that no more than so many tokens leave in a second.

    ::

        S-abcd------e(E,|)
        [ rate_limit(per_second=0.5, burst=2) ]
        S-abc-d-----e(E,|)

    A token bucket: it holds `burst` tokens, is full at first, and gets `per_second` new ones. A
    chunk leaves when the bucket holds its cost, and takes that out. One that costs more than
    `burst` waits until its whole cost would have come in, and leaves the bucket empty: so from the
    beginning to any time at most `burst + per_second * time` leaves, and nothing waits for ever.

    A `Token` and a `Reasoning` cost 1, a `Batch` as many as it has of them, and none of these
    anything without text; other chunks cost nothing, and leave in their order. Chunks are passed on
    as they came: the joined text is the same. After a merge all sources share one bucket.

    - Completion: waits until all has left. Error: what is held leaves first, at once; but what
      `cost` raises comes in the place of its chunk, and what waits behind that is dropped.
    - Restart: what is held of that answer is dropped; usage, progress and notices that waited with
      it leave before the notice of the restart. What it has used of the bucket stays used.
    - Disposal: what is held is dropped, the timer cancelled.
    - Demand: upstream is held while 1024 chunks wait, and goes on when half of them have left.
      Nothing leaves while the valve is closed; the bucket fills all the same.

    Args:
        per_second: tokens that come into the bucket, above 0.
        burst: tokens that the bucket holds, above 0.
        cost: what a chunk costs in place of that, 0 or more; called when it comes to the front.

    Raises:
        ValueError: `per_second` or `burst` is not above 0; into `on_error`: `cost` returned what
            is no cost.
        TypeError: the others are no numbers, or `cost` can't be called.

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
    per_second = check_number(
        "per_second", per_second, "how many tokens may leave in a second", above=0
    )
    burst = check_number("burst", burst, "how many tokens may leave at once", above=0)
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
    """One subscription."""

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
        self._empty = float("-inf")  # when the bucket held nothing, if it had filled ever since
        self._wait = 0.0  # seconds in which the cost of the first chunk comes in

    def due(self, since: float) -> float:
        chunk = self.queue[0][1]
        self._wait = 0.0
        if not isinstance(chunk, Token | Reasoning | Batch):
            return since
        cost = self._cost(chunk)
        if not (isinstance(cost, Real) and 0 <= cost < float("inf")):
            raise ValueError(f"a chunk costs a number of tokens, 0 or more, not {cost!r}")
        self._wait = cost / self._per_second
        return max(self._empty, self.clock() - self._to_fill) + self._wait

    def left(self, chunk: Chunk, due: float) -> None:
        # If it had to wait for the valve, the bucket has filled since, but not over its edge.
        filled_at_most = self.clock() - max(0.0, self._to_fill - self._wait)
        self._empty = max(self._empty + self._wait, filled_at_most)
