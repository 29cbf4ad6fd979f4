"""`meter`: Prometheus metrics of streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from reactivex import Observable

from rxllm.chunks import Chunk, Outcome, Token, has_output, is_restart
from rxllm.operators.analytics._gap_histogram import GapHistogram
from rxllm.operators.analytics._operation import Operation, check_names
from rxllm.operators.analytics._watcher import watch
from rxllm.restart import forget
from rxllm.stream import Stream
from rxllm.text.surrogates import without_surrogates

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["meter"]

_MODELS: Final = 100
_LABELS: Final = (
    *("gen_ai_operation_name", "gen_ai_provider_name"),
    *("gen_ai_request_model", "gen_ai_response_model"),
)
_MODALITY: Final = "gen_ai_token_modality"
_PREFIX: Final = "gen_ai_client_inference"

_DURATIONS: Final = [0.01 * 2**power for power in range(14)]  # 10 ms to 82 s
_TOKENS: Final = [4**power for power in range(14)]  # 1 to 67 million
_USAGE: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_write_input_tokens",
    "reasoning_tokens": "reasoning_output_tokens",
}


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

    All chunks pass through unchanged. The metrics have the names, units and buckets of the
    OpenTelemetry semantic conventions for generative AI, as of November 2026
    (open-telemetry/semantic-conventions-genai, `client-inference.md` at ac48b1f,
    `gen-ai-token-metrics.md` at 27f82f0), as Prometheus has them:

    - `gen_ai_client_inference_duration_seconds`: from the subscription to the end. Its label
      `error_type` is the class of the error, `cancelled`, or empty.
    - `gen_ai_client_inference_time_to_first_chunk_seconds`, and
      `gen_ai_client_inference_time_per_output_chunk_seconds` for each gap between two chunks with
      output of one source, as seen at this point of the pipeline.
    - `gen_ai_client_inference_usage_input_tokens_total`, `..._output_tokens_total`,
      `..._cache_read_input_tokens_total`, `..._cache_write_input_tokens_total` and
      `..._reasoning_output_tokens_total`, over all attempts, if `Usage` reports them, with the
      label `gen_ai_token_modality` (`text`).
    - `gen_ai_client_inference_operation_input_tokens` and `..._output_tokens`: the tokens of an
      operation, as histograms.
    - `rxllm_active_streams`: number of current subscriptions.

    The labels of all but the last are `gen_ai_operation_name` ("chat"), `gen_ai_provider_name`,
    `gen_ai_request_model` and `gen_ai_response_model` (of the last `Start`). A registry gets at
    most 100 distinct combinations; later ones are counted as `other`. A model that no `Start` has
    named is `unknown`.

    - Completion, error, disposal: the operation is counted, by its outcome.
    - Restart: the next chunk of that stream is not counted as a gap; earlier usage stays.
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
    ...     "gen_ai_client_inference_time_to_first_chunk_seconds_sum",
    ...     {
    ...         "gen_ai_operation_name": "chat",
    ...         "gen_ai_provider_name": "docs",
    ...         "gen_ai_request_model": "model",
    ...         "gen_ai_response_model": "model",
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
        from prometheus_client import Counter, Gauge, Histogram

        def histogram(
            name: str, text: str, buckets: Sequence[float], labels: tuple[str, ...] = ()
        ) -> Histogram:
            names = (*_LABELS, *labels)
            return Histogram(f"{_PREFIX}_{name}", text, names, registry=None, buckets=buckets)

        self._combinations: set[tuple[str, ...]] = set()
        self.active = Gauge(
            "rxllm_active_streams", "Streams with a current subscription.", registry=None
        )
        self.duration = histogram(
            "duration_seconds",
            "Time from subscription to end, in seconds.",
            _DURATIONS,
            ("error_type",),
        )
        self.first = histogram(
            "time_to_first_chunk_seconds", "Time to the first output, in seconds.", _DURATIONS
        )
        self.gaps = GapHistogram(
            f"{_PREFIX}_time_per_output_chunk_seconds",
            "Time between two chunks of output, in seconds.",
            _LABELS,
            _DURATIONS,
        )
        self.usage = {
            field: Counter(
                f"{_PREFIX}_usage_{name}", f"{name} used.", (*_LABELS, _MODALITY), registry=None
            )
            for field, name in _USAGE.items()
        }
        self.operation = {
            f"{kind}_tokens": histogram(
                f"operation_{kind}_tokens", f"{kind} tokens of an operation.", _TOKENS, (_MODALITY,)
            )
            for kind in ("input", "output")
        }
        self._register(registry)

    def _register(self, registry: CollectorRegistry) -> None:
        """Register all metrics, or none."""
        counted = (*self.usage.values(), *self.operation.values())
        metrics: tuple[Any, ...] = (
            *(self.active, self.duration, self.first, self.gaps),
            *counted,
        )
        with ExitStack() as registered:
            for metric in metrics:
                registry.register(metric)
                registered.callback(registry.unregister, metric)
            registered.pop_all()

    def labels(self, *names: str) -> tuple[str, ...]:
        """The values of the common labels, a bounded number of combinations."""
        combination = tuple(map(without_surrogates, names))
        if combination not in self._combinations:
            if len(self._combinations) >= _MODELS:
                combination = ("other",) * len(names)
            else:
                self._combinations.add(combination)
        return ("chat", *combination)


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
        self._latest: dict[str | None, float] = {}  # the time of the last output, by source
        self._gaps = metrics.gaps.start()

    def begun(self) -> None:
        self._metrics.active.inc()

    def chunk(self, chunk: Chunk) -> None:
        super().chunk(chunk)
        if type(chunk) is Token or has_output(chunk):
            now, source, latest = self._clock(), chunk.source, self._latest
            if source in latest:
                self._gaps.add(now - latest[source])
            latest[source] = now
        elif is_restart(chunk):
            forget(self._latest, chunk.source)

    def ended(self, outcome: Outcome, error: Exception | None = None) -> None:
        metrics, used = self._metrics, self.used
        labels = metrics.labels(*self._names())
        metrics.active.dec()
        error_type = "" if error is None else type(error).__name__
        kind = "cancelled" if outcome == "cancelled" else error_type
        metrics.duration.labels(*labels, kind).observe(self.elapsed)
        for field, counter in metrics.usage.items():
            tokens = getattr(used, field, None)
            if tokens:
                counter.labels(*labels, "text").inc(tokens)
                if field in metrics.operation:
                    metrics.operation[field].labels(*labels, "text").observe(tokens)
        if self.time_to_first is not None:
            metrics.first.labels(*labels).observe(self.time_to_first)
            metrics.gaps.add(labels, self._gaps)

    def _names(self) -> tuple[str, str, str]:
        start = self.start
        asked = self._model or "unknown"
        if start is None:
            return self._provider or "unknown", asked, "unknown"
        provider = self._provider or start.provider or "unknown"
        return provider, self._model or start.model, start.model
