"""`merge_with`: `merge_streams` in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._merge_streams import merge_streams
from rxllm.operators.combining._pipeable import pipeable
from rxllm.operators.combining._streams import StreamSummary
from rxllm.stream import Stream

__all__ = ["merge_with"]


def merge_with(
    *streams: Observable[Chunk] | Mapping[str, Observable[Chunk]],
    name: str = "0",
    isolate: bool = False,
    on_active: Callable[[int], object] | None = None,
    on_result: Callable[[Mapping[str, StreamSummary]], object] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Merge this stream with others as chunks arrive, each tagged with its stream.

    ::

        a-b-----E|
        -x-y-z-E|                 other
        [ merge_with(other) ]
        axbyz--EE|

    `a.pipe(merge_with(b))` is `merge_streams(a, b)`: the piped stream is `"0"`, the others are
    numbered from `"1"`. `a.pipe(merge_with({"b": b}, name="a"))` is
    `merge_streams({"a": a, "b": b})`.

    - Completion: when all streams have completed. Error: the first one ends all of them, with a
      note that names its stream; the others are disposed.
    - Restart: passed on with the name of its stream.
    - Disposal: all streams are disposed, also if the subscriber raises.
    - Demand: all streams follow the subscriber's valve. Nothing is held.

    Args:
        streams: the other streams, or one mapping of names to streams.
        name: the name of the piped stream.
        isolate, on_active, on_result: as for `merge_streams`.

    Raises:
        TypeError: something is not a stream, a name is not a string, or a function is not
            callable.
        ValueError: there is no other stream, or two streams have the same name.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> left, right = marbles.cold("a--b|"), marbles.cold("-x|")
    >>> for time, event in marbles.run(left.pipe(merge_with({"right": right}, name="left"))):
    ...     print(time, getattr(event, "source", ""), getattr(event, "text", event))
    0.0 left a
    1.0 right x
    3.0 left b
    4.0  |
    """
    merge = partial(merge_streams, isolate=isolate, on_active=on_active, on_result=on_result)
    return pipeable("merge_with", streams, name, merge)
