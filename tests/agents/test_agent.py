"""`Agent`: the loop of model and tools, as one stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import reactivex as rx
from reactivex import operators as rxo

import rxllm
from rxllm import Message, Tool
from rxllm import operators as ops
from rxllm.agents import Agent, FunctionTool, Inbox, ToolContext, ToolError, Turn
from rxllm.agents._approvals import approval_token
from rxllm.chunks import (
    Batch,
    End,
    Notice,
    Token,
    ToolCall,
    ToolResult,
    Usage,
)
from rxllm.errors import AllModelsFailedError, BadRequestError, OverloadedError, StallTimeoutError
from rxllm.models.scripted import ScriptedModel
from rxllm.piped_model import piped
from rxllm.requests import Model, ModelInfo, Prompt, Request, as_request
from rxllm.router import Router
from rxllm.settings import Settings
from rxllm.stream import Stream
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve
from tests.agents.runs import calling, calls_of, kinds, play, results_of

RESTART = ops.retry_with_backoff(3, initial=0, jitter=False, after_output="restart")


def look() -> str:
    return "there"


# The loop


def test_two_steps_with_calls_at_once() -> None:
    begun: list[Any] = []

    async def weather(place: str) -> str:
        begun.append(place)
        await asyncio.sleep(2 if place == "Oslo" else 1)
        return f"snow in {place}"

    model = ScriptedModel(
        calling(
            ("a", "weather", '{"place": "Oslo"}'),
            ("b", "weather", '{"place": "Rome"}'),
            text=["Let me", " look."],
        ),
        ["It", " snows."],
    )

    async def main() -> Any:
        async with no_leaks():
            chunks, result = await play(Agent(model, [weather]).stream("How is it?"))
        return chunks, result, asyncio.get_running_loop().time()

    chunks, result, seconds = run_virtual(main())
    assert (begun, seconds) == (["Oslo", "Rome"], 2.0)
    assert kinds(chunks) == [
        *["Start", "Token", "Token", *["ToolCall"] * 4, "Usage", "End+"],
        *["ToolResult", "ToolResult"],
        *["Start", "Token", "Token", "Usage", "End"],
    ]
    assert [chunk.id for chunk in chunks if isinstance(chunk, ToolResult)] == ["b", "a"]
    second = model.requests[1].messages
    assert [message.role for message in second] == ["user", "assistant", "tool", "tool"]
    assert [message.tool_call_id for message in second[2:]] == ["a", "b"]  # in order of the calls
    assert (second[1].content, len(second[1].tool_calls)) == ("Let me look.", 2)
    assert (result.text, result.finish_reason, result.steps) == ("It snows.", "stop", 2)
    assert result.messages == (*second[1:], Message("assistant", "It snows."))


def test_an_answer_without_calls_is_the_whole_run() -> None:
    chunks, result = rxllm.run(play(Agent(ScriptedModel("Hi there"), [look]).stream("Hi")))
    assert kinds(chunks) == ["Start", "Token", "Usage", "End"]
    assert (result.text, result.steps) == ("Hi there", 1)


def test_an_agent_is_a_model_and_can_be_asked_as_one() -> None:
    agent = Agent(ScriptedModel("Fine."), [look], instructions="Be brief.", name="helper")
    assert isinstance(agent, Model)
    assert (agent.info.id, agent.info.provider) == ("helper", "agent")
    assert agent.info.description == "scripted, look"
    request = Request(messages=(Message("user", "Hi"),), max_tokens=5)
    assert rxllm.run(agent.stream(request)).text == "Fine."
    assert rxllm.run(agent.count_tokens("Hi")).tokens == 3


def test_instructions_are_the_system_message_unless_there_is_one() -> None:
    model = ScriptedModel("Fine.")
    agent = Agent(model, instructions="Be brief.")
    rxllm.run(agent.stream("Hi"))
    rxllm.run(agent.stream([Message("system", "Be kind."), Message("user", "Hi")]))
    assert [request.messages[0].text for request in model.requests] == ["Be brief.", "Be kind."]


def test_calls_run_whether_the_reason_says_so_or_not_but_never_if_they_were_cut_off() -> None:
    ran: list[int] = []

    def count(number: int) -> str:
        ran.append(number)
        return "counted"

    call = ("a", "count", '{"number": 1}')
    model = ScriptedModel([*calls_of(call), Usage(1, 1), End("stop")], "Done.")
    assert rxllm.run(Agent(model, [count]).stream("Go")).text == "Done."
    assert ran == [1]
    cut = ScriptedModel(["Hm", ToolCall("a", "count", '{"nu'), Usage(1, 1), End("length")])
    result = rxllm.run(Agent(cut, [count]).stream("Go"))
    assert (result.finish_reason, result.messages) == ("length", (Message("assistant", "Hm"),))
    whole = ScriptedModel([*calls_of(call), Usage(1, 1), End("length")])
    rxllm.run(Agent(whole, [count]).stream("Go"))
    assert ran == [1]


def test_many_steps_that_come_at_once_do_not_deepen_the_stack() -> None:
    model = ScriptedModel(*[calling(("a", "look", "{}"))] * 2000, "Done.")
    agent = Agent(model, [FunctionTool(look, thread=False)], max_steps=5000)
    result = rxllm.run(agent.stream("Go"))
    assert (result.text, result.steps) == ("Done.", 2001)


def test_an_id_that_an_earlier_step_used_is_made_another_one() -> None:
    step = calling(("call_0", "look", "{}"), ("", "look", "{}"))
    model = ScriptedModel(step, step, "Done.")
    chunks, result = rxllm.run(play(Agent(model, [look]).stream("Go")))
    asked = {chunk.id for chunk in chunks if isinstance(chunk, ToolCall)}
    assert asked == set(results_of(chunks)) == {"call_0", "call-1-1", "call_0-2", "call-2-1"}
    called = [call.id for message in result.messages for call in message.calls]
    assert called == ["call_0", "call-1-1", "call_0-2", "call-2-1"]


# Errors of tools


def test_the_model_is_told_what_went_wrong_and_the_run_continues() -> None:
    def broken(number: int) -> int:
        raise ValueError("no such thing")

    def busy(number: int) -> str:
        raise ToolError("ask me tomorrow")

    def strange(number: int) -> Any:
        return object()

    calls = [
        ("a", "broken", '{"number": 1}'),
        ("b", "busy", '{"number": 1}'),
        ("c", "nope", "{}"),
        ("d", "busy", '{"other": 1}'),
        ("e", "busy", '{"number":'),
        ("f", "strange", '{"number": 1}'),
    ]
    model = ScriptedModel(calling(*calls), "Sorry.")
    result = rxllm.run(Agent(model, [broken, busy, strange]).stream("Hi"))
    told = {
        message.tool_call_id: message.text
        for message in model.requests[1].messages
        if message.is_error
    }
    assert told["a"] == "ValueError: no such thing"
    assert told["b"] == "ToolError: ask me tomorrow"
    assert told["c"].endswith("there is no tool 'nope'; there are: broken, busy, strange")
    assert "number" in told["d"]
    assert told["e"].endswith('The arguments were: {"number":')
    assert told["f"].startswith("TypeError: the output of the tool is not JSON")
    # Providers refuse a history with arguments that aren't JSON.
    assert model.requests[1].messages[1].tool_calls[4].arguments == "{}"
    assert result.text == "Sorry."


def test_the_words_for_the_model_can_be_chosen() -> None:
    def broken() -> None:
        raise ValueError("secret")

    model = ScriptedModel(calling(("a", "broken", "{}")), "Sorry.")
    agent = Agent(model, [broken], on_tool_error=lambda call, error: f"{call.name} failed")
    rxllm.run(agent.stream("Hi"))
    assert model.requests[1].messages[-1].text == "ValueError: broken failed"


def test_a_tool_that_takes_too_long_is_stopped_and_the_model_is_told() -> None:
    stopped: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            stopped.append("slow")

    async def endless() -> AsyncIterator[int]:
        try:
            for number in range(1000):
                yield number
                await asyncio.sleep(1)
        finally:
            stopped.append("endless")

    async def main() -> Any:
        model = ScriptedModel(calling(("a", "slow", "{}"), ("b", "endless", "{}")), "Sorry.")
        agent = Agent(model, [FunctionTool(slow, timeout=7), endless], tool_timeout=9)
        async with no_leaks():
            chunks, result = await play(agent.stream("Go"))
        return chunks, result, asyncio.get_running_loop().time()

    chunks, result, seconds = run_virtual(main())
    errors = {name: each.error for name, each in results_of(chunks).items()}
    assert {error.type for error in errors.values() if error} == {"ToolTimeoutError"}
    assert "more than 7 s" in str(errors["a"])
    assert (seconds, result.text, sorted(stopped)) == (9.0, "Sorry.", ["endless", "slow"])


@pytest.mark.parametrize("name", ["prepare", "on_tool_error", "claim", "approval"])
@pytest.mark.parametrize("is_async", [True, False])
def test_an_exception_of_the_callers_functions_ends_the_run_and_cancels_the_calls(
    name: str, is_async: bool
) -> None:
    if name == "on_tool_error" and is_async:
        return
    begun: list[str] = []
    ended: list[str] = []

    def fail(*_: Any) -> Any:
        raise RuntimeError("boom")

    async def fail_later(*_: Any) -> Any:
        await asyncio.sleep(1)
        raise RuntimeError("boom")

    function = fail_later if is_async else fail

    async def slow() -> None:
        begun.append("slow")
        try:
            await asyncio.sleep(100)
        finally:
            ended.append("slow")

    def broken() -> None:
        raise ValueError

    checked = FunctionTool(look, approval=function if name == "approval" else "run")
    tools: list[Any] = [slow, checked, FunctionTool(broken, thread=False)]
    options: dict[str, Any] = {} if name == "approval" else {name: function}
    agent = Agent(
        ScriptedModel(calling(("a", "slow", "{}"), ("b", "look", "{}"), ("c", "broken", "{}"))),
        tools,
        **options,
    )
    waiting = ToolCall("z", "look", "{}", complete=True)
    history = [Message("user", "Go"), Message("assistant", "", tool_calls=(waiting,))]
    approvals = {approval_token(waiting): True} if name == "claim" else None

    async def main() -> None:
        async with no_leaks():
            await play(agent.stream(history, approvals=approvals))

    with pytest.raises(RuntimeError, match="boom"):
        run_virtual(main())
    assert ended == begun


# Errors of the model


def test_a_retry_inside_a_step_runs_no_tool_twice() -> None:
    ran: list[int] = []

    def pay(amount: int) -> str:
        ran.append(amount)
        return "paid"

    lost = [*calls_of(("a", "pay", '{"amount": 5}')), ConnectionResetError()]
    model = ScriptedModel(
        lost,
        calling(("a2", "pay", '{"amount": 7}')),
        ["Pa", ConnectionResetError()],
        ["Paid", "."],
    )

    async def main() -> Any:
        async with no_leaks():
            return await play(Agent(piped(model, RESTART), [pay]).stream("Pay"))

    chunks, result = run_virtual(main())
    assert ran == [7]
    assert kinds(chunks) == [
        *["Start", "ToolCall", "ToolCall", "Notice", "Notice"],
        *["Start", "ToolCall", "ToolCall", "Usage", "End+", "ToolResult"],
        *["Start", "Token", "Notice", "Notice", "Start", "Token", "Token", "Usage", "End"],
    ]
    assert (result.text, result.steps) == ("Paid.", 2)
    assert [message.role for message in result.messages] == ["assistant", "tool", "assistant"]
    assert model.requests[3].messages == model.requests[2].messages
    assert [call.id for call in result.messages[0].tool_calls] == ["a2"]


def test_an_attempt_that_was_withdrawn_leaves_its_ids_to_the_next_one() -> None:
    call = ("a", "look", "{}")
    model = ScriptedModel([*calls_of(call), ConnectionResetError()], calling(call), "Done.")
    chunks, _ = rxllm.run(play(Agent(piped(model, RESTART), [look]).stream("Go")))
    assert set(results_of(chunks)) == {"a"}


@pytest.mark.parametrize("after_output", ["fail", "restart", "replay", lambda _: rx.never()])
@pytest.mark.parametrize("second", [["Pa", ConnectionResetError()], [ConnectionResetError()]])
def test_recovery_behind_an_agent_never_runs_a_tool_again(after_output: Any, second: Any) -> None:
    ran: list[int] = []

    def pay(amount: int) -> str:
        ran.append(amount)
        return "paid"

    model = ScriptedModel(calling(("a", "pay", '{"amount": 7}')), second, "never")
    stream = (
        Agent(model, [pay])
        .stream("Pay")
        .pipe(
            ops.retry_with_backoff(3, initial=0, after_output=after_output),
            ops.fallback_to(ScriptedModel("no").stream("x"), after_output=after_output),
        )
    )
    with pytest.raises((ConnectionResetError, AllModelsFailedError)):
        rxllm.run(stream)
    assert (ran, len(model.requests)) == ([7], 2)


def test_before_a_tool_has_run_recovery_behind_an_agent_is_as_for_any_model() -> None:
    model = ScriptedModel(["Le", ConnectionResetError()], calling(("a", "look", "{}")), "Done.")
    result = rxllm.run(Agent(model, [look]).stream("Go").pipe(RESTART))
    assert (result.text, len(model.requests)) == ("Done.", 3)


def test_a_failed_run_has_its_conversation_and_can_be_continued() -> None:
    ran: list[int] = []

    def pay(amount: int) -> str:
        ran.append(amount)
        return "paid"

    model = ScriptedModel(
        calling(("a", "pay", '{"amount": 7}')), ["Pa", OverloadedError("busy")], "Paid."
    )
    agent = Agent(model, [pay])
    with pytest.raises(OverloadedError) as failed:
        rxllm.run(agent.stream("Pay"))
    history = failed.value.messages
    assert [message.role for message in history] == ["user", "assistant", "tool"]
    assert failed.value.partial == "Pa"
    assert rxllm.run(agent.stream(history)).text == "Paid."
    assert ran == [7]


def test_a_fallback_inside_a_step_has_the_same_conversation() -> None:
    ran: list[int] = []

    def look() -> str:
        ran.append(1)
        return "there"

    busy = [OverloadedError("busy")]
    large = ScriptedModel(calling(("a", "look", "{}")), busy, name="large")
    small = ScriptedModel("Found.", name="small")
    router = Router([large, small], strategy=list, settings=Settings(attempts=1))
    chunks, result = rxllm.run(play(Agent(router, [look]).stream("Go")))
    assert (ran, result.text, result.model) == ([1], "Found.", "small")
    assert small.requests[0].messages == large.requests[1].messages
    assert [chunk.kind for chunk in chunks if isinstance(chunk, Notice)] == ["fallback"]

    large = ScriptedModel(calling(("a", "look", "{}")), busy, name="large")
    small = ScriptedModel("Found.", name="small")
    both = piped(large, of_request=lambda asked: ops.fallback_to(lambda: small.stream(asked)))
    assert rxllm.run(Agent(both, [look]).stream("Go")).text == "Found."
    assert small.requests[0].messages == large.requests[1].messages


def test_the_time_limits_of_the_run_wait_for_its_tools() -> None:
    async def slow() -> str:
        await asyncio.sleep(30)
        return "there"

    limits = ops.timeouts(first=3, between=3, total=100)
    model = ScriptedModel(calling(("a", "slow", "{}")), ["a", 20.0, "b"])
    with pytest.raises(StallTimeoutError) as stalled:  # of the model in the second step
        run_virtual(play(Agent(model, [slow]).stream("Go").pipe(limits)))
    assert stalled.value.partial == "a"


# Disposal and demand


def test_disposal_amid_tools_stops_the_model_and_all_of_them() -> None:
    events: list[Any] = []

    async def slow(number: int) -> str:
        events.append("slow")
        try:
            await asyncio.sleep(100)
        finally:
            events.append("slow ended")
        return "x"

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(100):
                yield number
                await asyncio.sleep(1)
        finally:
            events.append("numbers ended")

    nested = ScriptedModel("word " * 50, by="word", delay=1)
    calls = [("a", "slow", '{"number": 1}'), ("b", "numbers", "{}"), ("c", "sub", '{"task": "x"}')]
    model = ScriptedModel(calling(*calls), "never")
    agent = Agent(model, [slow, numbers, Agent(nested).as_tool("sub", "A helper.")])

    async def main() -> Any:
        async with no_leaks():
            loop = asyncio.get_running_loop()
            scheduler = StreamScheduler(loop)
            chunks: list[Any] = []
            subscription = agent.stream("Go").subscribe(chunks.append, scheduler=scheduler)
            await asyncio.sleep(3.5)
            assert nested.active == 1
            subscription.dispose()
            assert (nested.active, nested.cancelled) == (0, 1)
            await scheduler.settle()
            assert loop.time() == 3.5
        return chunks

    chunks = run_virtual(main())
    assert events == ["slow", *events[1:]]
    assert set(events[1:]) == {"slow ended", "numbers ended"}
    assert len(model.requests) == 1
    assert any(isinstance(chunk, ToolResult) and chunk.preliminary for chunk in chunks)


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5, 3.5, 4.5])
@pytest.mark.parametrize("is_closed", [True, False])
def test_disposal_at_every_turn_leaves_nothing(seconds: float, is_closed: bool) -> None:
    async def slow() -> str:
        await asyncio.sleep(1)
        return "there"

    model = ScriptedModel(calling(("a", "slow", "{}"), text=["Hm"]), "x y", by="word", delay=1.0)

    async def main() -> None:
        valve = Valve()
        async with no_leaks(valve):
            scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
            subscription = Agent(model, [slow]).stream("Go").subscribe(scheduler=scheduler)
            await asyncio.sleep(seconds - 0.25)
            if is_closed:
                valve.close()
            await asyncio.sleep(0.25)
            subscription.dispose()
            await scheduler.settle()
        assert model.active == 0

    run_virtual(main())


def test_stopping_amid_tools_ends_the_run_politely() -> None:
    async def slow() -> None:
        await asyncio.sleep(100)

    control = ops.Control()
    model = ScriptedModel(calling(("a", "slow", "{}"), text=["Wait."]))

    async def main() -> Any:
        asyncio.get_running_loop().call_later(3, control.stop)
        async with no_leaks():
            return await play(Agent(model, [slow]).stream("Go").pipe(ops.pausable(control)))

    chunks, result = run_virtual(main())
    assert chunks[-1] == End("cancelled")
    assert (result.text, result.finish_reason) == ("Wait.", "cancelled")


def test_a_closed_valve_holds_steps_calls_and_results() -> None:
    events: list[str] = []

    async def quick() -> str:
        events.append("quick")
        await asyncio.sleep(1)
        return "done"

    async def numbers() -> AsyncIterator[int]:
        for number in range(4):
            events.append(f"number {number}")
            yield number
            await asyncio.sleep(1)

    calls = [("a", "quick", "{}"), ("b", "numbers", "{}"), ("c", "quick", "{}")]
    model = ScriptedModel(calling(*calls), "Done.")
    agent = Agent(model, [quick, numbers], concurrency=2, tool_timeout=10)

    async def main() -> list[Any]:
        valve = Valve()
        chunks: list[Any] = []
        done = asyncio.Event()
        async with no_leaks(valve):
            scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
            agent.stream("Go").subscribe(chunks.append, on_completed=done.set, scheduler=scheduler)
            await asyncio.sleep(0.5)
            valve.close()
            before = len(chunks)
            await asyncio.sleep(500)  # longer than the time limit of the stream that is held
            assert len(chunks) == before
            assert events.count("quick") == 1  # the third call doesn't begin
            valve.open()
            await done.wait()
        return chunks

    chunks = run_virtual(main())
    results = results_of(chunks)
    assert [results[name].output for name in "abc"] == ["done", 3, "done"]
    assert len(model.requests) == 2


def test_no_request_is_sent_while_the_valve_is_closed() -> None:
    model = ScriptedModel(calling(("a", "look", "{}")), "Done.")
    marbles = Marbles()
    marbles.valve.close()
    agent = Agent(model, [FunctionTool(look, thread=False)])
    recording = marbles.subscribe(agent.stream("Go"))
    marbles.advance_to(5)
    assert model.requests == []
    marbles.valve.open()
    marbles.advance_to(10)
    assert recording.events[-1][1] is COMPLETED


def test_a_subscriber_that_raises_stops_everything() -> None:
    ran: list[int] = []

    async def slow() -> None:
        ran.append(1)
        await asyncio.sleep(10)

    model = ScriptedModel(calling(("a", "slow", "{}")), "never")

    async def main() -> None:
        def boom(chunk: Any) -> None:
            if isinstance(chunk, End):
                raise RuntimeError("boom")

        async with no_leaks():
            await rxllm.consumer.consume(Agent(model, [slow]).stream("Go"), boom)

    with pytest.raises(RuntimeError, match="boom"):
        run_virtual(main())
    assert (ran, len(model.requests)) == ([], 1)


# What tools may be


def test_plain_functions_run_in_threads_and_block_nobody() -> None:
    release = threading.Event()
    threads: list[Any] = []

    def slow(number: int) -> int:
        threads.append(threading.current_thread())
        assert release.wait(10)
        return number

    async def main() -> Any:
        calls = [("a", "slow", '{"number": 1}'), ("b", "slow", '{"number": 2}')]
        running = asyncio.ensure_future(
            play(Agent(ScriptedModel(calling(*calls), "Done."), [slow]).stream("Go"))
        )
        while len(threads) < 2:
            await asyncio.sleep(0)  # the loop goes on
        release.set()
        return await running

    chunks, _ = rxllm.run(main())
    assert threading.main_thread() not in threads
    assert [results_of(chunks)[name].output for name in "ab"] == [1, 2]


def test_interim_outputs_of_a_stream_and_of_a_report() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def reporting(context: ToolContext) -> str:
        context.report({"done": 0.5})
        await asyncio.sleep(1)
        return "done"

    model = ScriptedModel(calling(("a", "numbers", "{}"), ("b", "reporting", "{}")), "Done.")
    chunks, _ = run_virtual(play(Agent(model, [numbers, reporting]).stream("Go")))
    results = [chunk for chunk in chunks if isinstance(chunk, ToolResult)]
    assert [(each.output, each.preliminary) for each in results if each.id == "a"] == [
        *[(0, True), (1, True), (2, True), (2, False)],
    ]
    assert [(each.output, each.preliminary) for each in results if each.id == "b"] == [
        *[({"done": 0.5}, True), ("done", False)],
    ]


def test_a_report_from_a_thread_arrives_on_the_loop() -> None:
    def reporting(context: ToolContext) -> str:
        context.report("half")
        return "done"

    model = ScriptedModel(calling(("a", "reporting", "{}")), "Done.")
    chunks, _ = rxllm.run(play(Agent(model, [reporting]).stream("Go")))
    results = [chunk.output for chunk in chunks if isinstance(chunk, ToolResult)]
    assert results in (["half", "done"], ["done"])  # the newest counts


def test_a_tool_knows_the_call_the_conversation_and_the_context() -> None:
    seen: list[ToolContext] = []

    def asking(context: ToolContext) -> None:
        seen.append(context)

    model = ScriptedModel(calling(("a", "asking", "{}"), text=["Hm"]), "Done.")
    rxllm.run(Agent(model, [asking]).stream("Go", context={"user": "ada"}))
    assert (seen[0].call.id, seen[0].step, seen[0].context) == ("a", 1, {"user": "ada"})
    assert [message.text for message in seen[0].messages] == ["Go", "Hm"]


def test_the_whole_loop_runs_in_virtual_time_without_an_event_loop() -> None:
    def count(number: int) -> rx.Observable[int]:
        return rx.interval(1.0).pipe(rxo.take(number))

    model = ScriptedModel(calling(("a", "count", '{"number": 3}')), "Done.")
    agent = Agent(model, [FunctionTool(count, thread=False)], tool_timeout=None)
    events = Marbles().run(agent.stream("Go"))
    assert [
        (time, event.output, event.preliminary)
        for time, event in events
        if isinstance(event, ToolResult)
    ] == [(1.0, 0, True), (2.0, 1, True), (3.0, 2, True), (3.0, 2, False)]
    assert events[-1] == (3.0, COMPLETED)


def test_a_sequential_tool_runs_alone_and_concurrency_is_a_limit() -> None:
    log: list[str] = []

    def make(name: str, *, sequential: bool = False) -> FunctionTool:
        async def work() -> str:
            log.append(f"+{name}")
            await asyncio.sleep(1)
            log.append(f"-{name}")
            return name

        return FunctionTool(work, name=name, sequential=sequential)

    tools = [make("a"), make("b"), make("w", sequential=True), make("c"), make("d")]
    calls = [(str(number), each.name, "{}") for number, each in enumerate(tools)]
    run_virtual(play(Agent(ScriptedModel(calling(*calls), "Done."), tools).stream("Go")))
    assert log == ["+a", "+b", "-a", "-b", "+w", "-w", "+c", "+d", "-c", "-d"]
    log.clear()
    agent = Agent(ScriptedModel(calling(*calls[:2]), "Done."), tools, concurrency=1)
    run_virtual(play(agent.stream("Go")))
    assert log == ["+a", "-a", "+b", "-b"]


# Limits, preparation, steering


def test_the_last_step_is_asked_for_without_calls() -> None:
    ask = calling(("a", "look", "{}"))
    model = ScriptedModel(ask, ask, ["I give", " up."])
    result = rxllm.run(Agent(model, [look], max_steps=3).stream("Go"))
    assert [request.tool_choice for request in model.requests] == [None, None, "none"]
    assert model.requests[2].tools
    assert result.text == "I give up."


def test_a_model_that_calls_nevertheless_is_at_the_limit_with_a_whole_conversation() -> None:
    stubborn = ScriptedModel(calling(("a", "look", "{}")))
    result = rxllm.run(Agent(stubborn, [look], max_steps=2).stream("Go"))
    assert (result.finish_reason, len(stubborn.requests)) == ("limit", 2)
    assert [message.role for message in result.messages] == ["assistant", "tool"] * 2
    assert "2 steps" in result.messages[-1].text


def test_a_call_that_is_required_is_required_once() -> None:
    model = ScriptedModel(calling(("a", "look", "{}")), "Done.")
    rxllm.run(Agent(model, [look]).stream("Go", tool_choice="required"))
    assert [request.tool_choice for request in model.requests] == ["required", None]


def test_a_step_can_be_prepared_with_another_model_and_a_shorter_conversation() -> None:
    def read() -> str:
        return "x" * 1000

    ask = calling(("a", "read", "{}"))
    big, small = ScriptedModel(ask, ask, name="big"), ScriptedModel("Done.", name="small")

    async def prepare(turn: Turn) -> Turn | None:
        await asyncio.sleep(0)
        if turn.step < 3:
            return None
        cleared = tuple(
            msgspec.structs.replace(message, content="[cleared]")
            if message.role == "tool"
            else message
            for message in turn.request.messages[:-1]
        )
        messages = (*cleared, turn.request.messages[-1])
        request = msgspec.structs.replace(turn.request, messages=messages, temperature=0.0)
        return msgspec.structs.replace(turn, model=small, request=request)

    result = rxllm.run(Agent(big, [read], prepare=prepare).stream("Go"))
    assert (result.model, small.requests[0].temperature) == ("small", 0.0)
    told = [message.text for message in small.requests[0].messages if message.role == "tool"]
    assert told == ["[cleared]", "x" * 1000]


def test_a_message_of_the_user_joins_before_the_next_answer() -> None:
    inbox = Inbox()

    async def searching() -> str:
        inbox.steer("In Texas, I mean.")
        await asyncio.sleep(1)
        return "there"

    model = ScriptedModel(calling(("a", "searching", "{}")), "Paris, Texas.")
    chunks, result = run_virtual(play(Agent(model, [searching]).stream("Paris?", inbox=inbox)))
    assert kinds(chunks)[4:7] == ["End+", "ToolResult", "Steering"]
    assert [message.role for message in model.requests[1].messages] == [
        *["user", "assistant", "tool", "user"],
    ]
    assert (inbox.waiting, result.text) == ((), "Paris, Texas.")


def test_a_message_that_comes_during_the_last_answer_gets_one_of_its_own() -> None:
    inbox = Inbox()
    model = ScriptedModel("Paris.", "In French: Paris.")
    seen: list[Any] = []

    def on_chunk(chunk: Any) -> None:
        seen.append(chunk)
        if isinstance(chunk, Token) and len(model.requests) == 1:
            inbox.steer("And in French?")

    stream = Agent(model, [look]).stream("Paris?", inbox=inbox)
    result = rxllm.run(rxllm.consumer.consume(stream, on_chunk))
    assert kinds(seen)[3:5] == ["End+", "Steering"]
    assert (result.text, result.steps) == ("In French: Paris.", 2)
    late = Inbox()
    rxllm.run(Agent(ScriptedModel("x"), [look], max_steps=1).stream("Hi", inbox=late))
    late.steer("too late")
    assert late.waiting == ("too late",)


def test_an_empty_message_is_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="empty"):
        Inbox().steer(" ")
    with pytest.raises(TypeError, match="a string"):
        Inbox().steer(3)  # type: ignore[arg-type]


# Tools of the caller, and conversations that were stored


def test_a_tool_without_a_function_ends_the_run_and_its_result_continues_it() -> None:
    confirm = Tool("confirm", "Ask the user.", {"type": "object"})
    model = ScriptedModel(calling(("a", "confirm", "{}"), ("b", "look", "{}")), "Done.")
    agent = Agent(model, [look])
    chunks, result = rxllm.run(play(agent.stream("Go", tools=[confirm])))
    assert (result.finish_reason, set(results_of(chunks))) == ("tool_calls", {"b"})
    answered = Message("tool", "yes", tool_call_id="a")
    history = (Message("user", "Go"), *result.messages, answered)
    assert rxllm.run(agent.stream(history, tools=[confirm])).text == "Done."
    told = [each.tool_call_id for each in model.requests[1].messages if each.role == "tool"]
    assert told == ["b", "a"]

    only = ScriptedModel(calling(("a", "confirm", "{}")))
    chunks, _ = rxllm.run(play(Agent(only, [confirm]).stream("Go")))
    assert kinds(chunks)[-1] == "End"
    assert "End+" not in kinds(chunks)


def test_a_stored_conversation_with_open_calls_gets_an_answer_for_each() -> None:
    model = ScriptedModel("Fine.")
    asked = Message("assistant", "", tool_calls=(ToolCall("a", "look", "{}", complete=True),))
    history = [Message("user", "Go"), asked, Message("user", "Never mind")]
    rxllm.run(Agent(model).stream(history))
    sent = model.requests[0].messages
    assert [message.role for message in sent] == ["user", "assistant", "tool", "user"]
    assert sent[2].is_error
    assert "not known" in sent[2].text


# Composition


def test_an_agent_as_a_tool_of_another_one() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    sums = [calling(("x", "add", '{"a": 1, "b": 2}'), text=["Adding"]), ["It is", " 3."]]
    inner = Agent(ScriptedModel(*sums, *sums, name="inner"), [add])
    calls = [("p", "maths", '{"task": "1+2?"}'), ("q", "maths", '{"task": "1+2 again?"}')]
    outer_model = ScriptedModel(calling(*calls), "Three.", name="outer")
    outer = Agent(outer_model, [inner.as_tool("maths", "Does sums.")], concurrency=1)
    stream = outer.stream("1+2?").pipe(
        ops.redact("3", mask="#"), ops.timeouts(between=5, total=60), ops.multiplex()
    )

    async def main() -> Any:
        async with no_leaks():
            return await play(stream)

    chunks, result = rxllm.run(main())
    assert (result.text, result.texts) == ("Three.", {"p": "It is #.", "q": "It is #."})
    assert {chunk.source for chunk in chunks} == {None, "p", "q"}
    told = [each.text for each in outer_model.requests[1].messages if each.role == "tool"]
    assert told == ["It is 3.", "It is 3."]
    assert result.usage is not None
    assert result.usage.output_tokens == (5 + 1) + 2 * (5 + 2)
    assert [message.role for message in result.messages] == [
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    assert result.steps == 2


def test_an_agent_as_the_model_of_another_one() -> None:
    inner = Agent(ScriptedModel(calling(("a", "look", "{}")), "Inner done."), [look])
    chunks, result = rxllm.run(play(Agent(inner).stream("Go")))
    assert (result.text, result.steps, kinds(chunks)[-1]) == ("Inner done.", 2, "End")
    assert [message.role for message in result.messages] == ["assistant", "tool", "assistant"]


class FunctionModel:
    """A model made of a function from requests to streams."""

    info = ModelInfo("function", "function")

    def __init__(self, function: Any) -> None:
        self._function = function

    def stream(self, prompt: Prompt, **options: Any) -> Stream[Any]:
        stream: Stream[Any] = self._function(as_request(prompt, **options))
        return stream


@pytest.mark.parametrize("packed", [True, False])
def test_each_step_may_be_a_race(packed: bool) -> None:
    model = ScriptedModel(calling(("a", "look", "{}")), ["Do", "ne."], delay=0.01)
    slow = ScriptedModel("slow", delay=1)

    def race(request: Any) -> Any:
        raced = ops.race(model.stream(request), slow.stream(request))
        return raced.pipe(ops.batch(2)) if packed else raced

    chunks, result = run_virtual(play(Agent(FunctionModel(race), [look]).stream("Go")))
    assert (result.text, result.steps, {chunk.source for chunk in chunks}) == ("Done.", 2, {None})
    parts = [part for chunk in chunks if isinstance(chunk, Batch) for part in chunk.chunks]
    assert {part.source for part in parts} <= {None}


def test_a_step_with_two_answers_is_refused() -> None:
    def both(request: Any) -> Any:
        return ops.merge_streams(ScriptedModel("a").stream("x"), ScriptedModel("b").stream("x"))

    with pytest.raises(BadRequestError, match="one answer"):
        rxllm.run(Agent(FunctionModel(both), [look]).stream("Go"))


def test_several_runs_at_once_share_an_agent() -> None:
    ask = calling(("a", "look", "{}"))
    agent = Agent(ScriptedModel(ask, ask, "Yes.", "No."), [look])
    result = rxllm.run(ops.parallel(["1?", "2?"], agent, ops.Pool(2)))
    assert sorted(result.texts.values()) == ["No.", "Yes."]


def test_a_late_joiner_and_a_cache_have_the_whole_run_and_nothing_that_was_withdrawn() -> None:
    def make() -> Agent:
        scripts: Any = [
            calling(("a", "look", "{}"), text=["First."]),
            ["Lo", ConnectionResetError()],
            ["Found", "."],
        ]
        return Agent(piped(ScriptedModel(*scripts), RESTART), [look])

    async def main() -> Any:
        store = ops.MemoryStore()
        shared = make().stream("Go").pipe(ops.multiplex(grace=5))
        await play(shared)
        late, _ = await play(shared)
        await play(make().stream("Go").pipe(ops.cache(store, "k")))
        never = Agent(ScriptedModel("never"), [look])
        cached, result = await play(never.stream("Go").pipe(ops.cache(store, "k")))
        return late, cached, result

    late, cached, result = rxllm.run(main())
    run = [
        *["Start", "Token", "ToolCall", "ToolCall", "Usage", "End+", "ToolResult"],
        *["Start", "Token", "Token", "Usage", "End"],
    ]
    assert kinds(cached) == run
    assert (result.text, result.steps) == ("Found.", 2)
    joined = "".join(chunk.text for chunk in late if isinstance(chunk, Token | Batch))
    assert joined == "First.Found."


def test_figures_cover_all_steps() -> None:
    measured: list[ops.Measurement] = []
    model = ScriptedModel(
        calling(("a", "look", "{}"), text=["one"], usage=Usage(7, 20)),
        ["two", Usage(5, 30), End("stop")],
    )
    result = rxllm.run(Agent(model, [look]).stream("Go").pipe(ops.measure(measured.append)))
    assert result.usage == Usage(12, 50)
    assert measured[0].tokens == result.timings.tokens == 50


# Arguments


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"model": "tiny"}, TypeError, "model must be a model"),
        ({"tools": [look, look]}, BadRequestError, "two tools have the name 'look'"),
        ({"tools": [3]}, TypeError, "made from a function"),
        ({"max_steps": 0}, ValueError, "max_steps"),
        ({"concurrency": 1.5}, TypeError, "concurrency"),
        ({"tool_timeout": 0}, ValueError, "tool_timeout"),
        ({"prepare": 3}, TypeError, "prepare"),
        ({"secret": "text"}, TypeError, "bytes"),
    ],
)
def test_invalid_arguments_raise_at_the_call(options: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        Agent(**{"model": ScriptedModel("x"), **options})


def test_an_invalid_request_raises_at_the_call() -> None:
    agent = Agent(ScriptedModel("x"), [look])
    with pytest.raises(BadRequestError, match="empty"):
        agent.stream(" ")
    with pytest.raises(BadRequestError, match="temprature"):
        agent.stream("Hi", temprature=1)  # type: ignore[call-overload]
    with pytest.raises(BadRequestError, match="tool_choice"):
        agent.stream("Hi", tool_choice="nope")
