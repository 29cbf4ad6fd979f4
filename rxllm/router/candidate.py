"""One model of a router, with its measured performance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from reactivex import Observable, abc
from reactivex import operators as rx
from reactivex.disposable import CompositeDisposable

from rxllm.chunks import Chunk
from rxllm.errors import ErrorAction, classify_error
from rxllm.model_table import ModelTable
from rxllm.operators.analytics import Measurement, measure
from rxllm.operators.controlling import Pool, limit_concurrency
from rxllm.operators.recovery import (
    AfterOutput,
    CircuitBreaker,
    circuit_breaker,
    is_failure_of_model,
    require_output,
    retry_with_backoff,
    timeouts,
)
from rxllm.requests import Model, Request
from rxllm.router.strategies import Candidate
from rxllm.settings import Settings
from rxllm.stream import Stream
from rxllm.valve import Valve, clock_of, valve_of

__all__ = ["Route"]

_WEIGHT: Final = 0.3
"""The weight of the latest stream in an average."""


class Route:
    """A model of a router.

    Args:
        model: the model.
        position: index in the router's list.
        prices: the price table.
        breaker: the circuit breaker of this model.
        settings: time limits and number of attempts.
        pool: the slots of its streams, or `None` for any number.
        after_output: what to do if the model fails after part of the answer.

    Attributes:
        candidate: the model's current figures, for the strategies.
    """

    def __init__(
        self,
        model: Model,
        position: int,
        prices: ModelTable,
        breaker: CircuitBreaker,
        settings: Settings,
        pool: Pool | None,
        after_output: AfterOutput,
    ) -> None:
        self.model = model
        self._breaker = breaker
        self._settings = settings
        self._slots = [] if pool is None else [limit_concurrency(pool)]
        self._after_output = after_output
        price = prices.price_of(model.info.id)
        self.candidate: Candidate = Candidate(
            info=model.info, position=position, price=None if price is None else price.output
        )

    def is_available(self, now: float) -> bool:
        """Whether the circuit is closed or a probe is due."""
        return self._breaker.state == "closed" or (
            self._breaker.state == "open" and self._breaker.wait(now) == 0
        )

    def attempt(self, request: Request) -> Observable[Chunk]:
        """Return the model's stream: measured, with time limits, retries, and an error if empty.

        Raises:
            BadRequestError: the model can't handle the request.
        """
        settings = self._settings
        stream = self.model.stream(request).pipe(
            require_output(), timeouts(settings.first_token, settings.between_tokens)
        )

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            failures: list[Exception] = []
            pauses = _Pauses(valve_of(scheduler), clock_of(scheduler))
            record_failure: Callable[[Observable[Chunk]], Observable[Chunk]]
            record_failure = rx.do_action(on_error=failures.append)
            measured = measure(
                lambda measurement: self._update_stats(measurement, pauses, failures),
                on_start=pauses.follow,
            )
            running = stream.pipe(record_failure, measured).subscribe(observer, scheduler=scheduler)
            return CompositeDisposable(running, pauses.watching)

        return Stream(subscribe, "route", of_chunks=True).pipe(
            circuit_breaker(self._breaker),
            *self._slots,
            retry_with_backoff(
                **settings.retry, when=self._classify, after_output=self._after_output
            ),
        )

    def _classify(self, error: Exception) -> ErrorAction:
        """Classify an error, but don't wait for a retry that an open circuit would reject."""
        verdict = classify_error(error)
        return "fallback" if verdict == "retry" and self._breaker.state != "closed" else verdict

    def _update_stats(
        self, measured: Measurement, pauses: _Pauses, failures: list[Exception]
    ) -> None:
        known = self.candidate
        is_fault = bool(failures) and is_failure_of_model(failures[0])
        rate = known.error_rate
        if is_fault or measured.outcome == "completed":
            rate += _WEIGHT * (is_fault - rate)
        first, speed = (None, None) if failures else _figures(measured, pauses, known)
        self.candidate = msgspec.structs.replace(
            known,
            first_token=_average(known.first_token, first),
            tokens_per_second=_average(known.tokens_per_second, speed),
            error_rate=rate,
            streams=known.streams + 1,
        )


class _Pauses:
    """The time during which the subscriber's valve was closed, not counted against the model.

    Attributes:
        before_first: seconds before the first token.
        seconds: seconds in total.
    """

    def __init__(self, valve: Valve, clock: Callable[[], float]) -> None:
        self.before_first = self.seconds = 0.0
        self._clock = clock
        self._begun = clock()
        self._closed_at = None if valve.is_open else self._begun
        self._measured: Measurement | None = None
        self.watching = valve.on_change(self._on_valve)

    def follow(self, measured: Measurement) -> None:
        """Set the measurement that provides the time of the first token."""
        self._measured = measured

    def add(self) -> None:
        """Add the time of a pause that is still in progress."""
        if self._closed_at is None or self._measured is None:
            return
        now = self._clock()
        first = self._measured.time_to_first_token
        until = now if first is None else min(now, self._begun + first)
        self.seconds += now - self._closed_at
        self.before_first += max(0.0, until - self._closed_at)
        self._closed_at = now

    def _on_valve(self, is_open: bool) -> None:
        self.add()
        self._closed_at = None if is_open else self._clock()


def _figures(
    measured: Measurement, pauses: _Pauses, known: Candidate
) -> tuple[float | None, float | None]:
    """Return the seconds to the first token and the tokens per second; `None` if inconclusive."""
    pauses.add()
    elapsed = max(0.0, measured.elapsed - pauses.seconds - measured.loading)
    if measured.time_to_first_token is None:
        return _without_token(measured, elapsed, known)
    first = max(0.0, measured.time_to_first_token - pauses.before_first)
    tokens, generating = measured.tokens - 1, elapsed - first
    if tokens and not measured.intervals.mean:  # all at once: generated before the first arrived
        tokens, generating = measured.tokens, elapsed
    return first, tokens / generating if tokens > 0 and generating > 0 else None


def _without_token(
    measured: Measurement, elapsed: float, known: Candidate
) -> tuple[float | None, float | None]:
    if measured.outcome != "cancelled":  # a tool call: use its time unless a better one is known
        return elapsed if known.first_token is None else None, None
    if elapsed <= (known.first_token or 0.0):
        return None, None
    # The model takes at least as long as the subscriber waited, and made at most one token.
    return elapsed, 1 / elapsed if known.tokens_per_second is None else None


def _average(known: float | None, new: float | None) -> float | None:
    if known is None or new is None:
        return new if known is None else known
    return known + _WEIGHT * (new - known)
