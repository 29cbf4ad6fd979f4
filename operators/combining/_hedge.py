"""`hedge`: a second stream, if the first one is slow to speak."""

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
    """Run a second stream too if the first has not spoken in time, and go on with the quicker one.

    ::

        S-------a-b-E|
        ----S-x-y-E|              begun after 4 s
        [ hedge(first, second, after=4) ]
        ------(S,x)-y-E|          first: disposed at 6

    As long as the first stream speaks in time, the second is never begun, and costs nothing. If the
    first fails before that, the second begins at once. From then on it is a `race`, whose rules
    hold; the streams are named `"first"` and `"second"`. The pipeable form is `hedge_with`.

    - Completion, error, restart: as for `race`.
    - Disposal: those that have begun are disposed, the timer is cancelled; so too if the
      subscriber raises.
    - Demand: as for `race`. Time in which the subscriber's valve is closed does not count.

    Args:
        first: the stream that is asked.
        second: the stream that is asked if the first is slow.
        after: seconds that the first has to speak, above 0: a little more than it usually takes.
        on_result: as for `race`; a stream that never began is not in it.

    Raises:
        TypeError: something is not a stream, `after` is not a number, or `on_result` can't be
            called.
        ValueError: `after` is not above 0, or infinite.

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
    seconds = check_number(
        "after", after, "the seconds that the first stream has to speak", above=0
    )
    check_callback("on_result", on_result)
    return run_race("hedge", streams, after=seconds, on_result=on_result)
