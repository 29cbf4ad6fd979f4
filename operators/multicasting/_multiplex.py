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
    """Share one stream among many subscribers; late ones first get the answer so far.

    ::

        S-a-b-c-d-(E,|)
        [ multiplex() ]
        S-a-b-c-d-(E,|)    the first subscriber
             xc-d-(E,|)    a late one; x: S and the batch (ab)

    The first subscriber starts the stream. It stops `grace` seconds after the last subscriber has
    left; a subscriber that joins in the meantime continues it, and one that joins after that starts
    it again. A stream whose event loop was closed before its end is also started again. The
    operator returns a `Multiplexed`: keep it, since all subscribers must subscribe to that object.

    The answer so far is replayed in as few chunks as represent it exactly, and the live chunks
    follow with no gap and no repetition. Consecutive text and reasoning of a source are one `Batch`
    of the original tokens. Of `Progress`, of a tool call and of a JSON value only the newest chunk
    is replayed, in the position of the first. All other chunks are unchanged.

    Each subscriber has its own demand, and a queue for chunks that wait. `on_lag` is the policy for
    subscribers that lag behind; `with_policy` sets it for single subscribers:

    - `"block"`: the stream waits. For pipelines: a stalled subscriber holds all others.
    - `"drop_oldest"`: the oldest chunk of a full queue is dropped.
    - `"latest"`: only the newest chunk of each source and kind waits.
    - `"coalesce"`: waiting chunks are joined as above: few chunks, and no text is lost.
    - `"evict"`: a subscriber with a full queue is evicted with a `LaggedBehindError`.

    `Start`, `Usage`, `Notice`, `End`, and complete tool calls and JSON values are never dropped.
    `Notice("lagged", skipped=n)` marks the place where `n` chunks were dropped. Replacing a
    `Progress`, partial tool call or partial JSON value with a newer one isn't a loss and isn't
    reported.

    A subscriber that raises is removed; the others aren't affected. Its exception goes to the
    exception handler of its event loop; a scheduler without a loop raises it.

    - Completion, error: each subscriber gets its waiting chunks first. Later subscribers get the
      answer and then the same end.
    - Restart: text and other content before it is dropped, for late joiners and in all queues.
      `Usage`, `Progress`, `Notice` and `Start` stay in the queues and are sent before it; late
      joiners get nothing from before it.
    - Disposal: a subscriber that leaves drops its queue, and no longer holds the stream.
    - Demand: upstream has its own valve, closed while the queue of a `"block"` subscriber is full,
      until half of it has been taken. A queue holds at most `capacity` chunks (with `"block"`, plus
      those that a source without demand pushes anyway); `"drop_oldest"` counts droppable chunks
      only; the replay for a late joiner isn't counted. With `"latest"` and `"coalesce"` the number
      of chunks doesn't grow with the text. `"coalesce"` and `replay="all"` hold the text itself,
      which is as long as the answer.

    Args:
        replay: `"all"`, or `"none"`: late joiners only get the chunks that follow.
        on_lag: see above.
        capacity: chunks that may wait for one subscriber, 1 or more; ignored by `"latest"` and
            `"coalesce"`.
        grace: seconds from the departure of the last subscriber to the stop, 0 or more.

    Raises:
        TypeError: `capacity` is not an integer, or `grace` is not a number.
        ValueError: an argument is invalid or out of range.

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
        raise ValueError(f"replay must be one of {get_args(Replay)}, got {replay!r}")
    grace = check_number(
        "grace", grace, "seconds before a stream without subscribers stops", minimum=0
    )
    _check_policy(on_lag, capacity)

    def operator(source: Observable[Chunk]) -> Multiplexed:
        return Multiplexed(Hub(source, replay, grace), on_lag, capacity)

    return operator


class Multiplexed(Stream[Chunk]):
    """A stream with many subscribers. Created by `multiplex`."""

    def __init__(
        self, hub: Hub, on_lag: OnLag, capacity: int, own: WeakSet[Reader] | None = None
    ) -> None:
        super().__init__(self._join, "multiplex", of_chunks=True)
        self._hub = hub
        self._policy = on_lag, capacity
        self._own = own  # readers that subscribed here, or None for all

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
        """How many chunks each subscriber is behind, in the order they joined.

        The result of `multiplex` covers all subscribers; that of `with_policy` only those that
        subscribed to it. Joined text counts as the original number of chunks.
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
        raise ValueError(f"on_lag must be one of {get_args(OnLag)}, got {on_lag!r}")
    check_int("capacity", capacity, "the number of chunks that may wait")
