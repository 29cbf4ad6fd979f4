"""`side_by_side`: models next to each other, each on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._joined import joined
from rxllm.operators.combining._streams import StreamSummary, check_callback, named
from rxllm.stream import Stream

__all__ = ["side_by_side"]


def side_by_side(
    streams: Mapping[str, Observable[Chunk]],
    *,
    on_result: Callable[[Mapping[str, StreamSummary]], object] | None = None,
) -> Stream[Chunk]:
    """Run several streams next to each other: the failure of one does not touch the others.

    ::

        S-a-b-E|
        S-x#
        [ side_by_side({"left": first, "right": second}) ]
        S-ax(n)b-E|               n: Notice("failed", source="right")

    Each chunk is tagged with the name of its stream, and comes when it comes. A stream that fails
    sends a `Notice` of the kind `"failed"` with the error in place of its `End`. The pipeable form
    is `side_by_side_with`.

    - Completion: when all have ended. Error: `AllModelsFailedError`, if every one has failed.
    - Restart: passed on with the name of its stream, whose length is counted from 0 again.
    - Disposal: all are disposed; those that lived are `"cancelled"` in the report. So too if the
      subscriber raises.
    - Demand: all look at the subscriber's valve, and all wake when it opens; nothing is held.

    If `on_result` raises, a completion becomes that error; an error stays what it was, and gets a
    note; out of a disposal it reaches whoever disposes.

    Args:
        streams: streams by name: often models that are asked the same.
        on_result: called once for each subscription, at its end, with a summary of each stream:
            status, length (characters), duration (seconds), error.

    Raises:
        TypeError: something is not a stream, or `on_result` can't be called.
        ValueError: there is no stream.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> def on_result(summaries):
    ...     for name, summary in summaries.items():
    ...         print(name, summary.status, summary.length, summary.duration)
    >>> left, right = marbles.cold("ab-cd-E|"), marbles.cold("x--#")
    >>> _ = marbles.run(side_by_side({"left": left, "right": right}, on_result=on_result))
    left completed 4 7.0
    right failed 1 3.0
    """
    check_callback("on_result", on_result)
    if not isinstance(streams, Mapping):
        raise TypeError(f"side_by_side takes streams by name, not {type(streams).__name__}")
    return joined(
        "side_by_side", named("side_by_side", streams), isolated=True, on_result=on_result
    )
