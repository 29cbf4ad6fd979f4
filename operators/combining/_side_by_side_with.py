"""`side_by_side_with`: `side_by_side` in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._pipeable import pipeable
from rxllm.operators.combining._side_by_side import side_by_side
from rxllm.operators.combining._streams import StreamSummary
from rxllm.stream import Stream

__all__ = ["side_by_side_with"]


def side_by_side_with(
    *streams: Observable[Chunk] | Mapping[str, Observable[Chunk]],
    name: str = "0",
    on_result: Callable[[Mapping[str, StreamSummary]], object] | None = None,
    on_active: Callable[[int], object] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Run this stream next to others: the failure of one doesn't affect the rest.

    ::

        S-a-b-E|
        S-x#                      other
        [ side_by_side_with({"right": other}, name="left") ]
        S-ax(n)b-E|               n: Notice("failed", source="right")

    `a.pipe(side_by_side_with(b))` is `side_by_side({"0": a, "1": b})`: the piped stream is `"0"`,
    the others are numbered from `"1"`. `a.pipe(side_by_side_with({"b": b}, name="a"))` is
    `side_by_side({"a": a, "b": b})`.

    - Completion: when all streams have ended. Error: `AllModelsFailedError` if every stream has
      failed.
    - Restart: passed on with the name of its stream.
    - Disposal: all streams are disposed, also if the subscriber raises; the unfinished ones are
      `"cancelled"` in the report.
    - Demand: all streams follow the subscriber's valve. Nothing is held.

    Args:
        streams: the other streams, or one mapping of names to streams.
        name: the name of the piped stream.
        on_result, on_active: as for `side_by_side`.

    Raises:
        TypeError: something is not a stream, a name is not a string, or a function is not
            callable.
        ValueError: there is no other stream, or two streams have the same name.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> def on_result(summaries):
    ...     for name, summary in summaries.items():
    ...         print(name, summary.status, summary.length, summary.duration)
    >>> left, right = marbles.cold("ab-cd-E|"), marbles.cold("x--#")
    >>> beside = side_by_side_with({"right": right}, name="left", on_result=on_result)
    >>> _ = marbles.run(left.pipe(beside))
    left completed 4 7.0
    right failed 1 3.0
    """
    beside = partial(side_by_side, on_result=on_result, on_active=on_active)
    return pipeable("side_by_side_with", streams, name, beside)
