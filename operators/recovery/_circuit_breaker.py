"""`circuit_breaker`: fail fast while a model keeps failing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxllm.arguments import check_callable
from rxllm.chunks import Chunk, End, has_output
from rxllm.errors import (
    CircuitOpenError,
    ContextLengthError,
    PoolFullError,
    StoreUnavailableError,
    UnsupportedError,
    classify_error,
    separate_error,
)
from rxllm.operators.recovery._breaker import CircuitBreaker, Permit
from rxllm.stream import Stream
from rxllm.valve import clock_of

__all__ = ["circuit_breaker", "is_failure_of_model"]

_OF_REQUEST: Final = (
    UnsupportedError,
    ContextLengthError,
    PoolFullError,
    StoreUnavailableError,
    CircuitOpenError,
)


def is_failure_of_model(error: Exception) -> bool:
    """True if `error` is a failure of the model, not of the request.

    These are the errors classified as `"retry"` or `"fallback"`, except for a request that the
    model doesn't support, a context that is too small, a full pool, a shared store that can't be
    reached, and another open circuit.
    """
    return not isinstance(error, _OF_REQUEST) and classify_error(error) != "raise"


def circuit_breaker(
    breaker: CircuitBreaker, *, counts: Callable[[Exception], bool] = is_failure_of_model
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Don't subscribe to the source while it has failed too often recently.

    ::

        S-#                                  the source, each time
        [ circuit_breaker(CircuitBreaker(failures=2)) ]
        S-#   S-#   #   #                    four subscribers: the last two get CircuitOpenError

    Each subscription asks the breaker, which is usually shared by all streams of one model. See
    `CircuitBreaker` for its states. While a probe runs, other subscriptions are refused. A
    `CircuitOpenError` is classified as `"fallback"`, so a fallback answers it at once. Put this
    before `retry_with_backoff`, so that each attempt counts, and after `timeouts`, so that a silent
    model counts as a failure.

    - Completion: a success. Error: a failure if it `counts`, otherwise no verdict.
    - Restart: passed on.
    - Disposal: upstream is disposed. Disposal after content is a success, as when a stop sequence
      was found downstream; before content it is no verdict. The same applies to a stream that was
      stopped upstream and ended with `End("cancelled")`.
    - Demand: passes through; nothing is held.

    Args:
        breaker: shared by all streams of the same model.
        counts: whether an error is a failure of the model; by default an error classified as
            `"retry"` or `"fallback"`, except for a context that is too small, a full pool, a
            shared store that can't be reached, and another open circuit.

    Raises:
        TypeError: `breaker` is not a `CircuitBreaker`, or `counts` is not callable.
        CircuitOpenError: into `on_error`; its cause is the last error that counted.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> marbles, model = Marbles(), ScriptedModel([ConnectionResetError()])
    >>> stream = model.stream("Hi").pipe(circuit_breaker(CircuitBreaker(failures=1)))
    >>> [type(marbles.run(stream, until=time)[-1][1]).__name__ for time in (1, 31, 32)]
    ['ConnectionResetError', 'CircuitOpenError', 'ConnectionResetError']
    """
    if not isinstance(breaker, CircuitBreaker):
        raise TypeError(f"breaker must be a CircuitBreaker, got {type(breaker).__name__}")
    check_callable("counts", counts, "a function from an error to a bool")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            clock = clock_of(scheduler)
            now = clock()
            permit = breaker.ask(now)
            if permit is None:
                observer.on_error(_refusal(breaker, now))
                return Disposable()
            subscription = _Subscription(observer, permit, clock, counts)
            upstream = source.subscribe(
                subscription.on_next,
                subscription.on_error,
                subscription.on_completed,
                scheduler=scheduler,
            )
            return CompositeDisposable(upstream, Disposable(subscription.on_disposed))

        return Stream(subscribe, "circuit_breaker", of_chunks=True)

    return operator


def _refusal(breaker: CircuitBreaker, now: float) -> CircuitOpenError:
    wait = breaker.wait(now)
    when = f"for another {wait:.1f} s" if wait > 0 else "while another stream probes it"
    refusal = CircuitOpenError(f"the model failed too often recently and isn't called {when}")
    if breaker.last_failure is not None:
        refusal.__cause__ = separate_error(breaker.last_failure)
    return refusal


class _Subscription:
    """One subscription with a permit."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        permit: Permit,
        clock: Callable[[], float],
        counts: Callable[[Exception], bool],
    ) -> None:
        self._observer = observer
        self._permit = permit
        self._clock = clock
        self._counts = counts
        self._has_output = False
        self._was_cancelled = False

    def on_next(self, chunk: Chunk) -> None:
        if not self._has_output:
            self._has_output = has_output(chunk)
            self._was_cancelled |= type(chunk) is End and chunk.finish_reason == "cancelled"
        try:
            self._observer.on_next(chunk)
        except Exception:
            self.on_disposed()  # a subscriber that raises may not dispose; a probe must end
            raise

    def on_error(self, error: Exception) -> None:
        try:
            failed = self._counts(error)
        except Exception as failure:
            self._permit.release()
            self._observer.on_error(failure)
            return
        if failed:
            self._permit.fail(self._clock(), error)
        else:
            self._permit.release()
        self._observer.on_error(error)

    def on_completed(self) -> None:
        if self._was_cancelled:
            self.on_disposed()
        else:
            self._permit.succeed()
        self._observer.on_completed()

    def on_disposed(self) -> None:
        if self._has_output:
            self._permit.succeed()
        else:
            self._permit.release()
