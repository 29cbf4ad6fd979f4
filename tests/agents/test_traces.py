"""Traces, metrics, logs and figures of the runs of agents."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry import trace as telemetry
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

import rxllm
from rxllm import Message
from rxllm import operators as ops
from rxllm.agents import Agent, FunctionTool, Inbox, ToolError
from rxllm.chunks import End, Usage
from rxllm.errors import OverloadedError
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import StreamAnalytics
from rxllm.piped_model import piped
from rxllm.testing import no_leaks, run_virtual
from rxllm.valve import StreamScheduler
from tests.agents.runs import calling, play
from tests.spans import Spans, attributes_of, seconds_of


@pytest.fixture
def spans() -> Spans:
    return Spans()


async def add(a: int, b: int) -> int:
    await asyncio.sleep(2)
    return a + b


async def fail(number: int) -> str:
    await asyncio.sleep(1)
    raise ToolError(f"{number} is a secret")


SUM = ("s", "add", '{"a": 1, "b": 2}')
FAILING = ("f", "fail", '{"number": 7}')


def test_a_run_with_a_nested_agent_and_a_failing_tool_is_a_tree(spans: Spans) -> None:
    inner = Agent(ScriptedModel(calling(SUM), "It is 3.", name="small"), [add])
    calls = [("m", "maths", '{"task": "1+2?"}'), FAILING]
    model = ScriptedModel(calling(*calls), "Three.", name="large")
    agent = Agent(model, [inner.as_tool("maths", "Does sums."), fail], name="helper")

    async def main() -> Any:
        async with no_leaks():
            stream = agent.stream("1+2?")
            return await play(stream.pipe(ops.trace(spans.tracer, agent=agent.name)))

    _, result = run_virtual(main())
    assert result.text == "Three."
    assert spans.tree == [
        "invoke_agent helper",
        "  chat large",
        "  execute_tool fail",
        "  execute_tool maths",
        "    chat small",
        "    execute_tool add",
        "    chat small",
        "  chat large",
    ]
    run = attributes_of(spans.named("invoke_agent helper"))
    assert run["gen_ai.response.finish_reasons"] == ("tool_calls", "stop")
    assert run["gen_ai.usage.output_tokens"] == result.usage.output_tokens
    assert attributes_of(spans.named("execute_tool fail"))["error.type"] == "ToolError"
    assert attributes_of(spans.named("execute_tool maths"))["gen_ai.tool.call.id"] == "m"
    assert all("secret" not in span.to_json() for span in spans.ended)
    failed = [span.name for span in spans.ended if span.status.status_code is StatusCode.ERROR]
    assert failed == ["execute_tool fail"]


def test_disposal_amid_tools_ends_all_spans(spans: Spans) -> None:
    nested = ScriptedModel("word " * 50, by="word", delay=1, name="small")
    calls = [("m", "ask", '{"task": "?"}'), SUM, ("l", "long", "{}")]

    async def long() -> str:
        await asyncio.sleep(100)
        return "never"

    model = ScriptedModel(calling(*calls), "never", name="large")
    agent = Agent(model, [Agent(nested).as_tool("ask", "A helper."), add, long])

    async def main() -> None:
        async with no_leaks():
            scheduler = StreamScheduler(asyncio.get_running_loop())
            stream = agent.stream("Go").pipe(ops.trace(spans.tracer))
            subscription = stream.subscribe(lambda _: None, scheduler=scheduler)
            await asyncio.sleep(3.5)
            subscription.dispose()
            await scheduler.settle()

    run_virtual(main())
    assert sorted(spans.tree) == sorted(
        [
            "invoke_agent",
            "  chat large",
            "  execute_tool ask",
            "    chat small",
            "  execute_tool add",
            "  execute_tool long",
        ]
    )
    outcomes = {span.name: attributes_of(span)["rxllm.outcome"] for span in spans.ended}
    assert outcomes == {
        "chat large": "completed",
        "execute_tool add": "completed",
        "chat small": "cancelled",
        "execute_tool ask": "cancelled",
        "execute_tool long": "cancelled",
        "invoke_agent": "cancelled",
    }


def test_a_tool_that_takes_too_long_ends_with_what_runs_inside_it(spans: Spans) -> None:
    nested = ScriptedModel("word " * 50, by="word", delay=1, name="small")
    ask = Agent(nested).as_tool("ask", "A helper.", timeout=3)
    model = ScriptedModel(calling(("m", "ask", '{"task": "?"}')), "Done.", name="large")
    run_virtual(play(Agent(model, [ask]).stream("Go").pipe(ops.trace(spans.tracer))))
    assert attributes_of(spans.named("execute_tool ask"))["error.type"] == "ToolTimeoutError"
    assert attributes_of(spans.named("chat small"))["rxllm.outcome"] == "cancelled"
    assert spans.tree[2:4] == ["  execute_tool ask", "    chat small"]


def test_an_answer_that_is_retried_inside_the_agent_is_one_span(spans: Spans) -> None:
    script: list[Any] = [Usage(3, 1), OverloadedError("busy")]
    model = ScriptedModel(calling(SUM), script, "It is 3.", name="large")
    retried = piped(model, ops.retry_with_backoff(3, initial=1, jitter=False))
    stream = Agent(retried, [add]).stream("1+2?").pipe(ops.trace(spans.tracer, agent="helper"))
    run_virtual(play(stream))
    assert spans.tree == [
        "invoke_agent helper",
        "  chat large",
        "  execute_tool add",
        "  chat large",
    ]
    (event,) = [event for event in spans.ended[-1].events if event.name == "retry"]
    assert (event.attributes or {})["error.type"] == "OverloadedError"


def test_a_run_that_fails_in_its_second_step(spans: Spans) -> None:
    model = ScriptedModel(calling(SUM), [OverloadedError("busy")], name="large")
    stream = Agent(model, [add]).stream("1+2?").pipe(ops.trace(spans.tracer))
    with pytest.raises(OverloadedError):
        run_virtual(play(stream))
    failed = [span.name for span in spans.ended if attributes_of(span).get("error.type")]
    assert failed == ["chat large", "invoke_agent"]


def test_a_run_that_continues_after_an_approval_has_the_span_of_its_call(spans: Spans) -> None:
    tool = FunctionTool(add, approval="ask")
    model = ScriptedModel(calling(SUM), "It is 3.", name="large")
    agent = Agent(model, [tool], name="helper")

    async def main() -> None:
        traced = agent.stream("1+2?").pipe(ops.trace(spans.tracer, agent="helper"))
        first = await traced
        assert spans.tree == ["invoke_agent helper", "  chat large"]
        approvals = {first.pending[0].token: True}
        history = (Message("user", "1+2?"), *first.messages)
        await agent.stream(history, approvals=approvals).pipe(ops.trace(spans.tracer))

    run_virtual(main())
    assert spans.tree == [
        "invoke_agent helper",
        "  chat large",
        "invoke_agent",
        "  execute_tool add",
        "  chat large",
    ]
    assert seconds_of(spans.named("execute_tool add")) == pytest.approx(2)


def test_a_run_that_reaches_its_last_step_says_so(spans: Spans) -> None:
    model = ScriptedModel(calling(SUM), calling(SUM), name="large")
    run_virtual(play(Agent(model, [add], max_steps=2).stream("?").pipe(ops.trace(spans.tracer))))
    reasons = attributes_of(spans.named("invoke_agent"))["gen_ai.response.finish_reasons"]
    assert reasons == ("tool_calls", "tool_calls", "limit")


def test_messages_that_join_a_run_are_not_recorded(spans: Spans) -> None:
    inbox = Inbox()
    inbox.steer("secret")
    stream = Agent(ScriptedModel("One.", "Two.", name="large")).stream("Hi", inbox=inbox)
    run_virtual(play(stream.pipe(ops.trace(spans.tracer))))
    assert spans.tree == ["invoke_agent", "  chat large", "  chat large"]
    assert all("secret" not in span.to_json() for span in spans.ended)


def test_code_inside_a_tool_sees_the_span_of_the_run_as_current(spans: Spans) -> None:
    """The agent runs the tools, so `trace`, behind it, can't make theirs the current one."""
    seen: list[Any] = []

    def in_thread() -> str:
        assert threading.current_thread() is not threading.main_thread()
        seen.append(telemetry.get_current_span())
        return "done"

    async def on_loop() -> AsyncIterator[str]:
        seen.append(telemetry.get_current_span())
        yield "done"

    calls = [("t", "in_thread", "{}"), ("l", "on_loop", "{}")]
    model = ScriptedModel(calling(*calls), "Done.")
    stream = Agent(model, [in_thread, on_loop]).stream("Go")
    rxllm.run(play(stream.pipe(ops.trace(spans.tracer, agent="helper"))))
    (run,) = [span for span in spans.ended if span.name == "invoke_agent helper"]
    assert [span.get_span_context() for span in seen] == [run.context, run.context]


def test_metrics_logs_and_figures_of_a_run() -> None:
    inner = Agent(ScriptedModel(calling(SUM), "It is 3.", name="small"), [add])
    calls = [("m", "maths", '{"task": "1+2?"}'), FAILING, ("u", "nowhere", "{}")]
    model = ScriptedModel(calling(*calls), [*["Three."], Usage(9, 4), End("stop")], name="large")
    agent = Agent(model, [inner.as_tool("maths", "Does sums."), fail], name="helper")
    registry, analytics = CollectorRegistry(), StreamAnalytics()
    operators = (
        ops.meter(registry, agent=agent.name),
        ops.log_stream(),
        ops.analyze(analytics, "run"),
    )
    with capture_logs() as captured:
        _, result = run_virtual(play(agent.stream("1+2?").pipe(*operators)))

    counted = {
        (sample.labels["gen_ai_tool_name"], sample.labels["error_type"]): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "gen_ai_execute_tool_duration_seconds_sum"
    }
    assert counted == {
        ("unknown", "UnknownToolError"): 0.0,
        ("fail", "ToolError"): 1.0,
        ("add", ""): 2.0,
        ("maths", ""): 2.0,
    }
    of_helper = {"gen_ai_agent_name": "helper"}
    figures = [
        registry.get_sample_value(f"gen_ai_invoke_agent_{name}_sum", of_helper)
        for name in ("inference_calls", "tool_calls")
    ]
    assert figures == [2.0, 3.0]

    tools = [
        (line["name"], line["seconds"], line.get("error"), line.get("source"))
        for line in captured
        if line["event"] == "stream.tool"
    ]
    assert tools == [
        ("nowhere", 0.0, "UnknownToolError", None),
        ("fail", 1.0, "ToolError", None),
        ("add", 2.0, None, "m"),
        ("maths", 2.0, None, None),
    ]
    assert (captured[-1]["steps"], captured[-1]["tool_calls"]) == (2, 3)
    assert "secret" not in repr(captured)

    record = analytics.find("run")
    assert record is not None
    assert (record.steps, record.tool_calls) == (result.steps, 3)
    assert result.usage is not None
    assert record.tokens == result.usage.output_tokens
