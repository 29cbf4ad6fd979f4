"""The spans of a traced stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rxllm.chunks import Notice, Outcome, Start, Usage
from rxllm.operators.analytics._answers import Answer
from rxllm.operators.analytics._operation import Operation
from rxllm.operators.analytics._run import Call
from rxllm.requests import Request

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

__all__ = ["SpanWatcher", "Value", "given_attributes", "span_name"]

Value: TypeAlias = str | bool | int | float | Sequence[str]

_USAGE: Final = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "cost": "rxllm.usage.cost",
}
_OPTIONS: Final = (
    *("max_tokens", "temperature", "top_p", "top_k", "seed"),
    *("frequency_penalty", "presence_penalty"),
)


class SpanWatcher(Operation):
    """Writes the figures of a stream into its span, and those of a run into spans of its own.

    The spans of answers and tools are made when they have ended, with the time at which they began;
    that of a tool earlier if something inside it needs a parent.

    Args:
        tracer: makes the spans of a run.
        span: that of the stream.
        parent: the context around it.
        given: the attributes that are known before the model answers.
        clock: in seconds.
        agent: the name of the agent, or `None` if the stream may turn out to be a run.
    """

    def __init__(
        self,
        tracer: Tracer,
        span: Span,
        parent: Context,
        given: Mapping[str, Value],
        clock: Callable[[], float],
        agent: str | None,
    ) -> None:
        super().__init__(clock, is_run=agent is not None)
        self.span = span
        self.parent = parent
        self.has_ended = False
        self._subscribed = time.time_ns()
        self._tracer = tracer
        self._given = given
        self._spans: dict[str, Span] = {}  # of tools, by their paths

    def started(self, start: Start) -> None:
        span, given = self.span, self._given
        if "gen_ai.request.model" not in given:
            if not self.is_run:
                span.update_name(span_name("chat", start.model))
            span.set_attribute("gen_ai.request.model", start.model)
        if "gen_ai.provider.name" not in given and start.provider is not None:
            span.set_attribute("gen_ai.provider.name", start.provider)

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

    def run_begun(self) -> None:
        self.span.update_name("invoke_agent")
        self.span.set_attribute("gen_ai.operation.name", "invoke_agent")

    def answered(self, answer: Answer, call: Call | None) -> None:
        from opentelemetry.trace import SpanKind

        start = answer.start
        model = self._given.get("gen_ai.request.model", start and start.model)
        attributes = {
            **self._given,
            "gen_ai.operation.name": "chat",
            "gen_ai.agent.name": None,
            "gen_ai.request.model": model,
            "gen_ai.provider.name": self._given.get(
                "gen_ai.provider.name", start and start.provider
            ),
            "gen_ai.response.time_to_first_chunk": answer.time_to_first,
        }
        span = self._tracer.start_span(
            span_name("chat", attributes["gen_ai.request.model"]),
            self._inside(call),
            SpanKind.CLIENT,
            _known(attributes),
            start_time=self._wall_time(answer.begun),
        )
        if answer.time_to_first is not None:
            first = answer.begun + answer.time_to_first
            span.add_event("first_token", timestamp=self._wall_time(first))
        reasons = [] if answer.finish_reason is None else [answer.finish_reason]
        _describe(span, start, answer.used, reasons)
        self._finish(span, answer.outcome, answer.error, self._wall_time(answer.ended))

    def called(self, call: Call) -> None:
        span = self._span_of(call)
        del self._spans[call.path]
        self._finish(span, call.outcome, call.error, self._wall_time(call.ended))

    def ended(self, outcome: Outcome, error: Exception | None = None) -> None:
        self.has_ended = True
        reasons = self.finish_reasons if self.is_run else self.finish_reasons[-1:]
        _describe(self.span, None if self.is_run else self.start, self.used, reasons)
        kind = None if error is None else type(error).__name__
        end_time = self._wall_time(self._clock()) if self.is_run else None  # not before the others
        self._finish(self.span, outcome, kind, end_time, message=str(error))

    def _span_of(self, call: Call) -> Span:
        """Return the span of a tool call."""
        from opentelemetry.trace import SpanKind

        span = self._spans.get(call.path)
        if span is None:
            attributes = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": call.name,
                "gen_ai.tool.call.id": call.id,
                "gen_ai.tool.type": "function",
            }
            span = self._spans[call.path] = self._tracer.start_span(
                span_name("execute_tool", call.name),
                self._inside(self.run.call_around(call.source)),
                SpanKind.INTERNAL,
                attributes,
                start_time=self._wall_time(call.begun),
            )
        return span

    def _inside(self, call: Call | None) -> Context:
        """Return the context of what happens inside a tool, or else in the stream itself."""
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(self.span if call is None else self._span_of(call), self.parent)

    def _wall_time(self, moment: float) -> int:
        """Return a time of the clock in Unix nanoseconds: in the order of that clock."""
        return self._subscribed + int((moment - self._begun) * 1e9)

    def _finish(
        self,
        span: Span,
        outcome: Outcome,
        error: str | None,
        end_time: int | None = None,
        message: str | None = None,
    ) -> None:
        from opentelemetry.trace import StatusCode

        span.set_attribute("rxllm.outcome", outcome)
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR, message)
        span.end(end_time)


def span_name(operation: str, what: Any) -> str:
    """Return the name of a span: the operation, and what it is done with if known."""
    return operation if what is None else f"{operation} {what}"


def given_attributes(
    agent: str | None,
    model: str | None,
    provider: str | None,
    request: Request | None,
    attributes: Mapping[str, Value],
) -> dict[str, Any]:
    """Return the attributes that are known before the model answers."""
    return _known(
        {
            "gen_ai.operation.name": "chat" if agent is None else "invoke_agent",
            "gen_ai.agent.name": agent,
            "gen_ai.request.stream": True,
            "gen_ai.request.model": model,
            "gen_ai.provider.name": provider,
            **(_options(request) if request is not None else {}),
            **attributes,
        }
    )


def _describe(span: Span, start: Start | None, used: Usage | None, reasons: Sequence[str]) -> None:
    """Set the attributes that are known at the end."""
    for name, attribute in _USAGE.items():
        value = getattr(used, name, None)
        if value is not None:
            span.set_attribute(attribute, value)
    if start is not None:
        span.set_attribute("gen_ai.response.model", start.model)
        span.set_attribute("gen_ai.response.id", start.request_id)
    if reasons:
        span.set_attribute("gen_ai.response.finish_reasons", tuple(reasons))


def _options(request: Request) -> dict[str, Any]:
    return {
        **{f"gen_ai.request.{name}": getattr(request, name) for name in _OPTIONS},
        "gen_ai.request.reasoning.level": request.reasoning,
        "gen_ai.request.stop_sequences": request.stop or None,
        "gen_ai.output.type": None if request.response_format is None else "json",
    }


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
