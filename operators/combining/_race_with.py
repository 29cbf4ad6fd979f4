"""`race_with`: `race` in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._pipeable import pipeable
from rxllm.operators.combining._race import race
from rxllm.operators.combining._race_run import RaceResult
from rxllm.stream import Stream

__all__ = ["race_with"]


def race_with(
    *streams: Observable[Chunk] | Mapping[str, Observable[Chunk]],
    name: str = "0",
    on_result: Callable[[RaceResult], object] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Race this stream against others: the first to send content wins, the others are stopped.

    ::

        S---a-b-E|
        S-x-y-E|                  other
        [ race_with(other) ]
        --(S,x)-y-E|              the piped stream is disposed at 2

    `a.pipe(race_with(b))` is `race(a, b)`: the piped stream is `"0"`, the others are numbered from
    `"1"`. `a.pipe(race_with({"b": b}, name="a"))` is `race({"a": a, "b": b})`. The rules are those
    of `race`.

    - Completion, error: the winner's. Without a winner: completion if a stream has completed, else
      `AllModelsFailedError`.
    - Restart: passed on with the name of its stream; it doesn't decide the race.
    - Disposal: all streams are disposed, also if the subscriber raises.
    - Demand: all streams follow the subscriber's valve. The few chunks that a stream sends before
      its content are held until the race is decided.

    Args:
        streams: the other streams, or one mapping of names to streams.
        name: the name of the piped stream.
        on_result: called with the `RaceResult`, as for `race`.

    Raises:
        TypeError: something is not a stream, a name is not a string, or `on_result` is not
            callable.
        ValueError: there is no other stream, or two streams have the same name.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> slow, fast = marbles.cold("S---a-b|"), marbles.cold("S-x-y|")
    >>> for time, event in marbles.run(slow.pipe(race_with(fast))):
    ...     if hasattr(event, "text"):
    ...         print(time, event.source, event.text)
    2.0 1 x
    4.0 1 y
    """
    return pipeable("race_with", streams, name, partial(race, on_result=on_result))
