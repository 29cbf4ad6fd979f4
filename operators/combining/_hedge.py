"""`hedge`: a second stream if the first one is slow."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from rxllm.arguments import check_number
from rxllm.chunks import Chunk
from rxllm.operators.combining._race_run import RaceResult, run_race
from rxllm.operators.combining._streams import check_callback, named
from rxllm.stream import Stream

__all__ = ["hedge"]


def hedge(
    first: Observable[Chunk],
    second: Observable[Chunk],
    after: float,
    *,
    on_result: Callable[[RaceResult], object] | None = None,
) -> Stream[Chunk]:
    """Start a second stream if the first is slow to send content, and keep the faster of the two.

    ::

        S-------a-b-E|
        ----S-x-y-E|              started after 4 s
        [ hedge(first, second, after=4) ]
        ------(S,x)-y-E|          first: disposed at 6

    If the first stream sends content in time, the second is never started and costs nothing. If the
    first fails before that, the second starts at once. From then on the rules of `race` apply; the
    streams are named `"first"` and `"second"`. The pipeable form is `hedge_with`.

    - Completion, error, restart: as for `race`.
    - Disposal: the streams that have started are disposed and the timer is cancelled, also if the
      subscriber raises.
    - Demand: as for `race`. Time while the subscriber's valve is closed doesn't count.

    Args:
        first: the stream to start first.
        second: the stream to start if the first is slow.
        after: seconds until the second stream starts, above 0: a little more than the first usually
            takes.
        on_result: as for `race`; it doesn't include a stream that never started.

    Raises:
        TypeError: something is not a stream, `after` is not a number, or `on_result` is not
            callable.
        ValueError: `after` is not above 0, or is infinite.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> slow, fast = marbles.cold("S-------a-b|"), marbles.cold("S-x-y|")
    >>> for time, event in marbles.run(hedge(slow, fast, after=4)):
    ...     if hasattr(event, "text"):
    ...         print(time, event.source, event.text)
    6.0 second x
    8.0 second y
    """
    streams = named("hedge", {"first": first, "second": second})
    seconds = check_number("after", after, "the seconds until the second stream starts", above=0)
    check_callback("on_result", on_result)
    return run_race("hedge", streams, after=seconds, on_result=on_result)
