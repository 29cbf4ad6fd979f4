"""`merge_streams`: several streams as one, as their chunks arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._joined import joined
from rxllm.operators.combining._streams import StreamSummary, check_callback, named
from rxllm.stream import Stream

__all__ = ["merge_streams"]


def merge_streams(
    *streams: Observable[Chunk] | Mapping[str, Observable[Chunk]],
    isolate: bool = False,
    on_active: Callable[[int], object] | None = None,
    on_result: Callable[[Mapping[str, StreamSummary]], object] | None = None,
) -> Stream[Chunk]:
    """Merge several streams as their chunks arrive, each tagged with its stream.

    ::

        a-b-----E|
        -x-y-z-E|
        [ merge_streams(first, second) ]
        axbyz--EE|                on_active: 2 at first, 1 after the E of the second, then 0

    A chunk never waits for another stream. `source` is the name of the stream in a mapping, or its
    number from `"0"`; if a stream is itself a merge, its source `"b"` becomes `"name/b"`. The
    pipeable form is `merge_with`.

    - Completion: when all streams have completed. Error: the first one ends all of them, with a
      note that names its stream; the others are disposed. With `isolate`, it is a `Notice` of kind
      `"failed"` and the others continue, as in `side_by_side`; the error of the stream is then
      `AllModelsFailedError`, if all have failed.
    - Restart: passed on with the name of its stream.
    - Disposal: all streams are disposed, also if the subscriber raises.
    - Demand: all streams follow the subscriber's valve. Nothing is held.

    Args:
        streams: one or more streams, or one mapping of names to streams.
        isolate: whether the others continue when one fails.
        on_active: called with the number of active streams: at the start, after each end, and with
            0 when all are complete, failed or disposed. Its exception is the error of the stream; a
            note if there is another error; on disposal it propagates to the caller of `dispose`.
        on_result: called once for each subscription, at its end, with a summary of each stream, as
            for `side_by_side`.

    Raises:
        TypeError: something is not a stream, or a function is not callable.
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
    check_callback("on_result", on_result)
    return joined(
        "merge_streams",
        named("merge_streams", given),
        isolated=isolate,
        on_active=on_active,
        on_result=on_result,
    )
