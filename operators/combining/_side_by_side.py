"""`side_by_side`: independent streams next to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._joined import joined
from rxllm.operators.combining._streams import StreamSummary, check_callback, named
from rxllm.stream import Stream

__all__ = ["side_by_side"]


def side_by_side(
    streams: Mapping[str, Observable[Chunk]] | Iterable[Observable[Chunk]],
    *,
    on_result: Callable[[Mapping[str, StreamSummary]], object] | None = None,
    on_active: Callable[[int], object] | None = None,
) -> Stream[Chunk]:
    """Run several streams next to each other: the failure of one doesn't affect the others.

    ::

        S-a-b-E|
        S-x#
        [ side_by_side({"left": first, "right": second}) ]
        S-ax(n)b-E|               n: Notice("failed", source="right")

    Each chunk is tagged with the name of its stream, or its number from `"0"`, and passed on as it
    arrives. A stream that
    fails sends a `Notice` of kind `"failed"` with the error in place of its `End`. The pipeable
    form is `side_by_side_with`.

    - Completion: when all streams have ended. Error: `AllModelsFailedError` if every stream has
      failed.
    - Restart: passed on with the name of its stream, whose length is counted from 0 again.
    - Disposal: all streams are disposed, also if the subscriber raises; the unfinished ones are
      `"cancelled"` in the report.
    - Demand: all streams follow the subscriber's valve. Nothing is held.

    If `on_result` raises, a completion becomes that error, and an error gets a note; on disposal
    the exception propagates to the caller of `dispose`.

    Args:
        streams: streams, or a mapping of names to streams, often several models with the same
            prompt.
        on_result: called once for each subscription, at its end, with a summary of each stream:
            status, length (characters), duration (seconds), error, tokens.
        on_active: called with the number of active streams: at the start, after each end, and with
            0 at the end of all, also on disposal; as for `merge_streams`.

    Raises:
        TypeError: something is not a stream, or a function is not callable.
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
    check_callback("on_active", on_active)
    return joined(
        "side_by_side",
        named("side_by_side", streams),
        isolated=True,
        on_result=on_result,
        on_active=on_active,
    )
