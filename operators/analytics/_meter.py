"""`meter`: Prometheus metrics of streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from reactivex import Observable

from rxllm.chunks import Chunk, Outcome
from rxllm.operators.analytics._operation import Operation, check_names
from rxllm.operators.analytics._watcher import watch
from rxllm.stream import Stream

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["meter"]

_MODELS: Final = 100
_LABELS: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

_DURATIONS: Final = [0.01 * 2**power for power in range(14)]  # 10 ms to 82 s
_FIRST_TOKEN: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
_OUTPUT_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS: Final = [4**power for power in range(14)]  # 1 to 67 million


def meter(
    registry: CollectorRegistry | None = None,
    *,
    model: str | None = None,
    provider: str | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Record the stream in Prometheus metrics.

    ::

        S-a-b-U-E|
        [ meter() ]
        S-a-b-U-E|                1 operation of 8 s, first token after 2 s, tokens of U

    All chunks pass through unchanged. The metrics have the names and buckets of the OpenTelemetry
    semantic conventions for generative AI:

    - `gen_ai_client_operation_duration_seconds`: from the subscription to the end, with the
      additional labels `outcome` (completed, failed, cancelled) and `error_type` (the error class).
    - `gen_ai_client_token_usage`: tokens of an operation, over all its attempts, by
      `gen_ai_token_type` (input, output), if `Usage` reports them.
    - `gen_ai_server_time_to_first_token_seconds`, `gen_ai_server_time_per_output_token_seconds`
      (after the first one): of completed operations, as seen at this point of the pipeline.
    - `rxllm_active_streams`: number of current subscriptions.

    The labels of all but the last are `gen_ai_operation_name` ("chat"), `gen_ai_provider_name` and
    `gen_ai_request_model`. A registry gets at most 100 distinct provider/model pairs; later ones
    are counted as `other`. A model that no `Start` has named is `unknown`.

    - Completion, error, disposal: the operation is counted, by its outcome.
    - Restart: the text chunks of that stream are counted from 0 again; earlier usage stays.
    - Demand: passes through; nothing is held.

    Args:
        registry: the registry for the metrics, or `None` to use `prometheus_client.REGISTRY`. Any
            number of streams and calls may share one.
        model: the requested model, so that failures before the `Start` are counted for it, or
            `None` to use the name in the last `Start`.
        provider: the provider of the model, or `None` to use the one in the last `Start`.

    Raises:
        ModuleNotFoundError: `prometheus_client` is not installed.
        TypeError: `registry` is not a `CollectorRegistry`, or a name is not a string.
        ValueError: metrics with these names are already registered by other code.

    >>> from prometheus_client import CollectorRegistry
    >>> from rxllm.testing import Marbles
    >>> marbles, registry = Marbles(), CollectorRegistry()
    >>> _ = marbles.run(marbles.cold("S-a-b-E|").pipe(meter(registry, provider="docs")))
    >>> registry.get_sample_value(
    ...     "gen_ai_server_time_to_first_token_seconds_sum",
    ...     {
    ...         "gen_ai_operation_name": "chat",
    ...         "gen_ai_provider_name": "docs",
    ...         "gen_ai_request_model": "model",
    ...     },
    ... )
    2.0
    """
    try:
        import prometheus_client
    except ImportError as error:
        raise ModuleNotFoundError(
            "meter needs prometheus-client: pip install 'rxllm[metrics]'", name="prometheus_client"
        ) from error
    target = prometheus_client.REGISTRY if registry is None else registry
    if not isinstance(target, prometheus_client.CollectorRegistry):
        raise TypeError(f"registry must be a prometheus_client CollectorRegistry, got {registry!r}")
    check_names(model, provider)
    metrics = _registered.get(target)
    if metrics is None:
        metrics = _registered[target] = _Metrics(target)
    return watch("meter", lambda clock: _MeterWatcher(metrics, model, provider, clock))


class _Metrics:
    """The metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Gauge, Histogram

        def histogram(
            name: str, text: str, buckets: Sequence[float], labels: tuple[str, ...] = ()
        ) -> Histogram:
            return Histogram(name, text, (*_LABELS, *labels), registry=None, buckets=buckets)

        self._pairs: set[tuple[str, str]] = set()
        self.active = Gauge(
            "rxllm_active_streams", "Streams with a current subscription.", registry=None
        )
        self.duration = histogram(
            "gen_ai_client_operation_duration_seconds",
            "Time from subscription to end, in seconds.",
            _DURATIONS,
            ("outcome", "error_type"),
        )
        self.tokens = histogram(
            "gen_ai_client_token_usage",
            "Input and output tokens used by an operation.",
            _TOKENS,
            ("gen_ai_token_type",),
        )
        self.first_token = histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to the first token of completed operations, in seconds.",
            _FIRST_TOKEN,
        )
        self.output_token = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per output token after the first, of completed operations, in seconds.",
            _OUTPUT_TOKEN,
        )
        self._register(registry)

    def _register(self, registry: CollectorRegistry) -> None:
        """Register all metrics, or none."""
        metrics = (self.active, self.duration, self.tokens, self.first_token, self.output_token)
        with ExitStack() as registered:
            for metric in metrics:
                registry.register(metric)
                registered.callback(registry.unregister, metric)
            registered.pop_all()

    def labels(self, provider: str, model: str) -> tuple[str, str, str]:
        """The values of the common labels, a bounded number of combinations."""
        pair = (_printable(provider), _printable(model))
        if pair not in self._pairs:
            if len(self._pairs) >= _MODELS:
                pair = ("other", "other")
            else:
                self._pairs.add(pair)
        return ("chat", *pair)


def _printable(name: str) -> str:
    """Return the name without half surrogates, which can't be exported."""
    return name.encode("utf-8", "replace").decode()


_registered: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()


class _MeterWatcher(Operation):
    def __init__(
        self,
        metrics: _Metrics,
        model: str | None,
        provider: str | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(clock)
        self._metrics = metrics
        self._model = model
        self._provider = provider

    def begun(self) -> None:
        self._metrics.active.inc()

    def ended(self, outcome: Outcome, error: Exception | None = None) -> None:
        metrics, elapsed, used = self._metrics, self.elapsed, self.used
        labels = metrics.labels(*self._names())
        metrics.active.dec()
        error_type = "" if error is None else type(error).__name__
        metrics.duration.labels(*labels, outcome, error_type).observe(elapsed)
        for kind in ("input", "output"):
            tokens = getattr(used, f"{kind}_tokens", None)
            if tokens:
                metrics.tokens.labels(*labels, kind).observe(tokens)
        if outcome == "completed" and self.time_to_first is not None:
            metrics.first_token.labels(*labels).observe(self.time_to_first)
            if self.output_tokens > 1:
                seconds = (elapsed - self.time_to_first) / (self.output_tokens - 1)
                metrics.output_token.labels(*labels).observe(seconds)

    def _names(self) -> tuple[str, str]:
        start = self.start
        if start is None:
            return self._provider or "unknown", self._model or "unknown"
        return self._provider or start.provider or "unknown", self._model or start.model
