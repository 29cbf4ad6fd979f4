"""`limit`: start a stream when a `Limiter` permits it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable
from reactivex.disposable import SingleAssignmentDisposable as Single

from rxllm.chunks import Chunk, Start, Usage
from rxllm.errors import PoolFullError, RateLimitError
from rxllm.operators._deadline_timer import RESOLUTION, DeadlineTimer, start_patient_timer
from rxllm.operators.controlling._limiter import RateLimiter
from rxllm.stream import Stream
from rxllm.valve import (
    begin_wait,
    clock_of,
    run_on_loop,
    scheduler_or_default,
    wait_for_cleanup,
)

__all__ = ["limit"]


def limit(limiter: RateLimiter) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Start the stream when `limiter` permits one more request.

    ::

        S-a-b-E|
        [ limit(limiter) ]          p: the limiter permits it
        ---pS-a-b-E|
        ------------#               #: not within `limiter.wait` seconds: PoolFullError

    A provider that answers 429 has refused a request that could have waited. The limiter counts
    requests and tokens at the subscription, and corrects itself by what the provider says in its
    headers and by the usage of each stream. Streams start in the order of their subscriptions,
    each with the context variables of its own. Put the operator before `retry_with_backoff`, so
    that each attempt is counted.

    - Completion, error: passed on.
    - Restart: passed on.
    - Disposal: upstream is disposed, or the place in the queue is given up.
    - Demand: passes through; nothing is held. The wait continues while the valve is closed.

    Args:
        limiter: shared by the streams of one account: a `Limiter`, or a `rxllm.redis.RedisLimiter`.

    Raises:
        TypeError: `limiter` is not a `RateLimiter`.
        PoolFullError: into `on_error`: the stream had to wait too long.

    >>> from rxllm.operators import Limiter
    >>> from rxllm.testing import Marbles
    >>> marbles, limiter = Marbles(), Limiter(requests=1)
    >>> first = marbles.subscribe(marbles.cold("a|").pipe(limit(limiter)))
    >>> for time, event in marbles.run(marbles.cold("b|").pipe(limit(limiter)), until=100):
    ...     print(time, getattr(event, "text", event))
    60.0 b
    61.0 |
    """
    if not isinstance(limiter, RateLimiter):
        raise TypeError(f"limiter must be a Limiter, got {type(limiter).__name__}")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Subscription(source, observer, scheduler_or_default(scheduler), limiter).start()

        return Stream(subscribe, "limit", of_chunks=True)

    return operator


class _Subscription:
    """One subscription."""

    def __init__(
        self,
        source: Observable[Chunk],
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
        limiter: RateLimiter,
    ) -> None:
        self._source = source
        self._observer = observer
        self._scheduler = scheduler
        self._clock = clock_of(scheduler)
        self._limiter = limiter
        self._context = copy_context()
        self._tokens: int | None = None
        self._has_started = False
        self._upstream = Single()
        self._turn = SerialDisposable()
        self._patience = SerialDisposable()
        self._wait = SerialDisposable()
        self._retry = DeadlineTimer(scheduler, self._try_in_context)
        self._subscription = CompositeDisposable(
            self._upstream, self._turn, self._patience, self._retry, Disposable(self._leave)
        )

    def start(self) -> abc.DisposableBase:
        self._limiter.enter(self)
        self._try()
        if not self._has_started:
            self._wait.disposable = begin_wait(self._scheduler)
            self._patience.disposable = start_patient_timer(
                self._scheduler, self._limiter.wait, self._give_up
            )
        return self._subscription

    def wake(self) -> None:
        run_on_loop(self._scheduler, self._try_later)

    def _try_later(self) -> None:
        # In a separate turn: this subscriber's code must not run inside another stream's.
        self._turn.disposable = self._scheduler.schedule(self._try_in_context)

    def _try_in_context(self, *_: object) -> None:
        self._context.copy().run(self._try)  # else in that of the stream that has woken this one

    def _try(self) -> None:
        if self._has_started or self._subscription.is_disposed:
            return
        now = self._clock()
        delay = self._limiter.delay(self, now)
        if delay > 0:
            self._retry.set(now + max(delay, RESOLUTION))
            return
        self._has_started = True
        self._patience.dispose()
        self._wait.dispose()
        self._upstream.disposable = self._source.subscribe(
            self._on_next, self._on_error, self._on_completed, scheduler=self._scheduler
        )

    def _on_next(self, chunk: Chunk) -> None:
        if type(chunk) is Start:
            self._limiter.answered(self, chunk.rate_limits, self._clock())
        elif type(chunk) is Usage:
            self._tokens = chunk.input_tokens + chunk.output_tokens
        try:
            self._observer.on_next(chunk)
        except BaseException:
            self._subscription.dispose()
            raise

    def _give_up(self) -> None:
        self._has_started = True  # it doesn't start any more
        self._leave()
        waited = f"{self._limiter.wait:g} s"
        self._observer.on_error(PoolFullError(f"the limiter permitted no request within {waited}"))

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, RateLimitError):
            wait_for_cleanup(
                self._scheduler, self._limiter.refused(error.retry_after, self._clock())
            )
        self._leave()
        self._observer.on_error(error)

    def _on_completed(self) -> None:
        self._leave()
        self._observer.on_completed()

    def _leave(self) -> None:
        self._wait.dispose()
        wait_for_cleanup(self._scheduler, self._limiter.leave(self, self._tokens))
