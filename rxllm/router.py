"""`Router`: a model made of models, that asks the best one first, and the others if it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from reactivex import Observable, abc
from reactivex import operators as rx

from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError
from rxllm.models.registry import model as model_of
from rxllm.operators.analytics import Measurement, Prices, measure, read_prices
from rxllm.operators.recovery import (
    AfterOutput,
    CircuitBreaker,
    circuit_breaker,
    fallback_to,
    is_failure_of_model,
    retry_with_backoff,
    timeouts,
)
from rxllm.requests import Model, ModelInfo, Prompt, Request, as_request
from rxllm.requests import Strategy as StrategyName
from rxllm.settings import Settings
from rxllm.strategies import STRATEGIES, Candidate, Strategy
from rxllm.valve import clock_of

__all__ = ["Router"]

_SETTINGS: Final = Settings(total=600.0)
_WEIGHT: Final = 0.3
"""How much the last stream counts in an average."""


class Router:
    """A model that is made of models: the strategy orders them, and a failure moves on.

    A subscription is ordered by what was measured until then, and asks the first choice. That is
    retried with backoff where the failure deserves it, and then the next choice is asked, after a
    `Notice("fallback")`; the model that answers is named by its `Start`. Models whose circuit is
    open are passed over, and so are those that can't take the request (tools, images, ...). If all
    fail it is an `AllModelsFailedError`.

    The figures of a stream that failed through a fault of what was asked count for nothing; those
    of one that was left count as far as they are known.

    Args:
        models: two or more, or one; names for `rxllm.model`, or models. The best one first.
        strategy: `"quality"`, `"balanced"`, `"speed"`, `"cost"`, or a function (see
            `rxllm.strategies`). `Request.strategy` goes before it.
        settings: time limits of each attempt and in total, in seconds, and how often a model is
            asked. By default a total of 600 s, and else the defaults of `Settings`.
        prices: what models cost; the bundled table if None.
        breaker_of: makes the circuit breaker of a model.
        after_output: what to do when a model fails after a part of its answer has been passed on;
            see `retry_with_backoff`.
        apology: a text to end with when all have failed, in place of the error.

    Raises:
        BadRequestError: there is no model, one can't be found by its name, or there is no such
            strategy.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> large = ScriptedModel([ConnectionRefusedError()], name="large")
    >>> small = ScriptedModel("Hello", name="small")
    >>> router = Router([large, small], settings=Settings(attempts=1))
    >>> events = [event for _, event in Marbles().run(router.stream("Hi"))]
    >>> [getattr(event, "model", None) or getattr(event, "text", None) for event in events][:4]
    ['large', None, 'small', 'Hello']
    """

    def __init__(
        self,
        models: Sequence[Model | str],
        strategy: StrategyName | Strategy = "balanced",
        *,
        settings: Settings = _SETTINGS,
        prices: Prices | None = None,
        breaker_of: Callable[[], CircuitBreaker] = CircuitBreaker,
        after_output: AfterOutput = "fail",
        apology: str | None = None,
    ) -> None:
        if not models or isinstance(models, str):
            raise BadRequestError("a router is made of a list of models, one or more")
        given = [model_of(each) if isinstance(each, str) else each for each in models]
        table = read_prices() if prices is None else prices
        self._strategy = _strategy(strategy)
        self._settings = settings
        self._after_output = after_output
        self._apology = apology
        self._routes = [
            _Route(model, position, table, breaker_of()) for position, model in enumerate(given)
        ]

    @property
    def info(self) -> ModelInfo:
        """What its models can do together."""
        infos = [route.model.info for route in self._routes]
        return ModelInfo(
            id="router",
            provider="router",
            context_length=max((info.context_length or 0 for info in infos), default=0) or None,
            capabilities=tuple(sorted({each for info in infos for each in info.capabilities})),
            description="one of " + ", ".join(info.id for info in infos),
        )

    @property
    def candidates(self) -> list[Candidate]:
        """The models as they stand, in the order given."""
        return [route.candidate for route in self._routes]

    def stream(self, prompt: Prompt, **options: Any) -> Observable[Chunk]:
        """A cold Observable of the answer; the models are ordered at each subscription.

        Raises:
            BadRequestError: the prompt or an option can't be right, or no model can take it.
        """
        request = as_request(prompt, **options)
        strategy = STRATEGIES[request.strategy] if request.strategy else self._strategy
        attempts = self._attempts(msgspec.structs.replace(request, strategy=None))

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            streams = self._ordered(attempts, strategy, clock_of(scheduler)())
            return self._one_after_another(streams).subscribe(observer, scheduler=scheduler)

        return Observable(subscribe)

    def _attempts(self, request: Request) -> dict[int, Observable[Chunk]]:
        """By position, the streams of the models that can take the request."""
        attempts: dict[int, Observable[Chunk]] = {}
        refusal: BadRequestError | None = None
        for position, route in enumerate(self._routes):
            try:
                attempts[position] = route.attempt(request, self._settings)
            except BadRequestError as error:
                refusal = refusal or error
        if refusal is not None and not attempts:
            raise refusal
        return attempts

    def _ordered(
        self, attempts: dict[int, Observable[Chunk]], strategy: Strategy, now: float
    ) -> list[Observable[Chunk]]:
        able = [self._routes[position] for position in attempts]
        closed = [route for route in able if route.may_be_asked(now)]
        chosen = strategy([route.candidate for route in closed or able])
        return [attempts[candidate.position] for candidate in chosen]

    def _one_after_another(self, streams: list[Observable[Chunk]]) -> Observable[Chunk]:
        if not streams:
            raise BadRequestError("the strategy has left no model to ask")
        first, *others = streams
        if others or self._apology is not None:
            first = first.pipe(
                fallback_to(*others, after_output=self._after_output, apology=self._apology)
            )
        return first.pipe(timeouts(total=self._settings.total))


class _Route:
    """A model of the router, and how it fares."""

    def __init__(
        self, model: Model, position: int, prices: Prices, breaker: CircuitBreaker
    ) -> None:
        self.model = model
        self._breaker = breaker
        price = prices.price_of(model.info.id)
        self.candidate = Candidate(
            info=model.info, position=position, price=None if price is None else price.output
        )

    def may_be_asked(self, now: float) -> bool:
        """False while its circuit is open, and no probe is due."""
        return self._breaker.state == "closed" or (
            self._breaker.state == "open" and self._breaker.wait(now) == 0
        )

    def attempt(self, request: Request, settings: Settings) -> Observable[Chunk]:
        """A stream that is measured, limited in time, and retried."""
        stream = self.model.stream(request)

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            failures: list[Exception] = []
            noting: Callable[[Observable[Chunk]], Observable[Chunk]]
            noting = rx.do_action(on_error=failures.append)
            watched = stream.pipe(
                timeouts(settings.first_token, settings.between_tokens),
                noting,
                measure(lambda measured: self._learn(measured, failures)),
            )
            return watched.subscribe(observer, scheduler=scheduler)

        return Observable(subscribe).pipe(
            circuit_breaker(self._breaker), retry_with_backoff(settings.attempts)
        )

    def _learn(self, measured: Measurement, failures: list[Exception]) -> None:
        known = self.candidate
        is_fault = bool(failures) and is_failure_of_model(failures[0])
        rate = known.error_rate
        if is_fault or measured.outcome == "completed":
            rate += _WEIGHT * (is_fault - rate)
        first = None if failures else measured.time_to_first_token
        speed = None
        if first is not None and measured.tokens > 1 and measured.elapsed > first:
            speed = (measured.tokens - 1) / (measured.elapsed - first)
        self.candidate = msgspec.structs.replace(
            known,
            first_token=_average(known.first_token, first),
            tokens_per_second=_average(known.tokens_per_second, speed),
            error_rate=rate,
            streams=known.streams + 1,
        )


def _average(known: float | None, new: float | None) -> float | None:
    if known is None or new is None:
        return new if known is None else known
    return known + _WEIGHT * (new - known)


def _strategy(strategy: StrategyName | Strategy) -> Strategy:
    found = STRATEGIES.get(strategy) if isinstance(strategy, str) else strategy
    if not callable(found):
        raise BadRequestError(
            f"strategy is one of {', '.join(STRATEGIES)}, or a function from candidates to "
            f"candidates, not {strategy!r}"
        )
    return found
