"""Spans of OpenTelemetry that tests look at."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

__all__ = ["Spans", "attributes_of", "seconds_of"]


class Spans:
    """A tracer and its ended spans.

    Attributes:
        begun: number of spans that have begun.
    """

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(_Counter(self))
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")
        self.begun = 0

    @property
    def ended(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def only(self) -> ReadableSpan:
        (span,) = self.ended
        return span

    def named(self, name: str) -> ReadableSpan:
        """The one span of that name."""
        (span,) = [span for span in self.ended if span.name == name]
        return span

    @property
    def tree(self) -> list[str]:
        """The names of all spans, each indented below its parent, in the order of their begins."""
        below: dict[int | None, list[ReadableSpan]] = {}
        for span in sorted(self.ended, key=lambda span: span.start_time or 0):
            below.setdefault(span.parent and span.parent.span_id, []).append(span)

        def lines(parent: int | None, depth: int) -> list[str]:
            drawn: list[str] = []
            for span in below.pop(parent, []):
                drawn.append("  " * depth + span.name)
                drawn += lines(span.context and span.context.span_id, depth + 1)
            return drawn

        drawn = lines(None, 0)
        assert not below, "a span has a parent that hasn't ended"
        return drawn


class _Counter(SpanProcessor):
    """Counts the spans that begin."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._spans.begun += 1


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def seconds_of(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9
