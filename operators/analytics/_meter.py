"""`meter`: Prometheus metrics of streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from reactivex import Observable

from rxllm.chunks import Chunk, End, Outcome, Start, Token, has_output, is_restart
from rxllm.operators.analytics._answers import Answer
from rxllm.operators.analytics._gap_histogram import Gaps
from rxllm.operators.analytics._metrics import Metrics
from rxllm.operators.analytics._operation import Operation, check_names
from rxllm.operators.analytics._run import Call
from rxllm.operators.analytics._watcher import watch
from rxllm.restart import matching_sources
from rxllm.stream import Stream

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["meter"]


def meter(
    registry: CollectorRegistry | None = None,
    *,
    agent: str | None = None,
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

    In a run of an agent, each answer is such an operation, from its request to its end, and so is
    each one of a nested run. There are also

    - `gen_ai_invoke_agent_duration_seconds` (label `error_type`),
      `gen_ai_invoke_agent_inference_calls` and `gen_ai_invoke_agent_tool_calls`: the time, answers
      and tool calls of a run, as histograms, without those of nested runs;
    - `gen_ai_execute_tool_duration_seconds`: from the end of the answer that makes the call to its
      result, with the labels `gen_ai_tool_name` and `error_type`.

    Their label `gen_ai_agent_name` is `agent`, or empty. Calls of tools that don't exist have the
    tool name `unknown`; after 100 names of tools, or classes of their errors, others are `other`.

    - Completion, error, disposal: the operation is counted, by its outcome, and so are a run and
      its open calls.
    - Restart: the next chunk of that stream is not counted as a gap; earlier usage stays.
    - Demand: passes through; nothing is held.

    Args:
        registry: the registry for the metrics, or `None` to use `prometheus_client.REGISTRY`. Any
            number of streams and calls may share one.
        agent: the name of the agent whose run this is, or `None` for any stream, which is known to
            be a run once an answer with `End(more=True)` has ended.
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
    check_names(agent=agent, model=model, provider=provider)
    metrics = _registered.get(target)
    if metrics is None:
        metrics = _registered[target] = Metrics(target)
    return watch("meter", lambda clock: _MeterWatcher(metrics, agent, model, provider, clock))


_registered: WeakKeyDictionary[CollectorRegistry, Metrics] = WeakKeyDictionary()


class _Pace:
    """The times between the chunks of an answer, and when the last one came."""

    __slots__ = ("gaps", "latest")

    def __init__(self, gaps: Gaps) -> None:
        self.gaps = gaps
        self.latest: float | None = None


class _MeterWatcher(Operation):
    def __init__(
        self,
        metrics: Metrics,
        agent: str | None,
        model: str | None,
        provider: str | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(clock, is_run=agent is not None)
        self._metrics = metrics
        self._agent = agent or ""
        self._model = model
        self._provider = provider
        self._paces: dict[str | None, _Pace] = {}
        self._inference_calls = self._tool_calls = 0  # without those of nested runs

    def begun(self) -> None:
        self._metrics.active.inc()

    def chunk(self, chunk: Chunk) -> None:
        if type(chunk) is Token or has_output(chunk):
            pace = self._paces.get(chunk.source)
            if pace is None:
                pace = self._paces[chunk.source] = _Pace(self._metrics.gaps.start())
            now = self._clock()
            if pace.latest is not None:
                pace.gaps.add(now - pace.latest)
            pace.latest = now
        elif type(chunk) is End or is_restart(chunk):
            for source in matching_sources(self._paces, chunk.source):
                self._paces[source].latest = None
        super().chunk(chunk)

    def answered(self, answer: Answer, call: Call | None) -> None:
        self._inference_calls += call is None
        pace = self._paces.pop(answer.source, None)
        self._metrics.answered(
            self._models(answer.start),
            answer.ended - answer.begun,
            _error_type(answer.outcome, answer.error),
            answer.used,
            answer.time_to_first,
            None if pace is None else pace.gaps,
        )

    def called(self, call: Call) -> None:
        self._tool_calls += self.run.call_around(call.source) is None
        error = _error_type(call.outcome, call.error)
        self._metrics.called(self._agent, call.name, call.seconds, error)

    def ended(self, outcome: Outcome, error: Exception | None = None) -> None:
        metrics = self._metrics
        metrics.active.dec()
        kind = _error_type(outcome, None if error is None else type(error).__name__)
        if self.is_run:
            counts = self._inference_calls, self._tool_calls
            metrics.ran(self._agent, self.elapsed, kind, *counts)
            return
        gaps = metrics.gaps.start()
        for pace in self._paces.values():
            gaps.merge(pace.gaps)
        first = self.time_to_first
        metrics.answered(self._models(self.start), self.elapsed, kind, self.used, first, gaps)

    def _models(self, start: Start | None) -> tuple[str, str, str]:
        """Return the provider, the requested model, and that of the response."""
        latest = self.start if start is None else start  # which may be an earlier answer's
        if latest is None:
            return self._provider or "unknown", self._model or "unknown", "unknown"
        return (
            self._provider or latest.provider or "unknown",
            self._model or latest.model,
            "unknown" if start is None else start.model,
        )


def _error_type(outcome: Outcome, error: str | None) -> str:
    return "cancelled" if outcome == "cancelled" else error or ""
