"""`trace`: OpenTelemetry spans for a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from reactivex import Observable, abc

from rxllm.chunks import Chunk
from rxllm.operators.analytics._operation import check_names
from rxllm.operators.analytics._spans import SpanWatcher, Value, given_attributes, span_name
from rxllm.operators.analytics._watcher import watch
from rxllm.requests import Request
from rxllm.stream import Stream
from rxllm.valve import clock_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

__all__ = ["trace"]

_OURS: Final = "rxllm.tracing"  # context key: the `SpanWatcher` that the context belongs to


def trace(
    tracer: Tracer | None = None,
    *,
    agent: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    request: Request | None = None,
    attributes: Mapping[str, Value] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Record the stream as an OpenTelemetry span.

    ::

        S-a-b-U-E|
        [ trace() ]
        S-a-b-U-E|                span "chat model": first_token at a; usage, finish reason

    All chunks pass through unchanged. The span follows the semantic conventions for generative AI
    (open-telemetry/semantic-conventions-genai at ac48b1f, November 2026; those for agents and tools
    at 7e7e4e7).
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

    The span of a run of an agent is named `invoke_agent {agent}`, and has the usage and the finish
    reasons of all answers. Its children are

    - `chat {model}` for each answer, from its request to its `End`, with the attributes above;
    - `execute_tool {tool}` for each tool call, from the end of the answer that makes it to its
      result, with `gen_ai.tool.name`, `gen_ai.tool.call.id`, `gen_ai.tool.type` and `error.type`;
      neither arguments, nor results, nor error messages. What runs inside the tool and passes its
      chunks on, such as another agent, is below it.

    With `agent`, its kind is INTERNAL. Without it, the stream is known to be a run once an answer
    with `End(more=True)` has ended; the span is named `invoke_agent` from then on, and its kind
    stays CLIENT. Spans that the code of a tool starts are children of that of the run, not of that
    of the tool: the agent runs the tools, and this operator only sees chunks.

    - Completion, error, disposal: end the span and those below it; an error sets their status.
    - Restart: recorded as an event; earlier attempts stay in the usage.
    - Demand: passes through; nothing is held.

    Args:
        tracer: an OpenTelemetry tracer, or `None` to call
            `opentelemetry.trace.get_tracer("rxllm")` at the subscription.
        agent: the name of the agent whose run this is, or `None` for any stream.
        model: the requested model, recorded from the start, or `None` to use the name in `Start`.
        provider: the provider of the model, or `None` to use the one in `Start`.
        request: the request, for its options; its messages are not recorded.
        attributes: additional attributes of the span, and of those of the answers of a run.

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
    check_names(agent=agent, model=model, provider=provider)
    if request is not None and not isinstance(request, Request):
        raise TypeError(f"request must be a Request (see `as_request`), got {request!r}")
    if attributes is not None and not isinstance(attributes, Mapping):
        raise TypeError(f"attributes must be a mapping of names to values, got {attributes!r}")
    given = given_attributes(agent, model, provider, request, attributes or {})
    name = span_name("chat", model) if agent is None else span_name("invoke_agent", agent)
    kind = telemetry.SpanKind.CLIENT if agent is None else telemetry.SpanKind.INTERNAL

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            parent, clock = _parent(), clock_of(scheduler)
            making = tracer or telemetry.get_tracer("rxllm")
            span = making.start_span(name, parent, kind, given)
            watcher = SpanWatcher(making, span, parent, given, clock, agent)
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
        if not isinstance(watcher, SpanWatcher) or not watcher.has_ended:
            return current
        if watcher.span is not get_current_span(current):
            return current  # another span was started inside it
        current = watcher.parent
