"""`merge_streams`: several streams in one, as their chunks come."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._joined import joined
from rxllm.operators.combining._streams import check_callback, named
from rxllm.stream import Stream

__all__ = ["merge_streams"]


def merge_streams(
    *streams: Observable[Chunk] | Mapping[str, Observable[Chunk]],
    on_active: Callable[[int], object] | None = None,
) -> Stream[Chunk]:
    """Merge several streams as their chunks come, each tagged with the stream it came from.

    ::

        a-b-----E|
        -x-y-z-E|
        [ merge_streams(first, second) ]
        axbyz--EE|                on_active: 2 at first, 1 after the E of the second, then 0

    A chunk never waits for one of another stream. `source` is the name of the stream in a mapping,
    or its number from `"0"`; where a stream is a merge itself, its source `"b"` becomes `"name/b"`.
    The pipeable form is `merge_with`.

    - Completion: when all have completed. Error: the first one ends all, and has a note with the
      name of its stream; the others are disposed. Where the others should go on, use
      `side_by_side`.
    - Restart: passed on with the name of its stream.
    - Disposal: all are disposed; so too if the subscriber raises.
    - Demand: all look at the subscriber's valve, and all wake when it opens; nothing is held.

    Args:
        streams: one or more, or one mapping of names to streams.
        on_active: called with the number of streams that live: at the beginning, after each end,
            and with 0 when all are over: complete, failed or disposed. What it raises is the error
            of the stream; beside another error it is a note; out of a disposal it reaches whoever
            disposes.

    Raises:
        TypeError: something is not a stream, or `on_active` can't be called.
        ValueError: there is no stream.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> left, right = marbles.cold("a--b|"), marbles.cold("-x|")
    >>> for time, event in marbles.run(merge_streams({"left": left, "right": right})):
    ...     print(time, getattr(event, "source", ""), getattr(event, "text", event))
    0.0 left a
    1.0 right x
    3.0 left b
    4.0  |
    """
    given = streams[0] if len(streams) == 1 and isinstance(streams[0], Mapping) else streams
    check_callback("on_active", on_active)
    return joined(
        "merge_streams", named("merge_streams", given), isolated=False, on_active=on_active
    )
