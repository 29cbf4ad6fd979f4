"""`trace`: a span per stream, following the OpenTelemetry conventions for generative AI."""

import builtins
from collections.abc import AsyncIterator
from typing import Any

import pytest
import reactivex as rx
from opentelemetry import trace as telemetry
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from reactivex import operators as rx_ops

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, ErrorInfo, Notice, Start, Token, Usage
from rxllm.errors import RateLimitError
from rxllm.operators.analytics._trace import _parent
from rxllm.requests import as_request
from rxllm.sinks import collect
from rxllm.testing import Marbles, run_virtual


class Spans:
    """A tracer and its ended spans."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    @property
    def ended(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def only(self) -> ReadableSpan:
        (span,) = self.ended
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_span_is_named_after_the_model_and_describes_the_answer(
    marbles: Marbles, spans: Spans
) -> None:
    chunks = {"S": Start("id-1", "gpt", "openai"), "U": Usage(7, 5, 3, 2, 0.25)}
    stream = marbles.cold("S--a-b-U-E|", lookup=chunks).pipe(ops.trace(spans.tracer))
    marbles.run(stream)
    assert (spans.only.name, spans.only.kind) == ("chat gpt", SpanKind.CLIENT)
    assert attributes_of(spans.only) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.stream": True,
        "gen_ai.request.model": "gpt",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.id": "id-1",
        "gen_ai.response.model": "gpt",
        "gen_ai.response.time_to_first_chunk": 3.0,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "rxllm.usage.cost": 0.25,
        "rxllm.outcome": "completed",
    }
    assert [event.name for event in spans.only.events] == ["first_token"]
    assert spans.only.status.status_code is StatusCode.UNSET


def test_known_attributes_are_set_from_the_start(marbles: Marbles, spans: Spans) -> None:
    request = as_request(
        "secret", max_tokens=9, temperature=0, top_k=4, seed=0, stop=["END"], response_format="json"
    )
    operator = ops.trace(
        spans.tracer,
        model="gpt-4",
        provider="azure",
        request=request,
        attributes={"gen_ai.conversation.id": "c-1"},
    )
    marbles.run(marbles.cold("#").pipe(operator))
    recorded = attributes_of(spans.only)
    assert spans.only.name == "chat gpt-4"
    assert recorded["gen_ai.provider.name"] == "azure"
    assert (recorded["gen_ai.request.temperature"], recorded["gen_ai.request.seed"]) == (0, 0)
    assert (recorded["gen_ai.request.max_tokens"], recorded["gen_ai.request.top_k"]) == (9, 4.0)
    assert recorded["gen_ai.request.stop_sequences"] == ("END",)
    assert recorded["gen_ai.output.type"] == "json"
    assert recorded["gen_ai.conversation.id"] == "c-1"
    assert "gen_ai.request.top_p" not in recorded


def test_the_response_model_may_differ_from_the_requested_one(
    marbles: Marbles, spans: Spans
) -> None:
    marbles.run(marbles.cold("S|").pipe(ops.trace(spans.tracer, model="alias")))
    recorded = attributes_of(spans.only)
    assert spans.only.name == "chat alias"
    assert (recorded["gen_ai.request.model"], recorded["gen_ai.response.model"]) == (
        "alias",
        "model",
    )


def test_a_failure_sets_the_status_of_the_span(marbles: Marbles, spans: Spans) -> None:
    error = RateLimitError("slow down")
    events = marbles.run(marbles.cold("S-a-#", error=error).pipe(ops.trace(spans.tracer)))
    assert events[-1] == (4.0, error)
    assert attributes_of(spans.only)["error.type"] == "RateLimitError"
    assert spans.only.status.status_code is StatusCode.ERROR
    assert spans.only.status.description == "slow down"


def test_disposing_early_ends_the_span(marbles: Marbles, spans: Spans) -> None:
    source = marbles.cold("S-a-b-c|")
    recording = marbles.subscribe(source.pipe(ops.trace(spans.tracer)))
    marbles.advance_to(3)
    assert spans.ended == ()
    recording.dispose()
    assert attributes_of(spans.only)["rxllm.outcome"] == "cancelled"
    assert spans.only.status.status_code is StatusCode.UNSET
    assert (source.subscriptions, marbles.timers) == ([(0.0, 3.0)], [])


def test_notices_are_events_and_usage_covers_all_attempts(marbles: Marbles, spans: Spans) -> None:
    chunks = {
        "U": Usage(10, 4, cost=0.5),
        "V": Usage(10, 5, cost=0.5),
        "n": Notice("retry", attempt=2, delay=1.5, error=ErrorInfo("ServerError", "down")),
    }
    diagram = "S-a-U-V-n-S-b-V-E|"
    marbles.run(marbles.cold(diagram, lookup=chunks).pipe(ops.trace(spans.tracer)))
    retry = spans.only.events[1]
    assert retry.name == "retry"
    assert dict(retry.attributes or {}) == {"attempt": 2, "delay": 1.5, "error.type": "ServerError"}
    recorded = attributes_of(spans.only)
    assert (recorded["gen_ai.usage.input_tokens"], recorded["gen_ai.usage.output_tokens"]) == (
        20,
        10,
    )
    assert recorded["rxllm.usage.cost"] == 1.0


def test_no_text_is_recorded(marbles: Marbles, spans: Spans) -> None:
    operator = ops.trace(spans.tracer, request=as_request("secret question"))
    batch = Batch((Token("secret"),), "secret")
    marbles.run(marbles.cold("S-secret-B-E|", lookup={"B": batch}).pipe(operator))
    assert "secret" not in spans.only.to_json()


def test_the_current_span_at_the_subscription_is_the_parent(marbles: Marbles, spans: Spans) -> None:
    stream = marbles.cold("S-a|").pipe(ops.trace(spans.tracer))
    with spans.tracer.start_as_current_span("request") as parent:
        marbles.subscribe(stream)
        assert telemetry.get_current_span() is parent
    marbles.advance_to(9)
    child = spans.ended[1]
    assert child.parent == parent.get_span_context()


def test_it_is_the_current_span_while_upstream_is_subscribed_to(
    marbles: Marbles, spans: Spans
) -> None:
    """So that the requests of an instrumented HTTP client become its children."""

    def ask(*_: object) -> rx.Observable[Chunk]:
        with spans.tracer.start_as_current_span("POST"):
            return marbles.cold("S-a|")

    marbles.run(rx.defer(ask).pipe(ops.trace(spans.tracer)))
    post, chat = spans.ended
    assert post.parent == chat.context


def test_attempts_are_children_of_the_operation_and_not_of_one_another(spans: Spans) -> None:
    """A retry subscribes from inside the task that the first attempt started."""

    async def attempt() -> AsyncIterator[Chunk]:
        yield Start("1", "model")
        raise RateLimitError("slow down")

    async def main() -> None:
        stream = rxllm.from_async(attempt).pipe(ops.trace(spans.tracer), rx_ops.retry(3))
        with spans.tracer.start_as_current_span("request"), pytest.raises(RateLimitError):
            await collect(stream)

    run_virtual(main())
    *attempts, request = spans.ended
    assert [attempt.parent for attempt in attempts] == [request.context] * 3


def test_a_stream_that_follows_in_the_same_task_is_not_a_child(spans: Spans) -> None:
    async def answer() -> AsyncIterator[Chunk]:
        yield Token("Hi")
        yield End("stop")

    stream = rxllm.from_async(answer).pipe(ops.trace(spans.tracer))
    run_virtual(collect(rx.concat(stream, stream)))
    assert [span.parent for span in spans.ended] == [None, None]


def test_an_unsampled_span_is_the_parent_of_inner_spans(marbles: Marbles) -> None:
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
    parents: list[Any] = []

    def ask(*_: object) -> rx.Observable[Chunk]:
        parents.append(_parent())
        return marbles.cold("S-a|")

    marbles.run(rx.defer(ask).pipe(ops.trace(tracer)))
    assert not telemetry.get_current_span(parents[0]).is_recording()
    assert telemetry.get_current_span(parents[0]).get_span_context().is_valid


def test_everything_is_passed_on_and_demand_passes_through(marbles: Marbles, spans: Spans) -> None:
    stream = marbles.cold("S-a-R-b-E|").pipe(ops.trace(spans.tracer))
    assert marbles.run(stream, until=50) == marbles.expect("S-a-R-b-E|")
    marbles.valve.close()
    source = marbles.cold("a-b|", demand=True)
    recording = marbles.subscribe(source.pipe(ops.trace(spans.tracer)))
    marbles.advance_to(99)
    assert recording.events == []


def test_a_stream_without_events_has_an_open_span(marbles: Marbles, spans: Spans) -> None:
    assert marbles.run(marbles.cold("-").pipe(ops.trace(spans.tracer))) == []
    assert spans.ended == ()


def test_each_subscription_has_a_span(marbles: Marbles, spans: Spans) -> None:
    stream = marbles.cold("S-a|").pipe(ops.trace(spans.tracer))
    marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert [span.name for span in spans.ended] == ["chat model", "chat model"]


def test_a_merge_is_one_span_with_the_usage_of_both(marbles: Marbles, spans: Spans) -> None:
    left = marbles.cold("S-a-U|", lookup={"U": Usage(1, 2)}, source="left")
    right = marbles.cold("S-a-U|", lookup={"U": Usage(10, 20)}, source="right")
    marbles.run(rx.merge(left, right).pipe(ops.trace(spans.tracer)))
    assert attributes_of(spans.only)["gen_ai.usage.output_tokens"] == 22


class Broken:
    """A tracer that fails."""

    def start_span(self, *_: object, **__: object) -> Any:
        raise OSError("no exporter")


def test_a_tracer_that_raises_fails_the_stream(marbles: Marbles) -> None:
    source = marbles.cold("S-a|")
    broken: Any = Broken()
    events = marbles.run(source.pipe(ops.trace(broken)))
    assert [repr(event) for _, event in events] == ["OSError('no exporter')"]
    assert source.subscriptions == []


def test_without_opentelemetry_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def importing(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name)
        return original(name, *arguments, **options)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(ImportError, match=r"pip install 'rxllm\[tracing\]'"):
        ops.trace()


def test_an_invalid_tracer_raises_at_the_call() -> None:
    with pytest.raises(TypeError, match="tracer"):
        ops.trace("tracer")  # type: ignore[arg-type]


def test_without_a_tracer_the_global_one_is_used(marbles: Marbles) -> None:
    """It does nothing until the application sets a provider."""
    assert marbles.run(marbles.cold("S-a|").pipe(ops.trace())) == marbles.expect("S-a|")


def test_in_a_merge_a_restart_of_one_source_keeps_the_usage_of_others(
    marbles: Marbles, spans: Spans
) -> None:
    """Each attempt is counted once, in any order."""
    left = marbles.cold("a-U-R-S-b-U|", lookup={"U": Usage(10, 2)}, source="left")
    right = marbles.cold("x-U---|", lookup={"U": Usage(7, 3)}, source="right")
    marbles.run(rx.merge(left, right).pipe(ops.trace(spans.tracer)), until=99)
    used = attributes_of(spans.only)
    assert used["gen_ai.usage.input_tokens"] == 27
    assert used["gen_ai.usage.output_tokens"] == 7


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("tracer", telemetry.Tracer),
        ("tracer", "rxllm"),
        ("request", "Hi"),
        ("attributes", ["a"]),
        ("model", 3),
        ("provider", 3),
    ],
)
def test_invalid_arguments_raise_at_the_call(name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be"):
        ops.trace(**{name: wrong})
