"""The metrics of one Prometheus registry."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from rxllm.chunks import Usage
from rxllm.operators.analytics._gap_histogram import GapHistogram, Gaps
from rxllm.text.surrogates import without_surrogates

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Metrics"]

_MOST: Final = 100
_MODEL: Final = (
    *("gen_ai_operation_name", "gen_ai_provider_name"),
    *("gen_ai_request_model", "gen_ai_response_model"),
)
_AGENT: Final = "gen_ai_agent_name"
_ERROR: Final = "error_type"
_MODALITY: Final = "gen_ai_token_modality"
_INFERENCE: Final = "gen_ai_client_inference"

_DURATIONS: Final = [0.01 * 2**power for power in range(14)]  # 10 ms to 82 s
_RUNS: Final = [0.1 * 2**power for power in range(13)]  # 100 ms to 7 min
_CALLS: Final = [2**power for power in range(8)]  # 1 to 128
_TOKENS: Final = [4**power for power in range(14)]  # 1 to 67 million
_USAGE: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_write_input_tokens",
    "reasoning_tokens": "reasoning_output_tokens",
}
_WITHOUT_TOOL: Final = ("UnknownToolError", "LimitError")
"""Errors of calls whose tool may not exist: the first says so, the other is that of a run's end."""


class Metrics:
    """The metrics of one registry.

    Raises:
        ValueError: metrics with these names are already registered by other code.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=None, buckets=buckets)

        self.active = Gauge(
            "rxllm_active_streams", "Streams with a current subscription.", registry=None
        )
        self.duration = histogram(
            f"{_INFERENCE}_duration_seconds",
            "Time from request to end, in seconds.",
            _DURATIONS,
            *(*_MODEL, _ERROR),
        )
        self.first = histogram(
            f"{_INFERENCE}_time_to_first_chunk_seconds",
            "Time to the first output, in seconds.",
            _DURATIONS,
            *_MODEL,
        )
        self.gaps = GapHistogram(
            f"{_INFERENCE}_time_per_output_chunk_seconds",
            "Time between two chunks of output, in seconds.",
            _MODEL,
            _DURATIONS,
        )
        self.usage = {
            field: Counter(
                f"{_INFERENCE}_usage_{name}", f"{name} used.", (*_MODEL, _MODALITY), registry=None
            )
            for field, name in _USAGE.items()
        }
        self.operation = {
            f"{kind}_tokens": histogram(
                f"{_INFERENCE}_operation_{kind}_tokens",
                f"{kind} tokens of an operation.",
                _TOKENS,
                *(*_MODEL, _MODALITY),
            )
            for kind in ("input", "output")
        }
        self.run = histogram(
            "gen_ai_invoke_agent_duration_seconds",
            "Time of a run of an agent, in seconds.",
            _RUNS,
            *(_AGENT, _ERROR),
        )
        self.inference_calls = histogram(
            "gen_ai_invoke_agent_inference_calls", "Answers of a run.", _CALLS, _AGENT
        )
        self.tool_calls = histogram(
            "gen_ai_invoke_agent_tool_calls", "Tool calls of a run.", _CALLS, _AGENT
        )
        self.tool = histogram(
            "gen_ai_execute_tool_duration_seconds",
            "Time of a tool call, in seconds.",
            _DURATIONS,
            *("gen_ai_tool_name", _AGENT, _ERROR),
        )
        self._models = _Bounded()
        self._agents = _Bounded()
        self._tools = _Bounded()
        self._errors = _Bounded()  # of tools, which may be anything in a stream from elsewhere
        self._register(registry)

    def _register(self, registry: CollectorRegistry) -> None:
        """Register all metrics, or none."""
        metrics: tuple[Any, ...] = (
            *(self.active, self.duration, self.first, self.gaps),
            *(*self.usage.values(), *self.operation.values()),
            *(self.run, self.inference_calls, self.tool_calls, self.tool),
        )
        with ExitStack() as registered:
            for metric in metrics:
                registry.register(metric)
                registered.callback(registry.unregister, metric)
            registered.pop_all()

    def answered(
        self,
        models: tuple[str, str, str],
        seconds: float,
        error: str,
        used: Usage | None,
        first: float | None,
        gaps: Gaps | None,
    ) -> None:
        """Record one operation: an answer of a run, or a stream that isn't a run.

        Args:
            models: the provider, the requested model and the model of the response.
            seconds: how long it took.
            error: the class of the error, `cancelled`, or empty.
            used: its tokens, if they are known.
            first: seconds to its first content, if there was any.
            gaps: the times between its chunks.
        """
        labels = ("chat", *self._models(*models))
        self.duration.labels(*labels, error).observe(seconds)
        for field, counter in self.usage.items():
            tokens = getattr(used, field, None)
            if tokens:
                counter.labels(*labels, "text").inc(tokens)
                if field in self.operation:
                    self.operation[field].labels(*labels, "text").observe(tokens)
        if first is not None:
            self.first.labels(*labels).observe(first)
            if gaps is not None:
                self.gaps.add(labels, gaps)

    def called(self, agent: str, name: str, seconds: float, error: str) -> None:
        """Record a tool call.

        A name that only calls without a tool have is `unknown`: a model may invent any number.
        """
        known = self._tools(name, is_proven=error not in _WITHOUT_TOOL)
        labels = (*known, *self._agents(agent), *self._errors(error))
        self.tool.labels(*labels).observe(seconds)

    def ran(self, agent: str, seconds: float, error: str, answers: int, calls: int) -> None:
        """Record a run."""
        (name,) = self._agents(agent)
        self.run.labels(name, error).observe(seconds)
        self.inference_calls.labels(name).observe(answers)
        self.tool_calls.labels(name).observe(calls)


class _Bounded:
    """The values of labels: at most 100 distinct combinations, and `other` for later ones."""

    def __init__(self) -> None:
        self._known: set[tuple[str, ...]] = set()

    def __call__(self, *values: str, is_proven: bool = True) -> tuple[str, ...]:
        given = tuple(map(without_surrogates, values))
        if given in self._known:
            return given
        if not is_proven:
            return ("unknown",) * len(given)
        if len(self._known) >= _MOST:
            return ("other",) * len(given)
        self._known.add(given)
        return given
