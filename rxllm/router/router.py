"""`Router`: a model made of models, that asks the best one first, and the others if it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Unpack

import msgspec
from reactivex import Observable, abc

from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError
from rxllm.models.registry import model as model_of
from rxllm.operators.analytics import Prices, read_prices
from rxllm.operators.recovery import AfterOutput, CircuitBreaker, timeouts
from rxllm.operators.recovery.attempts import attempts_of
from rxllm.operators.recovery.commit import check_after_output
from rxllm.operators.recovery.fallback_plan import check_apology, fallback_plan
from rxllm.requests import Model, ModelInfo, Prompt, Request, RequestOptions, as_request
from rxllm.requests import Strategy as StrategyName
from rxllm.router.candidate import Route
from rxllm.router.strategies import STRATEGIES, Candidate, Strategy
from rxllm.settings import Settings
from rxllm.stream import Stream
from rxllm.valve import clock_of

__all__ = ["Router"]

_SETTINGS: Final = Settings(total=600.0)


class Router:
    """A model that is made of models: the strategy orders them, and a failure moves on.

    A subscription is ordered by what was measured until then, and asks the first choice. That is
    retried with backoff where the failure allows it, and then the next choice is asked, after a
    `Notice("fallback")`; the model that answers is named by its `Start`. An answer that says
    nothing has failed. Models whose circuit is open are passed over, and so are those that can't
    take the request (tools, images, ...). If all fail it is an `AllModelsFailedError`, which holds
    what each one failed with. An error that no model can help (see `rxllm.classify_error`) is
    itself, and so is one after a part of the answer has been passed on, if `after_output` says so.

    The figures of a stream that failed through a fault of what was asked count for nothing; those
    of one that was left count as far as they are known. Time in which the subscriber's valve was
    closed is no time of the model's.

    Args:
        models: two or more, or one; names for `rxllm.model`, or models. The best one first.
        strategy: `"quality"`, `"balanced"`, `"speed"`, `"cost"`, or a function (see
            `rxllm.router.strategies`). `Request.strategy` goes before it.
        settings: `first_token` and `between_tokens` of each attempt and the `total`, in seconds,
            and how many `attempts` a model has. By default a total of 600 s, and else the defaults
            of `Settings`. Others are not looked at: the time to connect is an option of a remote
            model.
        prices: what models cost; the bundled table if None.
        breaker_of: makes the circuit breaker of a model.
        after_output: what to do when a model fails after a part of its answer has been passed on:
            see `retry_with_backoff` for when the same model is asked again, and `fallback_to` for
            the next one.
        apology: a text to end with when all have failed, in place of the error.

    Raises:
        BadRequestError: there is no model, one is none or can't be found by its name, or there is
            no such strategy.
        TypeError, ValueError: another argument can't be right.

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
        given = _models(models)
        if not isinstance(settings, Settings):
            raise TypeError(f"settings is a value of rxllm.Settings, not {settings!r}")
        if not (prices is None or isinstance(prices, Prices)):
            raise TypeError(f"prices is a table as read_prices() gives it, not {prices!r}")
        check_after_output(after_output)
        check_apology(apology)
        table = read_prices() if prices is None else prices
        self._strategy = _strategy(strategy)
        self._total = settings.total
        self._after_output = after_output
        self._apology = apology
        self._routes = [
            Route(model, position, table, _breaker(breaker_of), settings, after_output)
            for position, model in enumerate(given)
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

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
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

        return Stream(subscribe, "router", of_chunks=True)

    def _attempts(self, request: Request) -> dict[int, Observable[Chunk]]:
        """By position, the streams of the models that can take the request."""
        attempts: dict[int, Observable[Chunk]] = {}
        refusal: BadRequestError | None = None
        for position, route in enumerate(self._routes):
            try:
                attempts[position] = route.attempt(request)
            except BadRequestError as error:
                refusal = refusal or error
        if refusal is not None and not attempts:
            raise refusal
        return attempts

    def _ordered(
        self, attempts: dict[int, Observable[Chunk]], strategy: Strategy, now: float
    ) -> list[Observable[Chunk]]:
        able = [self._routes[position] for position in attempts]
        closed = [route for route in able if route.is_available(now)]
        chosen = strategy([route.candidate for route in closed or able])
        return [attempts[candidate.position] for candidate in chosen]

    def _one_after_another(self, streams: list[Observable[Chunk]]) -> Observable[Chunk]:
        if not streams:
            raise BadRequestError("the strategy has left no model to ask")
        first, *others = streams
        answered = attempts_of(
            "router", first, lambda: fallback_plan(others, self._apology), self._after_output
        )
        return answered.pipe(timeouts(total=self._total))


def _models(models: object) -> list[Model]:
    if not isinstance(models, Sequence) or isinstance(models, str | bytes) or not models:
        raise BadRequestError("a router is made of a list of models, one or more")
    given = [model_of(each) if isinstance(each, str) else each for each in models]
    for each in given:
        if not (isinstance(each, Model) and isinstance(each.info, ModelInfo)):
            raise BadRequestError(f"a router is made of models, or their names, not of {each!r}")
    return given


def _breaker(breaker_of: Callable[[], CircuitBreaker]) -> CircuitBreaker:
    breaker = breaker_of() if callable(breaker_of) else None
    if not isinstance(breaker, CircuitBreaker):
        raise TypeError(f"breaker_of is a function that makes a CircuitBreaker, not {breaker_of!r}")
    return breaker


def _strategy(strategy: StrategyName | Strategy) -> Strategy:
    found = STRATEGIES.get(strategy) if isinstance(strategy, str) else strategy
    if not callable(found):
        raise BadRequestError(
            f"strategy is one of {', '.join(STRATEGIES)}, or a function from candidates to "
            f"candidates, not {strategy!r}"
        )
    return found
