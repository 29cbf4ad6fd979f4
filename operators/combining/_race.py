"""`race`: the first stream to send content."""

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
    """Run several streams: the first to send content wins, the others are stopped.

    ::

        S---a-b-E|
        S-x-y-E|
        [ race({"left": first, "right": second}) ]
        --(S,x)-y-E|              left: disposed at 2

    The first content (text, reasoning, a tool call, JSON) decides; a `Start` or empty text doesn't
    count. The winner's earlier chunks are sent first, the losers' chunks are dropped. Each chunk is
    tagged with the name of its stream in a mapping, or its number from `"0"`. A stream that fails,
    or completes without content, has lost; a failure is sent as a `Notice` of kind `"failed"`. The
    pipeable form is `race_with`.

    - Completion, error: the winner's. Without a winner: completion if a stream has completed (its
      chunks are passed on), else `AllModelsFailedError`.
    - Restart: passed on with the name of its stream; it doesn't decide the race.
    - Disposal: all streams are disposed, also if the subscriber raises.
    - Demand: all streams follow the subscriber's valve. The few chunks that a stream sends before
      its content are held until the race is decided.

    Losers are disposed before the winner's content is passed on; `on_result` reports their cost.

    Args:
        streams: one or more streams, or one mapping of names to streams.
        on_result: called once for each subscription with the `RaceResult`, when the race is decided
            or no stream is left, or on disposal before that. Its exception is the error of the
            stream.

    Raises:
        TypeError: something is not a stream, or `on_result` is not callable.
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
