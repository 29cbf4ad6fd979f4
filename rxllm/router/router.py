"""`Router`: a model that tries the best of several models first, and falls back to the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Unpack

import msgspec
from reactivex import Observable, abc

from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError
from rxllm.model_table import ModelTable, model_table
from rxllm.models.registry import LOCAL_PROVIDERS
from rxllm.models.registry import model as model_of
from rxllm.models.remote.providers import PROVIDERS
from rxllm.operators.buffering import rechunk
from rxllm.operators.controlling import Pool
from rxllm.operators.recovery import AfterOutput, CircuitBreaker, timeouts
from rxllm.operators.recovery.attempts import attempts_of
from rxllm.operators.recovery.commit import check_after_output
from rxllm.operators.recovery.fallback_plan import check_apology, fallback_plan
from rxllm.requests import (
    Model,
    ModelInfo,
    Prompt,
    Request,
    RequestOptions,
    as_request,
    check_strategy,
    load_all,
)
from rxllm.requests import Strategy as StrategyName
from rxllm.router.candidate import Route
from rxllm.router.strategies import STRATEGIES, Candidate, Strategy
from rxllm.settings import PoolSettings, Settings
from rxllm.stream import Stream
from rxllm.token_count import TokenCount, estimated_tokens
from rxllm.valve import clock_of

__all__ = ["Router"]


class Router:
    """A model that selects among several models and falls back to the next one on failure.

    At each subscription, the strategy orders the models by the figures measured so far. The first
    choice is retried with backoff if the failure permits it; then the next choice is tried, after
    a `Notice("fallback")`. The `Start` names the model that answers. An empty answer is a failure.
    Models whose circuit is open are skipped, and so are those that can't handle the request (tools,
    images, ...). If all fail, the error is an `AllModelsFailedError` that contains the error of
    each. An error that no other model can avoid (see `rxllm.classify_error`) is passed on as it is,
    and so is an error after part of the answer has been emitted, depending on `after_output`.

    Streams that failed because of the request don't affect the figures; those that were cancelled
    count with what was measured. Time during which the subscriber's valve is closed isn't counted
    against the model.

    Args:
        models: one or more models, or names for `rxllm.model`, best first.
        strategy: `"quality"`, `"balanced"`, `"speed"`, `"cost"`, or a function (see
            `rxllm.router.strategies`). `Request.strategy` takes precedence.
        settings: time limits, attempts and slots, of each model; `None` for the defaults of
            `Settings`, with any number of concurrent streams.
        prices: the price table, or `None` to use the bundled one.
        breaker_of: returns the circuit breaker of a model, given its `info`; by default, a
            `CircuitBreaker` of each. For one that several processes share, and if no two models
            have the same id: `lambda info: RedisBreaker(redis, info.id)`.
        after_output: what to do when a model fails after part of its answer has been emitted: see
            `retry_with_backoff` for retrying the same model, and `fallback_to` for the next one.
        apology: a text to end with when all models have failed, instead of the error.

    Raises:
        BadRequestError: `models` is empty, an item is neither a model nor a known name, or the
            strategy is unknown.
        TypeError, ValueError: another argument is invalid.

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
        settings: Settings | None = None,
        prices: ModelTable | None = None,
        breaker_of: Callable[[ModelInfo], CircuitBreaker] = lambda _: CircuitBreaker(),
        after_output: AfterOutput = "fail",
        apology: str | None = None,
    ) -> None:
        if not isinstance(settings, Settings | None):
            raise TypeError(f"settings must be an rxllm.Settings, got {settings!r}")
        if not (prices is None or isinstance(prices, ModelTable)):
            raise TypeError(f"prices must be a ModelTable (see read_model_table), got {prices!r}")
        check_after_output(after_output)
        check_apology(apology)
        table = model_table() if prices is None else prices
        self._strategy = _strategy(strategy)
        self._settings = Settings() if settings is None else settings
        self._after_output = after_output
        self._apology = apology
        self._routes = [
            Route(
                model,
                position,
                table,
                _breaker(breaker_of, model.info),
                self._settings,
                None if settings is None else Pool(**_slots(settings, model)),
                after_output,
            )
            for position, model in enumerate(_models(models, self._settings))
        ]

    @property
    def info(self) -> ModelInfo:
        """The combined capabilities of the models; `"prefill"` only if all of them have it."""
        infos = [route.model.info for route in self._routes]
        capabilities = {each for info in infos for each in info.capabilities}
        if not all(info.supports("prefill") for info in infos):
            capabilities.discard("prefill")
        return ModelInfo(
            id="router",
            provider="router",
            context_length=max((info.context_length or 0 for info in infos), default=0) or None,
            capabilities=tuple(sorted(capabilities)),
            description="one of " + ", ".join(info.id for info in infos),
        )

    @property
    def candidates(self) -> list[Candidate]:
        """The models with their current figures, in the order given."""
        return [route.candidate for route in self._routes]

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        """Return a cold Observable of the answer; each subscription orders the models again.

        Raises:
            BadRequestError: the prompt or an option is invalid, or no model can handle the request.
        """
        request = as_request(prompt, **options)
        strategy = STRATEGIES[request.strategy] if request.strategy else self._strategy
        attempts = self._attempts(msgspec.structs.replace(request, strategy=None))

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            streams = self._ordered(attempts, strategy, clock_of(scheduler)())
            return self._one_after_another(streams).subscribe(observer, scheduler=scheduler)

        return Stream(subscribe, "router", of_chunks=True, answer_schema=request.answer_schema)

    async def load(self) -> None:
        """Load the local models, all at once; see `LocalModel.load`.

        Raises:
            ModelLoadError: one of them can't be loaded.
        """
        await load_all(route.model for route in self._routes)

    async def count_tokens(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> TokenCount:
        """Return the number of tokens of a prompt for the first of the models, or an estimate.

        Raises:
            BadRequestError: the prompt or an option is invalid.
        """
        count = getattr(self._routes[0].model, "count_tokens", None)
        if count is None:
            return estimated_tokens(as_request(prompt, **options))
        counted: TokenCount = await count(prompt, **options)
        return counted

    def _attempts(self, request: Request) -> dict[int, Observable[Chunk]]:
        """Return the streams of the models that can handle the request, by position."""
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
            raise BadRequestError("the strategy returned no model")
        first, *others = streams
        answered = attempts_of(
            "router", first, lambda: fallback_plan(others, self._apology), self._after_output
        )
        settings = self._settings
        shaping = [] if settings.piece_size is None else [rechunk(settings.piece_size)]
        return answered.pipe(timeouts(total=settings.total), *shaping)


def _slots(settings: Settings, model: Model) -> PoolSettings:
    is_local = model.info.provider in LOCAL_PROVIDERS
    return settings.local_pool if is_local else settings.remote_pool


def _models(models: object, settings: Settings) -> list[Model]:
    if not isinstance(models, Sequence) or isinstance(models, str | bytes) or not models:
        raise BadRequestError("models must be a non-empty list of models or model names")
    given = [_by_name(each, settings) if isinstance(each, str) else each for each in models]
    for each in given:
        if not (isinstance(each, Model) and isinstance(each.info, ModelInfo)):
            raise BadRequestError(f"models must contain models or their names, got {each!r}")
    return given


def _by_name(name: str, settings: Settings) -> Model:
    is_remote = name.partition("/")[0] in PROVIDERS
    return model_of(name, connect_timeout=settings.connect) if is_remote else model_of(name)


def _breaker(breaker_of: Callable[[ModelInfo], CircuitBreaker], info: ModelInfo) -> CircuitBreaker:
    breaker = breaker_of(info) if callable(breaker_of) else None
    if not isinstance(breaker, CircuitBreaker):
        raise TypeError(
            f"breaker_of must be a function that returns a CircuitBreaker, got {breaker_of!r}"
        )
    return breaker


def _strategy(strategy: StrategyName | Strategy) -> Strategy:
    if isinstance(strategy, str):
        check_strategy(strategy)
    found = STRATEGIES[strategy] if isinstance(strategy, str) else strategy
    if not callable(found):
        raise BadRequestError(
            f"strategy must be one of {', '.join(STRATEGIES)}, or a function from candidates to "
            f"candidates, got {strategy!r}"
        )
    return found
