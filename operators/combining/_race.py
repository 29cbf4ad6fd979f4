"""`race`: the stream that speaks first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._race_run import RaceResult, run_race
from rxllm.operators.combining._streams import check_callback, named
from rxllm.stream import Stream

__all__ = ["race"]


def race(
    *streams: Observable[Chunk] | Mapping[str, Observable[Chunk]],
    on_result: Callable[[RaceResult], object] | None = None,
) -> Stream[Chunk]:
    """Run several streams until one of them speaks, stop the others, and go on with that one.

    ::

        S---a-b-E|
        S-x-y-E|
        [ race({"left": first, "right": second}) ]
        --(S,x)-y-E|              left: disposed at 2

    The first content (text, reasoning, a tool call, JSON) decides; a `Start` is none, nor is a
    text without a character. What the winner sent before it comes first, what the losers sent is
    dropped. Each chunk is tagged with the name of its stream in a mapping, or its number from
    `"0"`. A stream that fails, or completes without content, has lost; a failure is told by a
    `Notice` of the kind `"failed"`. The pipeable form is `race_with`.

    - Completion, error: those of the winner. If nobody speaks: completion, if one has completed
      (what it sent is passed on), else `AllModelsFailedError`.
    - Restart: passed on with the name of its stream; it decides nothing, and changes nothing.
    - Disposal: all are disposed; so too if the subscriber raises.
    - Demand: all look at the subscriber's valve, and all wake when it opens. Held is what a stream
      sends before its content: a few chunks, until the race is decided.

    Losers are disposed before the winner's content is passed on: what they cost is in the report.

    Args:
        streams: one or more, or one mapping of names to streams.
        on_result: called once for each subscription, when the race is decided or nobody is left, or
            at disposal before that. What it raises is the error of the stream.

    Raises:
        TypeError: something is not a stream, or `on_result` can't be called.
        ValueError: there is no stream.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> slow, fast = marbles.cold("S---a-b|"), marbles.cold("S-x-y|")
    >>> def on_result(result):
    ...     print(result.winner, result.seconds, result.wasted)
    >>> for time, event in marbles.run(race({"slow": slow, "fast": fast}, on_result=on_result)):
    ...     if hasattr(event, "text"):
    ...         print(time, event.source, event.text)
    fast 2.0 2.0
    2.0 fast x
    4.0 fast y
    """
    given = streams[0] if len(streams) == 1 and isinstance(streams[0], Mapping) else streams
    check_callback("on_result", on_result)
    return run_race("race", named("race", given), after=None, on_result=on_result)
