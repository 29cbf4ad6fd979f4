"""`multiplex`: one stream, many subscribers."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args
from weakref import WeakSet

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxllm.arguments import check_int, check_number
from rxllm.chunks import Chunk
from rxllm.operators.multicasting._backlogs import OnLag
from rxllm.operators.multicasting._hub import Hub, Replay
from rxllm.operators.multicasting._reader import Reader
from rxllm.stream import Stream

__all__ = ["Multiplexed", "multiplex"]


def multiplex(
    replay: Replay = "all", on_lag: OnLag = "block", capacity: int = 1024, grace: float = 0.0
) -> Callable[[Observable[Chunk]], Multiplexed]:
    """Share one stream among many subscribers; who comes late gets what was said so far.

    ::

        S-a-b-c-d-(E,|)
        [ multiplex() ]
        S-a-b-c-d-(E,|)    the first subscriber
             xc-d-(E,|)    a late one; x: S and the batch (ab)

    The first subscriber starts the stream, the last one that leaves stops it, `grace` seconds
    later; one that comes in the meantime goes on with it, and one that comes after that starts it
    anew; so does one that finds a stream whose event loop was closed in the middle. The operator
    gives a `Multiplexed`: keep it, it is what they all subscribe to.

    What was said so far comes in as few chunks as say it exactly, and what follows joins on to it
    with no gap and no repeat. Text and reasoning of a source are one `Batch`, with each token in
    it, as long as nothing else of that source stands in between. Of `Progress`, of a tool call and
    of a JSON value there is only the newest, in the place of the first. The rest is as it came.

    Each subscriber has its own demand, and a queue for what it can't take. `on_lag` says what
    becomes of a subscriber that lags behind; `with_policy` says it for one of them:

    - `"block"`: the stream waits for it. For pipelines: one that stands still holds all others.
    - `"drop_oldest"`: the oldest chunk of a full queue is dropped.
    - `"latest"`: of each source and kind only the newest chunk waits.
    - `"coalesce"`: what waits is joined, as above: few chunks, and no text is lost.
    - `"evict"`: with a full queue it is put out, with a `LaggedBehindError`.

    Never dropped are `Start`, `Usage`, `Notice`, `End`, and a complete tool call or JSON value.
    `Notice("lagged", skipped=n)` stands where `n` chunks were dropped. A newer `Progress`, partial
    tool call or partial JSON value that takes the place of an older one is no loss, and not told.

    A subscriber that raises is out, the others are not touched. What it raised goes to the
    exception handler of its event loop; a scheduler without a loop raises it.

    - Completion, error: each subscriber first gets what waits for it. Who comes later gets what
      was said, and then the same end.
    - Restart: what was said before it is forgotten, for late joiners and in all queues. `Usage`,
      `Progress`, `Notice` and `Start` stay in the queues and leave before it; late joiners get
      nothing from before it.
    - Disposal: a subscriber that leaves drops its queue, and holds the stream no more.
    - Demand: upstream has a valve of its own, closed while the queue of a `"block"` subscriber is
      full, until half of it has been taken. In a queue wait at most `capacity` chunks (`"block"`:
      and what a source without demand pushes all the same); `"drop_oldest"` counts what it may
      drop; what was said before a subscriber came is not counted. With `"latest"` and
      `"coalesce"` the number of chunks does not grow with the text. `"coalesce"` and
      `replay="all"` hold the text itself, as long as the answer is.

    Args:
        replay: `"all"`, or `"none"`: who comes late gets only what is said from then on.
        on_lag: see above.
        capacity: chunks that may wait for one subscriber, 1 or more; `"latest"` and `"coalesce"`
            need none.
        grace: seconds, 0 or more.

    Raises:
        TypeError: `capacity` is not an integer, or `grace` is not a number.
        ValueError: an argument is not one of these.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> story = marbles.cold("a-b-c-d-|").pipe(multiplex())
    >>> first = marbles.subscribe(story)
    >>> marbles.advance_to(3)
    >>> late = marbles.subscribe(story)
    >>> marbles.advance_to(9)
    >>> for time, event in late.events:
    ...     print(time, getattr(event, "text", event))
    3.0 ab
    4.0 c
    6.0 d
    8.0 |
    """
    if replay not in get_args(Replay):
        raise ValueError(f"replay is one of {get_args(Replay)}, not {replay!r}")
    grace = check_number(
        "grace", grace, "the seconds between the last leaving and the end", minimum=0
    )
    _check_policy(on_lag, capacity)

    def operator(source: Observable[Chunk]) -> Multiplexed:
        return Multiplexed(Hub(source, replay, grace), on_lag, capacity)

    return operator


class Multiplexed(Stream[Chunk]):
    """A stream that many subscribe to. Made by `multiplex`."""

    def __init__(
        self, hub: Hub, on_lag: OnLag, capacity: int, own: WeakSet[Reader] | None = None
    ) -> None:
        super().__init__(self._join, "multiplex", of_chunks=True)
        self._hub = hub
        self._policy = on_lag, capacity
        self._own = own  # those who subscribed here; None: all

    def with_policy(self, on_lag: OnLag, capacity: int = 1024) -> Multiplexed:
        """The same stream, for subscribers with another policy.

        Raises:
            TypeError, ValueError: as `multiplex`.

        >>> from rxllm.testing import Marbles
        >>> marbles = Marbles()
        >>> story = marbles.hot("abc").pipe(multiplex())
        >>> slow = story.with_policy("coalesce")
        >>> marbles.valve.close()
        >>> _ = marbles.subscribe(slow)
        >>> marbles.advance_to(9)
        >>> slow.lag, story.lags
        (1, [1])
        """
        _check_policy(on_lag, capacity)
        return Multiplexed(self._hub, on_lag, capacity, WeakSet())

    @property
    def lags(self) -> list[int]:
        """How many chunks each subscriber is behind, in the order of their coming.

        What `multiplex` made tells of all; what `with_policy` made, of those that subscribed to
        it. Joined text counts as many chunks as it came in.
        """
        readers = self._hub.readers
        return [each.lag for each in readers if self._own is None or each in self._own]

    @property
    def lag(self) -> int:
        """How many chunks the slowest subscriber is behind; 0 if there is none."""
        return max(self.lags, default=0)

    def _join(
        self, observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        reader = self._hub.join(observer, scheduler, *self._policy)
        if self._own is not None:
            self._own.add(reader)
        return Disposable(reader.leave)


def _check_policy(on_lag: OnLag, capacity: int) -> None:
    if on_lag not in get_args(OnLag):
        raise ValueError(f"on_lag is one of {get_args(OnLag)}, not {on_lag!r}")
    check_int("capacity", capacity, "the number of chunks that may wait")
