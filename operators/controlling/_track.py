"""`track`: list a stream in a `StreamRegistry`."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxllm.chunks import Chunk, End, Progress
from rxllm.operators._deadline_timer import RESOLUTION, DeadlineTimer
from rxllm.operators.controlling._pausable import pausable
from rxllm.operators.controlling._stream_registry import StreamRegistry
from rxllm.operators.controlling._tracked_stream import TrackedStream
from rxllm.stream import Stream
from rxllm.valve import clock_of, scheduler_or_default

__all__ = ["track"]


def track(
    registry: StreamRegistry, stream_id: str | None = None
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """List the stream in `registry`, from its subscription to its end.

    ::

        S-a-b-c-d-E|
        [ track(registry, "story") ]
        S-a-b-x(E,|)              x: registry.cancel("story"); E: End("cancelled")

    The registry shows its status, start, duration and last activity, with `progress` or
    `track_stages` before `track` also its progress and estimated end, and can pause, resume and
    cancel it by id, even before its first token. The stream has ended as soon as it completes or
    fails or its subscriber disposes. A stream without a chunk for `registry.max_idle` seconds is
    cancelled, so that none stays active forever.

    - Completion, error: passed on; the status is `"completed"` or `"failed"`.
    - Restart: passed on.
    - Disposal: the status is `"cancelled"`, upstream is disposed; the same if a subscriber raises.
    - Demand: passes through, as with `pausable`; a pause longer than `registry.max_pause` seconds
      cancels the stream. One timer watches the idle time; chunks don't touch it.

    Args:
        registry: the registry that lists the stream.
        stream_id: its id there, or `None` to give each subscription a new one (`"stream-1"`). An
            id may be reused once its stream has ended.

    Raises:
        TypeError: `registry` is not a `StreamRegistry`, or `stream_id` is not a string.
        StreamStateError: into `on_error`: a stream with this id is active, or the registry is
            shutting down; the source is not subscribed to.

    >>> from rxllm.testing import Marbles
    >>> marbles, registry = Marbles(), StreamRegistry()
    >>> marbles.at(3, lambda: registry.cancel("story"))
    >>> events = marbles.run(marbles.cold("a-b-c-E|").pipe(track(registry, "story")))
    >>> events[-1], registry["story"].status, registry["story"].duration
    ((3.0, |), 'cancelled', 3.0)
    """
    if not isinstance(registry, StreamRegistry):
        raise TypeError(f"registry must be a StreamRegistry, got {type(registry).__name__}")
    if not isinstance(stream_id, str | None):
        raise TypeError(f"stream_id must be a string or None, got {stream_id!r}")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            subscription = _Subscription(
                observer, scheduler_or_default(scheduler), registry, stream_id
            )
            return subscription.start(source)

        return Stream(subscribe, "track", of_chunks=True)

    return operator


class _Subscription:
    """One subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
        registry: StreamRegistry,
        stream_id: str | None,
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler
        self._clock = clock_of(scheduler)
        self._registry = registry
        self._stream = TrackedStream(
            registry.free_id() if stream_id is None else stream_id,
            self._clock,
            registry.max_pause,
        )
        self._limit = DeadlineTimer(scheduler, self._check_idle, is_patient=True)
        self._subscription = CompositeDisposable()

    def start(self, source: Observable[Chunk]) -> abc.DisposableBase:
        # The timer first: a scheduler may refuse it, and then nothing would end the stream.
        if self._registry.max_idle is not None:
            self._start_idle_timer(self._registry.max_idle)
        try:
            self._registry.enter(self._stream)
        except BaseException:
            self._limit.dispose()
            raise
        # The stream first: on disposal, its status is set before the registry is notified.
        self._subscription.add(
            source.pipe(pausable(self._stream.control)).subscribe(
                self._make_on_next(),
                self._on_error,
                self._on_completed,
                scheduler=self._scheduler,
            )
        )
        self._subscription.add(self._limit)
        self._subscription.add(Disposable(self._leave))
        return self._subscription

    def _make_on_next(self) -> Callable[[Chunk], None]:
        """Return `on_next` as a closure, so that a token costs no attribute lookup on self."""
        stream, clock, observer = self._stream, self._clock, self._observer

        def on_next(chunk: Chunk) -> None:
            stream.touched = clock()
            try:
                if type(chunk) is Progress:
                    stream.progress = chunk
                elif type(chunk) is End and not stream.is_live:
                    self._leave()  # it was stopped: this is the End("cancelled")
                observer.on_next(chunk)
            except BaseException:
                self._subscription.dispose()
                raise

        return on_next

    def _on_error(self, error: Exception) -> None:
        self._stream.error = error
        self._leave()
        self._observer.on_error(error)

    def _on_completed(self) -> None:
        self._leave()
        self._observer.on_completed()

    def _leave(self) -> None:
        if self._stream.ended is None:
            self._stream.ended = self._clock()
            self._limit.dispose()
            self._registry.leave(self._stream)

    def _start_idle_timer(self, seconds: float) -> None:
        self._limit.set(self._clock() + seconds)

    def _check_idle(self) -> None:
        limit = self._registry.max_idle
        assert limit is not None  # noqa: S101 - it was set when the timer was
        if self._stream.status == "paused":
            self._start_idle_timer(limit)
        elif self._stream.idle < limit - RESOLUTION:
            self._start_idle_timer(limit - self._stream.idle)
        else:
            self._stream.cancel()
