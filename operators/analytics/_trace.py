"""`trace`: an OpenTelemetry span for a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from reactivex import Observable, abc

from rxllm.chunks import Chunk, Notice, Outcome, Start
from rxllm.operators.analytics._operation import Operation, check_names
from rxllm.operators.analytics._watcher import watch
from rxllm.requests import Request
from rxllm.stream import Stream
from rxllm.valve import clock_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

__all__ = ["trace"]

_Value: TypeAlias = str | bool | int | float | Sequence[str]

_USAGE: Final = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "cost": "rxllm.usage.cost",
}
_OURS: Final = "rxllm.tracing"  # context key: the `_TraceWatcher` that the context belongs to
_OPTIONS: Final = (
    *("max_tokens", "temperature", "top_p", "top_k", "seed"),
    *("frequency_penalty", "presence_penalty"),
)


def trace(
    tracer: Tracer | None = None,
    *,
    model: str | None = None,
    provider: str | None = None,
    request: Request | None = None,
    attributes: Mapping[str, _Value] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Record the stream as an OpenTelemetry span.

    ::

        S-a-b-U-E|
        [ trace() ]
        S-a-b-U-E|                span "chat model": first_token at a; usage, finish reason

    All chunks pass through unchanged. The span follows the semantic conventions for generative AI
    (open-telemetry/semantic-conventions-genai at ac48b1f, November 2026).
    It starts at the subscription, as a child of the current span, and is itself the current span
    during the subscription to upstream, so that requests of an instrumented HTTP client become its
    children. It is named `chat {model}`, has kind CLIENT, and gets these attributes if they are
    known: `gen_ai.operation.name`, `gen_ai.provider.name`, `gen_ai.request.*` (model, stream,
    max_tokens, temperature, top_p, top_k, seed, penalties, stop_sequences, reasoning.level),
    `gen_ai.output.type`,
    `gen_ai.response.*` (id, model, finish_reasons, time_to_first_chunk), `gen_ai.usage.*` (input,
    output, cache and reasoning tokens, over all attempts), `error.type` (the error class),
    `rxllm.outcome` (completed, failed, cancelled) and `rxllm.usage.cost` (USD). Its events are
    `first_token` and the kinds of the `Notice` chunks: `retry`, `fallback`, ... No text is
    recorded except error messages, which may quote the provider.

    There is one span per subscription: put `trace` after a retry to see the whole operation, before
    it to see each attempt, and before a merge to see each stream.

    - Completion, error, disposal: end the span; an error sets its status.
    - Restart: recorded as an event; earlier attempts stay in the usage.
    - Demand: passes through; nothing is held.

    Args:
        tracer: an OpenTelemetry tracer, or `None` to call
            `opentelemetry.trace.get_tracer("rxllm")` at the subscription.
        model: the requested model, recorded from the start, or `None` to use the name in `Start`.
        provider: the provider of the model, or `None` to use the one in `Start`.
        request: the request, for its options; its messages are not recorded.
        attributes: additional span attributes.

    Raises:
        ModuleNotFoundError: OpenTelemetry is not installed.
        TypeError: `tracer` is a class or has no method `start_span`, `request` is not a `Request`,
            `attributes` is not a mapping, or a name is not a string.

    >>> from opentelemetry.sdk.trace import TracerProvider
    >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    >>> from rxllm.testing import Marbles
    >>> exporter, provider, marbles = InMemorySpanExporter(), TracerProvider(), Marbles()
    >>> provider.add_span_processor(SimpleSpanProcessor(exporter))
    >>> source = marbles.cold("S-a-b-E|")
    >>> _ = marbles.run(source.pipe(trace(provider.get_tracer("docs"))))
    >>> [span] = exporter.get_finished_spans()
    >>> span.name, span.attributes["gen_ai.response.time_to_first_chunk"]
    ('chat model', 2.0)
    """
    try:
        from opentelemetry import context
        from opentelemetry import trace as telemetry
    except ImportError as error:
        raise ModuleNotFoundError(
            "trace needs OpenTelemetry: pip install 'rxllm[tracing]'", name="opentelemetry"
        ) from error
    if isinstance(tracer, type) or not (
        tracer is None or callable(getattr(tracer, "start_span", None))
    ):
        raise TypeError(f"tracer must be an OpenTelemetry tracer, got {tracer!r}")
    check_names(model, provider)
    if request is not None and not isinstance(request, Request):
        raise TypeError(f"request must be a Request (see `as_request`), got {request!r}")
    if attributes is not None and not isinstance(attributes, Mapping):
        raise TypeError(f"attributes must be a mapping of names to values, got {attributes!r}")
    given = _given(model, provider, request, attributes or {})

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            clock = clock_of(scheduler)
            parent = _parent()
            span = (tracer or telemetry.get_tracer("rxllm")).start_span(
                _name(model), parent, telemetry.SpanKind.CLIENT, given
            )
            watcher = _TraceWatcher(span, parent, given, clock)
            inside = context.set_value(_OURS, watcher, parent)
            token = context.attach(telemetry.set_span_in_context(span, inside))
            try:
                return source.pipe(watch("trace", lambda _: watcher)).subscribe(
                    observer, scheduler=scheduler
                )
            finally:
                context.detach(token)

        return Stream(subscribe, "trace", of_chunks=True)

    return operator


def _parent() -> Context:
    """Return the current context, or that around an ended stream whose context is still current.

    The latter happens when a stream is subscribed to again, or another one is concatenated to it.
    """
    from opentelemetry import context
    from opentelemetry.trace import get_current_span

    current = context.get_current()
    while True:
        watcher = context.get_value(_OURS, current)
        if not isinstance(watcher, _TraceWatcher) or not watcher.has_ended:
            return current
        if watcher.span is not get_current_span(current):
            return current  # another span was started inside it
        current = watcher.parent


class _TraceWatcher(Operation):
    def __init__(
        self,
        span: Span,
        parent: Context,
        given: Mapping[str, _Value],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(clock)
        self.span = span
        self.parent = parent
        self.has_ended = False
        self._given = given

    def started(self, start: Start) -> None:
        span, given = self.span, self._given
        if "gen_ai.request.model" not in given:
            span.update_name(_name(start.model))
            span.set_attribute("gen_ai.request.model", start.model)
        if "gen_ai.provider.name" not in given and start.provider is not None:
            span.set_attribute("gen_ai.provider.name", start.provider)
        span.set_attribute("gen_ai.response.model", start.model)
        span.set_attribute("gen_ai.response.id", start.request_id)

    def first_content(self) -> None:
        if self.time_to_first is not None:
            self.span.set_attribute("gen_ai.response.time_to_first_chunk", self.time_to_first)
        self.span.add_event("first_token")

    def noticed(self, notice: Notice) -> None:
        error = notice.error
        known = _known(
            {
                "attempt": notice.attempt,
                "delay": notice.delay,
                "skipped": notice.skipped,
                "source": notice.source,
                "error.type": None if error is None else error.type,
            }
        )
        self.span.add_event(notice.kind, known)

    def ended(self, outcome: Outcome, error: Exception | None = None) -> None:
        from opentelemetry.trace import StatusCode

        self.has_ended = True
        span = self.span
        for name, attribute in _USAGE.items():
            value = getattr(self.used, name, None)
            if value is not None:
                span.set_attribute(attribute, value)
        if self.finish_reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", (self.finish_reason,))
        span.set_attribute("rxllm.outcome", outcome)
        if error is not None:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR, str(error))
        span.end()


def _name(model: str | None) -> str:
    return "chat" if model is None else f"chat {model}"


def _given(
    model: str | None,
    provider: str | None,
    request: Request | None,
    attributes: Mapping[str, _Value],
) -> dict[str, Any]:
    """The attributes that are known before the model answers."""
    return _known(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.stream": True,
            "gen_ai.request.model": model,
            "gen_ai.provider.name": provider,
            **(_options(request) if request is not None else {}),
            **attributes,
        }
    )


def _options(request: Request) -> dict[str, Any]:
    return {
        **{f"gen_ai.request.{name}": getattr(request, name) for name in _OPTIONS},
        "gen_ai.request.reasoning.level": request.reasoning,
        "gen_ai.request.stop_sequences": request.stop or None,
        "gen_ai.output.type": None if request.response_format is None else "json",
    }


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
