"""`hedge_with`: `hedge` in a pipe."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._hedge import hedge
from rxllm.operators.combining._pipeable import pipeable
from rxllm.operators.combining._race_run import RaceResult
from rxllm.operators.combining._streams import Streams
from rxllm.stream import Stream

__all__ = ["hedge_with"]


def hedge_with(
    second: Observable[Chunk],
    after: float,
    *,
    on_result: Callable[[RaceResult], object] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Start a second stream if this one is slow to send content, and keep the faster of the two.

    ::

        S-------a-b-E|
        ----S-x-y-E|              second, started after 4 s
        [ hedge_with(second, after=4) ]
        ------(S,x)-y-E|          the piped stream is disposed at 6

    `a.pipe(hedge_with(b, after=4))` is `hedge(a, b, after=4)`. The streams are named `"first"` and
    `"second"`. If the piped stream sends content in time, the second is never started; if it fails
    before that, the second starts at once.

    - Completion, error, restart: as for `race`.
    - Disposal: the streams that have started are disposed and the timer is cancelled, also if the
      subscriber raises.
    - Demand: as for `race`. Time while the subscriber's valve is closed doesn't count.

    Args:
        second: the stream to start if the piped one is slow.
        after: seconds until the second stream starts, above 0.
        on_result: called with the `RaceResult`, as for `hedge`.

    Raises:
        TypeError: `second` is not a stream, `after` is not a number, or `on_result` is not
            callable.
        ValueError: `after` is not above 0, or is infinite.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> slow, fast = marbles.cold("S-------a-b|"), marbles.cold("S-x-y|")
    >>> for time, event in marbles.run(slow.pipe(hedge_with(fast, after=4))):
    ...     if hasattr(event, "text"):
    ...         print(time, event.source, event.text)
    6.0 second x
    8.0 second y
    """

    def combine(streams: Streams) -> Stream[Chunk]:
        return hedge(streams["first"], streams["second"], after, on_result=on_result)

    return pipeable("hedge_with", ({"second": second},), "first", combine)
