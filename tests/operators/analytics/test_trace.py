"""`trace`: a span per stream, following the OpenTelemetry conventions for generative AI."""

import builtins
from collections.abc import AsyncIterator
from typing import Any

import pytest
import reactivex as rx
from opentelemetry import trace as telemetry
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from reactivex import operators as rx_ops

import rxllm
from rxllm import operators as ops
from rxllm.chunks import (
    ApprovalRequest,
    Batch,
    Chunk,
    End,
    ErrorInfo,
    Notice,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
)
from rxllm.errors import RateLimitError
from rxllm.operators.analytics._trace import _parent
from rxllm.requests import as_request
from rxllm.sinks import collect
from rxllm.testing import Marbles, run_virtual
from tests.spans import Spans, attributes_of, seconds_of


@pytest.fixture
def spans() -> Spans:
    return Spans()


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
        ("agent", 3),
        ("model", 3),
        ("provider", 3),
    ],
)
def test_invalid_arguments_raise_at_the_call(name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be"):
        ops.trace(**{name: wrong})


# Runs


def call(call_id: str, name: str = "look", source: str | None = None) -> ToolCall:
    return ToolCall(call_id, name, '{"secret": 1}', complete=True, source=source)


RUN: dict[str, Chunk] = {
    "S": Start("id-1", "gpt", "openai"),
    "c": call("1"),
    "U": Usage(10, 5, cost=0.5),
    "M": End("tool_calls", more=True),
    "r": ToolResult("1", "look", "secret"),
    "f": ToolResult("1", "look", error=ErrorInfo("ToolError", "secret")),
    "T": Start("id-2", "gpt", "openai"),
    "V": Usage(20, 7, cost=0.25),
}


def test_a_run_is_a_tree_of_its_answers_and_tools(marbles: Marbles, spans: Spans) -> None:
    stream = marbles.cold("--S-a-c-U-M---r--T-b-V-E|", lookup=RUN)
    marbles.run(stream.pipe(ops.trace(spans.tracer, agent="helper")))
    assert spans.tree == [
        "invoke_agent helper",
        "  chat gpt",
        "  execute_tool look",
        "  chat gpt",
    ]
    first, tool, second, run = spans.ended
    assert (run.kind, tool.kind, first.kind) == (
        *(SpanKind.INTERNAL, SpanKind.INTERNAL),
        SpanKind.CLIENT,
    )
    assert attributes_of(run) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "helper",
        "gen_ai.request.stream": True,
        "gen_ai.request.model": "gpt",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.time_to_first_chunk": 4.0,
        "gen_ai.response.finish_reasons": ("tool_calls", "stop"),
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 12,
        "rxllm.usage.cost": 0.75,
        "rxllm.outcome": "completed",
    }
    assert attributes_of(tool) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "gen_ai.tool.call.id": "1",
        "gen_ai.tool.type": "function",
        "rxllm.outcome": "completed",
    }
    assert attributes_of(second) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.stream": True,
        "gen_ai.request.model": "gpt",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.id": "id-2",
        "gen_ai.response.model": "gpt",
        "gen_ai.response.time_to_first_chunk": 5.0,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 7,
        "rxllm.usage.cost": 0.25,
        "rxllm.outcome": "completed",
    }
    assert attributes_of(first)["gen_ai.response.id"] == "id-1"
    assert [event.name for event in second.events] == ["first_token"]


def test_the_spans_of_a_run_last_as_long_as_its_answers_and_tools(
    marbles: Marbles, spans: Spans
) -> None:
    """An answer begins when it is asked for, a tool with the end of the answer that calls it."""
    stream = marbles.cold("--S-a-c-U-M---r--T-b-V-E|", lookup=RUN)
    marbles.run(stream.pipe(ops.trace(spans.tracer)))
    first, tool, second, _ = map(seconds_of, spans.ended)
    assert first == pytest.approx(10, abs=0.1)
    assert tool == pytest.approx(4, abs=0.1)
    assert second == pytest.approx(9, abs=0.1)


def test_without_a_name_a_stream_is_a_run_from_the_first_answer_that_others_follow(
    marbles: Marbles, spans: Spans
) -> None:
    stream = marbles.cold("S-a-c-U-M-r-T-b-V-E|", lookup=RUN)
    marbles.run(stream.pipe(ops.trace(spans.tracer)))
    assert spans.tree == ["invoke_agent", "  chat gpt", "  execute_tool look", "  chat gpt"]
    recorded = attributes_of(spans.ended[-1])
    assert recorded["gen_ai.operation.name"] == "invoke_agent"
    assert "gen_ai.response.id" not in recorded


def test_a_named_run_of_one_answer_has_a_span_for_it(marbles: Marbles, spans: Spans) -> None:
    marbles.run(marbles.cold("S-a-E|").pipe(ops.trace(spans.tracer, agent="helper")))
    assert spans.tree == ["invoke_agent helper", "  chat model"]


def test_a_failing_tool_fails_its_span_alone(marbles: Marbles, spans: Spans) -> None:
    marbles.run(marbles.cold("S-c-M-f-T-b-E|", lookup=RUN).pipe(ops.trace(spans.tracer)))
    tool = spans.named("execute_tool look")
    assert attributes_of(tool)["error.type"] == "ToolError"
    assert attributes_of(tool)["rxllm.outcome"] == "failed"
    assert tool.status.status_code is StatusCode.ERROR
    others = [span for span in spans.ended if span is not tool]
    assert {span.status.status_code for span in others} == {StatusCode.UNSET}
    assert all("secret" not in span.to_json() for span in spans.ended)


def test_what_runs_inside_a_tool_is_below_it(marbles: Marbles, spans: Spans) -> None:
    inside: dict[str, Chunk] = {
        **RUN,
        "1": Start("id-3", "small", source="1"),
        "x": Token("x", source="1"),
        "d": call("1", "dig", "1"),
        "u": Usage(1, 1, source="1"),
        "m": End("tool_calls", more=True, source="1"),
        "q": ToolResult("1", "dig", "deep", source="1"),
        "2": Start("id-4", "small", source="1"),
        "e": End("stop", source="1"),
    }
    diagram = "S-c-M-1-x-d-u-m-q-2-x-u-e-r-T-b-V-E|"
    marbles.run(marbles.cold(diagram, lookup=inside).pipe(ops.trace(spans.tracer)))
    assert spans.tree == [
        "invoke_agent",
        "  chat gpt",
        "  execute_tool look",
        "    chat small",
        "    execute_tool dig",
        "    chat small",
        "  chat gpt",
    ]
    recorded = attributes_of(spans.ended[-1])
    assert recorded["gen_ai.request.model"] == "gpt"
    assert recorded["gen_ai.response.finish_reasons"] == ("tool_calls", "stop")
    assert recorded["gen_ai.usage.output_tokens"] == 9  # also what its tools have used


def test_a_tool_that_ends_ends_what_is_open_inside_it(marbles: Marbles, spans: Spans) -> None:
    inside: dict[str, Chunk] = {
        **RUN,
        "1": Start("id-3", "small", source="1"),
        "d": call("2", "dig", "1"),
        "m": End("tool_calls", more=True, source="1"),
        "3": Start("id-4", "tiny", source="1/2"),
    }
    marbles.run(marbles.cold("S-c-M-1-d-m-3-f|", lookup=inside).pipe(ops.trace(spans.tracer)))
    assert spans.tree == [
        "invoke_agent",
        "  chat gpt",
        "  execute_tool look",
        "    chat small",
        "    execute_tool dig",
        "      chat tiny",
    ]
    outcomes = [attributes_of(span)["rxllm.outcome"] for span in spans.ended]
    assert outcomes == ["completed", "completed", "cancelled", "cancelled", "failed", "completed"]


def test_a_run_that_begins_with_results_has_their_spans(marbles: Marbles, spans: Spans) -> None:
    """Its calls are those of an earlier run, and have been made since the subscription."""
    nested = {**RUN, "1": Start("id-3", "small", source="1"), "e": End("stop", source="1")}
    stream = marbles.cold("1-e-r-T-b-E|", lookup=nested).pipe(ops.trace(spans.tracer))
    marbles.run(stream)
    assert spans.tree == [
        "invoke_agent",
        "  execute_tool look",
        "    chat small",
        "  chat gpt",
    ]
    assert seconds_of(spans.ended[1]) == pytest.approx(4, abs=0.1)
    assert seconds_of(spans.ended[2]) == pytest.approx(6, abs=0.1)


def test_calls_that_wait_for_an_approval_have_no_span(marbles: Marbles, spans: Spans) -> None:
    chunks = {**RUN, "d": call("2", "pay"), "A": ApprovalRequest("2", "token")}
    chunks["E"] = End("tool_calls")
    stream = marbles.cold("S-c-d-M-r-(A,E)|", lookup=chunks)
    marbles.run(stream.pipe(ops.trace(spans.tracer)))
    assert spans.tree == ["invoke_agent", "  chat gpt", "  execute_tool look"]
    assert spans.begun == 3


def test_disposal_amid_tools_ends_their_spans(marbles: Marbles, spans: Spans) -> None:
    chunks = {**RUN, "d": call("2", "dig")}
    stream = marbles.cold("S-c-d-M-r-----T-E|", lookup=chunks).pipe(ops.trace(spans.tracer))
    recording = marbles.subscribe(stream)
    marbles.advance_to(10)
    assert [span.name for span in spans.ended] == ["chat gpt", "execute_tool look"]
    recording.dispose()
    assert spans.tree == ["invoke_agent", "  chat gpt", "  execute_tool look", "  execute_tool dig"]
    outcomes = [attributes_of(span)["rxllm.outcome"] for span in spans.ended[2:]]
    assert outcomes == ["cancelled", "cancelled"]


@pytest.mark.parametrize("diagram", ["S-c-M-r-#", "S-c-M-r-T-#"])
def test_a_model_that_fails_in_a_step_fails_the_answer_and_the_run(
    marbles: Marbles, spans: Spans, diagram: str
) -> None:
    """Also if it fails before its `Start`."""
    source = marbles.cold(diagram, lookup=RUN, error=RateLimitError("slow down"))
    marbles.run(source.pipe(ops.trace(spans.tracer)))
    *_, answer, run = spans.ended
    for span in (answer, run):
        assert attributes_of(span)["error.type"] == "RateLimitError"
        assert span.status.status_code is StatusCode.ERROR
    assert answer.name.startswith("chat")
    assert len(spans.ended) == 4


def test_an_error_after_the_last_answer_is_that_of_the_run(marbles: Marbles, spans: Spans) -> None:
    source = marbles.cold("S-c-M-r-T-b-E-#", lookup=RUN, error=ValueError("broken"))
    marbles.run(source.pipe(ops.trace(spans.tracer)))
    failed = [span.name for span in spans.ended if "error.type" in attributes_of(span)]
    assert (failed, len(spans.ended)) == (["invoke_agent"], 4)


def test_the_time_to_load_a_local_model_delays_no_answer(marbles: Marbles, spans: Spans) -> None:
    chunks = {**RUN, "l": Notice("loading")}
    stream = marbles.cold("l---S-c-M-r-l-----T-b-E|", lookup=chunks)
    marbles.run(stream.pipe(ops.trace(spans.tracer)))
    first, _, second, _ = map(attributes_of, spans.ended)
    assert first["gen_ai.response.time_to_first_chunk"] == 2.0
    assert second["gen_ai.response.time_to_first_chunk"] == 4.0


def test_an_answer_that_restarts_is_one_span_with_the_usage_of_all_attempts(
    marbles: Marbles, spans: Spans
) -> None:
    stream = marbles.cold("S-a-U-R-T-c-V-M-r-T-b-E|", lookup=RUN)
    marbles.run(stream.pipe(ops.trace(spans.tracer)))
    assert [span.name for span in spans.ended] == [
        *("chat gpt", "execute_tool look", "chat gpt", "invoke_agent")
    ]
    first = attributes_of(spans.ended[0])
    assert (first["gen_ai.usage.output_tokens"], first["gen_ai.response.id"]) == (12, "id-2")
    assert [event.name for event in spans.ended[-1].events] == ["first_token", "restart"]


def test_a_call_that_a_restart_takes_back_has_no_span(marbles: Marbles, spans: Spans) -> None:
    chunks = {**RUN, "d": call("2", "dig")}
    stream = marbles.cold("S-d-R-T-c-M-r-T-b-#", lookup=chunks, error=ValueError("broken"))
    marbles.run(stream.pipe(ops.trace(spans.tracer)))
    assert "execute_tool dig" not in {span.name for span in spans.ended}


def test_a_message_that_joins_a_run_is_followed_by_another_answer(
    marbles: Marbles, spans: Spans
) -> None:
    chunks = {**RUN, "M": End("stop", more=True), "J": Steering("secret")}
    stream = marbles.cold("S-a-M---J-T-b-E|", lookup=chunks)
    marbles.run(stream.pipe(ops.trace(spans.tracer)))
    assert [span.name for span in spans.ended] == ["chat gpt", "chat gpt", "invoke_agent"]
    assert seconds_of(spans.ended[1]) == pytest.approx(6, abs=0.1)  # since the message


def test_a_merge_of_runs_is_one_tree(marbles: Marbles, spans: Spans) -> None:
    left = marbles.cold("S-c-M-r-T-b-E|", lookup=RUN, source="left")
    right = marbles.cold("S-b-E|", lookup=RUN, source="right")
    marbles.run(rx.merge(left, right).pipe(ops.trace(spans.tracer)))
    assert spans.tree[0] == "invoke_agent"
    assert sorted(spans.tree[1:]) == [*["  chat gpt"] * 3, "  execute_tool look"]
    recorded = [attributes_of(span) for span in spans.ended if span.name == "chat gpt"]
    assert {each["rxllm.outcome"] for each in recorded} == {"completed"}


def test_a_merge_of_runs_that_fails_has_no_answer_that_nobody_asked_for(
    marbles: Marbles, spans: Spans
) -> None:
    left = marbles.cold("S-c-M-r-----#", lookup=RUN, error=ValueError(), source="left")
    right = marbles.cold("S-E|", lookup=RUN, source="right")
    marbles.run(rx.merge(left, right).pipe(ops.trace(spans.tracer)))
    assert sorted(spans.tree[1:]) == ["  chat gpt", "  chat gpt", "  execute_tool look"]


def test_the_requested_model_and_the_options_are_those_of_each_answer(
    marbles: Marbles, spans: Spans
) -> None:
    request = as_request("secret", max_tokens=9)
    given = {"gen_ai.conversation.id": "c-1"}
    operator = ops.trace(spans.tracer, model="alias", request=request, attributes=given)
    marbles.run(marbles.cold("S-c-M-r-T-b-E|", lookup=RUN).pipe(operator))
    first, _, second, run = spans.ended
    assert (first.name, second.name) == ("chat alias", "chat alias")
    for span in (first, second, run):
        recorded = attributes_of(span)
        assert recorded["gen_ai.request.max_tokens"] == 9
        assert recorded["gen_ai.conversation.id"] == "c-1"
    assert attributes_of(first)["gen_ai.response.model"] == "gpt"


def test_an_unsampled_run_has_no_spans(marbles: Marbles) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    operator = ops.trace(provider.get_tracer("test"))
    stream = marbles.cold("S-c-M-r-T-b-E|", lookup=RUN).pipe(operator)
    assert marbles.run(stream)[-1][0] == 13.0
    assert exporter.get_finished_spans() == ()


INSIDE: dict[str, Chunk] = {
    **RUN,
    "d": call("2", "dig"),
    "1": Start("id-3", "small", source="1"),
    "x": Token("x", source="1"),
    "p": call("1", "probe", "1"),
    "m": End("tool_calls", more=True, source="1"),
    "q": ToolResult("1", "probe", 1, source="1"),
    "2": Start("id-4", "small", source="1"),
    "e": End("stop", source="1"),
    "s": ToolResult("2", "dig", "deep"),
}


@pytest.mark.parametrize("agent", [None, "helper"])
@pytest.mark.parametrize("end", ["|", "#", "disposal"])
@pytest.mark.parametrize("length", range(18))
def test_wherever_a_run_ends_each_span_has_ended_below_another_one(
    marbles: Marbles, spans: Spans, length: int, end: str, agent: str | None
) -> None:
    chunks = [*"ScdM1xpmsq2xerTaE"[:length], "" if end == "disposal" else end]
    source = marbles.cold("-".join(chunks), lookup=INSIDE)
    recording = marbles.subscribe(source.pipe(ops.trace(spans.tracer, agent=agent)))
    marbles.advance_to(60)
    recording.dispose()
    assert len(recording.chunks) == length
    assert spans.begun == len(spans.ended) == len(spans.tree)
    assert len([line for line in spans.tree if not line.startswith(" ")]) == 1
    ends = [span.end_time or 0 for span in spans.ended]
    assert max(ends) == ends[-1]  # that of the stream
    outcome = {"|": "completed", "#": "failed", "disposal": "cancelled"}[end]
    assert attributes_of(spans.ended[-1])["rxllm.outcome"] == outcome
