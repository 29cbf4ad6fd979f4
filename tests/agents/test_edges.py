"""Runs at their edges: what callers, models and tools do that nobody would expect."""

from __future__ import annotations

import asyncio
import copy
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
import reactivex as rx

import rxllm
from rxllm import Message, Tool
from rxllm import operators as ops
from rxllm.agents import Agent, FunctionTool, Inbox, ToolContext, Turn
from rxllm.agents._approvals import approval_token
from rxllm.chunks import End, Json, Notice, Start, Token, ToolCall, ToolResult, Usage
from rxllm.errors import BadRequestError, ContextLengthError, EmptyStreamError
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import Marbles, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve
from tests.agents.runs import calling, kinds, play, results_of
from tests.agents.test_agent import FunctionModel


def look() -> str:
    return "there"


def waiting(name: str, call_id: str = "a", arguments: str = "{}") -> tuple[Any, str]:
    """A conversation with a call that waits for an approval, and its token."""
    call = ToolCall(call_id, name, arguments, complete=True)
    history = [Message("user", "Go"), Message("assistant", "", tool_calls=(call,))]
    return history, approval_token(call)


# Nothing that was approved runs twice


def test_a_conversation_that_is_too_long_is_not_asked_again_once_a_tool_has_run() -> None:
    ran: list[int] = []

    @rxllm.tool(approval="ask")
    def pay() -> str:
        ran.append(1)
        return "paid"

    too_long = [ContextLengthError("too long")]
    model = ScriptedModel("hi", calling(("a", "pay", "{}")), too_long, "never")
    chat = rxllm.Chat(Agent(model, [pay]))
    rxllm.run(chat.ask("Hello"))
    token = rxllm.run(chat.ask("Pay")).pending[0].token
    with pytest.raises(ContextLengthError):
        rxllm.run(chat.ask(approvals={token: True}))
    assert (ran, len(model.requests)) == ([1], 3)


def test_a_retry_repeats_no_approved_call_that_is_under_way() -> None:
    ran: list[str] = []

    @rxllm.tool(approval="ask")
    async def pay() -> str:
        ran.append("pay")
        await asyncio.sleep(1)
        return "paid"

    async def policy(arguments: dict[str, Any], context: ToolContext) -> bool:
        await asyncio.sleep(0.1)
        raise ConnectionResetError("the policy is lost")

    history, token = waiting("pay")
    other = ToolCall("b", "look", "{}", index=1, complete=True)
    calls = (*history[1].tool_calls, other)
    history[1] = msgspec.structs.replace(history[1], tool_calls=calls)
    agent = Agent(ScriptedModel("never"), [pay, FunctionTool(look, approval=policy)])
    stream = agent.stream(history, approvals={token: True}).pipe(ops.retry_with_backoff(3))
    with pytest.raises(ConnectionResetError):
        run_virtual(play(stream))
    assert ran == ["pay"]


# A closed valve


@pytest.mark.parametrize("what", ["prepare", "policy", "claim"])
def test_nothing_begins_while_the_valve_is_closed_after_a_decision_that_took_time(
    what: str,
) -> None:
    begun: list[str] = []

    async def wait(*_: Any) -> Any:
        await asyncio.sleep(1)
        return None if what == "prepare" else True

    def tool_function() -> str:
        begun.append("tool")
        return "done"

    approval: Any = {"policy": wait, "claim": "ask"}.get(what, "run")
    tool = FunctionTool(tool_function, name="work", thread=False, approval=approval)
    first = "Done." if what == "prepare" else calling(("a", "work", "{}"))
    model = ScriptedModel(first, "Done.")
    options: dict[str, Any] = {} if what == "policy" else {what: wait}
    history, token = waiting("work")
    prompt = history if what == "claim" else "Go"
    stream = Agent(model, [tool], **options).stream(
        prompt, approvals={token: True} if what == "claim" else None
    )

    async def main() -> None:
        valve = Valve()
        async with no_leaks(valve):
            done = asyncio.Event()
            scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
            stream.subscribe(on_completed=done.set, scheduler=scheduler)
            await asyncio.sleep(0.5)
            valve.close()
            before = len(model.requests)
            await asyncio.sleep(10)
            assert (begun, len(model.requests)) == ([], before)
            valve.open()
            await done.wait()

    run_virtual(main())


# Races, merges and what stands inside a step


def test_another_stream_may_win_a_race_that_begins_again() -> None:
    first = ScriptedModel(["A", ConnectionResetError()], delay=0.1)
    second = ScriptedModel("slow", "B", delay=0.5)
    rounds = iter([{"first": first, "second": second}, {"second": second}])

    def race() -> Any:
        return ops.race({name: model.stream("Go") for name, model in next(rounds).items()})

    retry = ops.retry_with_backoff(3, initial=0, jitter=False, after_output="restart")
    model = FunctionModel(lambda _: rx.defer(lambda _: race()).pipe(retry))
    chunks, result = run_virtual(play(Agent(model, [look]).stream("Go")))
    assert {chunk.source for chunk in chunks} == {None}
    assert (result.text, result.steps) == ("B", 1)


def test_the_result_of_a_raced_agent_has_its_messages_and_its_open_calls() -> None:
    tool = FunctionTool(look, approval="ask")
    agent = Agent(ScriptedModel(calling(("a", "look", "{}"))), [tool])
    result = rxllm.run(ops.race({"one": agent.stream("Go")}))
    assert [message.role for message in result.messages] == ["assistant"]
    assert ([request.id for request in result.pending], result.steps) == (["a"], 1)


def test_a_value_that_was_read_inside_a_step_needs_no_repair() -> None:
    model = rxllm.piped(ScriptedModel('{"x": 1}', "never"), ops.parse_json())
    stream = Agent(model, repairs=1).stream("Go", response_format={"required": ["x"]})
    chunks, result = rxllm.run(play(stream))
    assert any(isinstance(chunk, Json) for chunk in chunks)
    assert (result.value, result.steps) == ({"x": 1}, 1)


def test_a_run_that_waits_for_an_approval_is_no_empty_answer() -> None:
    tool = FunctionTool(look, approval="ask")
    stream = Agent(ScriptedModel(calling(("a", "look", "{}"))), [tool]).stream("Go")
    result = rxllm.run(stream.pipe(ops.require_output()))
    assert len(result.pending) == 1
    empty = Agent(ScriptedModel(calling(("a", "look", "{}")), [Usage(1, 0), End("stop")]), [look])
    with pytest.raises(EmptyStreamError):
        rxllm.run(empty.stream("Go").pipe(ops.require_output()))


def test_the_first_token_is_not_awaited_while_an_approved_tool_runs() -> None:
    @rxllm.tool(approval="ask")
    async def pay() -> str:
        await asyncio.sleep(30)
        return "paid"

    history, token = waiting("pay")
    agent = Agent(ScriptedModel("Done."), [pay])
    stream = agent.stream(history, approvals={token: True}).pipe(ops.timeouts(first=10))
    assert run_virtual(play(stream))[1].text == "Done."


# Tools of a step


def test_a_step_has_the_tools_that_its_preparation_leaves() -> None:
    ran: list[str] = []

    def pay() -> str:
        ran.append("pay")
        return "paid"

    def without_tools(turn: Turn) -> Turn:
        request = msgspec.structs.replace(turn.request, tools=(), tool_choice=None)
        return msgspec.structs.replace(turn, request=request)

    model = ScriptedModel(calling(("a", "pay", "{}")), "Sorry.")
    chunks, _ = rxllm.run(play(Agent(model, [pay], prepare=without_tools).stream("Go")))
    error = results_of(chunks)["a"].error
    assert error is not None
    assert (ran, error.type) == ([], "UnknownToolError")

    def with_another(turn: Turn) -> Turn:
        tools = (*turn.request.tools, Tool("mine"))
        request = msgspec.structs.replace(turn.request, tools=tools)
        return msgspec.structs.replace(turn, request=request)

    asking = ScriptedModel(calling(("a", "mine", "{}")))
    result = rxllm.run(Agent(asking, [pay], prepare=with_another).stream("Go"))
    assert result.finish_reason == "tool_calls"


def test_two_calls_with_one_id_in_the_same_answer_get_two() -> None:
    calls = [ToolCall("a", "look", "{}", index, complete=True) for index in range(2)]
    model = ScriptedModel([*calls, Usage(1, 1), End("tool_calls")], "Done.")
    chunks, result = rxllm.run(play(Agent(model, [look]).stream("Go")))
    assert set(results_of(chunks)) == {"a", "a-1"}
    assert [message.role for message in result.messages] == [
        *["assistant", "tool", "tool", "assistant"],
    ]


def test_a_call_whose_arguments_are_not_complete_does_not_run() -> None:
    ran: list[str] = []

    def wipe(path: str = "/") -> str:
        ran.append(path)
        return "wiped"

    model = ScriptedModel([ToolCall("a", "wipe"), Usage(1, 1), End("tool_calls")], "Sorry.")
    chunks, _ = rxllm.run(play(Agent(model, [wipe]).stream("Go")))
    assert ran == []
    assert "not complete" in str(results_of(chunks)["a"].error)


def test_the_tools_of_the_caller_stay_open_at_the_limit() -> None:
    model = ScriptedModel(calling(("a", "look", "{}"), ("b", "mine", "{}")))
    stream = Agent(model, [look], max_steps=1).stream("Go", tools=[Tool("mine")])
    chunks, result = rxllm.run(play(stream))
    assert (set(results_of(chunks)), result.finish_reason) == ({"a"}, "limit")
    assert "1 step" in str(results_of(chunks)["a"].error)


def test_a_nested_run_that_needs_a_tool_of_its_caller_has_failed() -> None:
    inner = Agent(ScriptedModel(calling(("x", "mine", "{}"))), [Tool("mine")])
    model = ScriptedModel(calling(("p", "sub", '{"task": "go"}')), "No.")
    rxllm.run(Agent(model, [inner.as_tool("sub", "s")]).stream("Go"))
    assert "can't be run here" in model.requests[1].messages[-1].text


# Errors that are hard to tell


class Outcome(BaseException):
    """As `pytest.fail` raises."""


@pytest.mark.parametrize("is_async", [True, False])
def test_an_exception_of_any_class_is_told_to_the_model(is_async: bool) -> None:
    def strange() -> None:
        raise Outcome("odd")

    async def stranger() -> None:
        raise Outcome("odd")

    tool = FunctionTool(stranger if is_async else strange, name="strange")
    model = ScriptedModel(calling(("a", "strange", "{}")), "Sorry.")
    chunks, _ = run_virtual(play(Agent(model, [tool], tool_timeout=None).stream("Go")))
    assert "odd" in str(results_of(chunks)["a"].error)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [('{"name": "\ud800"}', "x"), ("{}", "caf\udce9"), ("{}", "")],
)
def test_an_error_that_no_provider_takes_as_it_is_does_not_spoil_the_run(
    arguments: str, error: str
) -> None:
    def broken() -> None:
        raise ValueError(error)

    model = ScriptedModel(calling(("a", "broken", arguments)), "Sorry.")
    result = rxllm.run(Agent(model, [broken]).stream("Go"))
    assert result.text == "Sorry."
    result.messages[1].text.encode()


def test_the_id_of_a_call_may_have_any_characters() -> None:
    tool = FunctionTool(look, approval="ask")
    model = ScriptedModel(calling(("a\ud800/b", "look", "{}")))
    assert len(rxllm.run(Agent(model, [tool]).stream("Go")).pending) == 1


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_without_words_is_told_as_one() -> None:
    def broken() -> None:
        raise UnprintableError

    model = ScriptedModel(calling(("a", "broken", "{}")), "Sorry.")
    rxllm.run(Agent(model, [broken]).stream("Go"))
    assert model.requests[1].messages[-1].text == "UnprintableError: it failed"


@pytest.mark.parametrize("value", [None, 5])
def test_what_the_callers_functions_return_is_checked(value: Any) -> None:
    def broken() -> None:
        raise ValueError

    model = ScriptedModel(calling(("a", "broken", "{}")))
    with pytest.raises(TypeError, match="on_tool_error must return a string"):
        rxllm.run(Agent(model, [broken], on_tool_error=lambda *_: value).stream("Go"))
    with pytest.raises(TypeError, match="prepare must return a Turn"):
        rxllm.run(Agent(model, [broken], prepare=lambda _: "x").stream("Go"))  # type: ignore[arg-type,return-value]


def test_a_reason_is_never_a_yes() -> None:
    history, token = waiting("look")
    agent = Agent(ScriptedModel("Fine."), [FunctionTool(look, approval="ask")])
    for reason in ("run", "ask", ""):
        chunks, _ = rxllm.run(play(agent.stream(history, approvals={token: reason})))
        error = results_of(chunks)["a"].error
        assert error is not None
        assert error.type == "DeniedError"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"approvals": {"token": 1}}, "approvals must map"),
        ({"approvals": {1: True}}, "approvals must map"),
        ({"approvals": True}, "approvals must map"),
        ({"inbox": "x"}, "inbox must be"),
        ({"tools": None}, "tools must be a list"),
    ],
)
def test_invalid_options_of_a_run_raise_at_the_call(options: Any, words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        Agent(ScriptedModel("x"), [look]).stream("Go", **options)


def test_invalid_names_and_tools_raise_at_the_call() -> None:
    for options in ({"name": 5}, {"instructions": 5}, {"tools": look}):
        with pytest.raises(TypeError, match=next(iter(options))):
            Agent(ScriptedModel("x"), **options)
    with pytest.raises(ValueError, match="surrogate"):
        Inbox().steer("\udce9")


# Streams of tools


def test_a_stream_that_goes_on_after_its_error_is_not_heard() -> None:
    errors: list[Any] = []

    def strange() -> rx.Observable[Any]:
        def subscribe(observer: Any, scheduler: Any = None) -> Any:
            for item in (object(), Token("b"), object(), End("stop")):
                observer.on_next(item)
            observer.on_error(ValueError("late"))

        return rx.create(subscribe)

    def on_tool_error(call: ToolCall, error: Exception) -> str:
        errors.append(error)
        return "failed"

    model = ScriptedModel(calling(("a", "strange", "{}")), "Sorry.")
    tool = FunctionTool(strange, thread=False)
    stream = Agent(model, [tool], on_tool_error=on_tool_error).stream("Go")
    events = [event for _, event in Marbles().run(stream)]
    assert len(errors) == 1
    assert not any(isinstance(event, Token) and event.source for event in events)


def test_a_result_inside_a_nested_run_is_not_one_of_the_run() -> None:
    def mixed() -> rx.Observable[Any]:
        return rx.of(True, Start("n", "inner"), ToolResult("n", "inner", True), End("stop"))

    model = ScriptedModel(calling(("a", "mixed", "{}")), "Done.")
    stream = Agent(model, [FunctionTool(mixed, thread=False)]).stream("Go")
    events = [event for _, event in Marbles().run(stream)]
    results = [event for event in events if isinstance(event, ToolResult)]
    assert [(each.id, each.source) for each in results] == [("a", None), ("n", "a"), ("a", None)]


def test_an_exception_of_the_subscriber_is_none_of_the_tool() -> None:
    def at_once() -> rx.Observable[int]:
        def subscribe(observer: Any, scheduler: Any = None) -> Any:
            observer.on_next(1)
            observer.on_completed()

        return rx.create(subscribe)

    def boom(chunk: Any) -> None:
        if isinstance(chunk, ToolResult):
            raise RuntimeError("boom")

    model = ScriptedModel(calling(("a", "at_once", "{}")), "never")
    stream = Agent(model, [FunctionTool(at_once, thread=False)]).stream("Go")

    async def main() -> list[Any]:
        failures: list[Any] = []
        sink = StreamScheduler(asyncio.get_running_loop(), Valve()).with_sink(failures.append)
        stream.subscribe(boom, failures.append, scheduler=sink)
        await asyncio.sleep(1)
        return failures

    failures = run_virtual(main())
    assert [type(error) for error in failures] == [RuntimeError]
    assert len(model.requests) == 1


def test_the_sink_waits_for_the_clean_up_of_a_tool() -> None:
    events: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            events.append("cleaned up")

    model = ScriptedModel(calling(("a", "slow", "{}")))
    control = ops.Control()

    async def main() -> None:
        asyncio.get_running_loop().call_later(3, control.stop)
        await Agent(model, [slow]).stream("Go").pipe(ops.pausable(control))
        assert events == ["cleaned up"]

    run_virtual(main())


def test_an_end_before_a_restart_is_not_that_of_the_answer() -> None:
    script = [Token("wrong"), End("length"), Notice("restart"), Start("2", "m"), Token("x")]
    answers = iter(
        [rx.of(*script, *calling(("a", "look", "{}"))), rx.of(Token("Done."), End("stop"))]
    )
    model = FunctionModel(lambda _: next(answers))
    _, result = rxllm.run(play(Agent(model, [look]).stream("Go")))
    assert (result.text, result.steps) == ("Done.", 2)


def test_many_calls_of_one_answer_cost_no_more_each() -> None:
    """The conversation is built for those that ask for it alone."""
    seen: list[Any] = []

    def quick(number: int) -> int:
        return number

    def asking(context: ToolContext) -> None:
        seen.append(context)

    calls = [(str(number), "quick", f'{{"number": {number}}}') for number in range(500)]
    calls.append(("last", "asking", "{}"))
    tools = [FunctionTool(quick, thread=False), FunctionTool(asking, thread=False)]
    chunks, result = rxllm.run(
        play(Agent(ScriptedModel(calling(*calls), "Done."), tools).stream("Go"))
    )
    assert [result.output for result in results_of(chunks).values()] == [*range(500), None]
    assert len(seen[0].messages) == 2 + 500
    assert kinds(chunks)[-1] == "End"
    assert len(result.messages) == 503


# Wrappers are agents, too


def paying() -> tuple[FunctionTool, list[str]]:
    ran: list[str] = []

    @rxllm.tool(approval="ask")
    def pay(context: ToolContext) -> str:
        ran.append(str(context.context))
        return "paid"

    return pay, ran


def test_a_piped_agent_passes_on_approvals_and_the_context() -> None:
    pay, ran = paying()
    history, token = waiting("pay")
    agent: Any = rxllm.piped(Agent(ScriptedModel("Ready.!"), [pay]), ops.stop_on("!"))
    assert agent.runs_tools
    result = rxllm.run(agent.stream(history, approvals={token: True}, context="shop"))
    assert (result.text, ran) == ("Ready.", ["shop"])


@pytest.mark.parametrize(
    "wrapped",
    [lambda model, _: rxllm.piped(model), lambda model, path: rxllm.recorded(model, path)],
)
def test_a_wrapper_can_be_copied(wrapped: Any, tmp_path: Path) -> None:
    model = copy.copy(wrapped(ScriptedModel("Hi"), tmp_path / "run.jsonl"))
    assert rxllm.run(model.stream("Hello")).text == "Hi"


# Approvals


def test_an_approval_is_one_for_its_agent() -> None:
    pay, ran = paying()
    call = ToolCall("a", "pay", "{}", complete=True)
    history = [Message("user", "Go"), Message("assistant", "", tool_calls=(call,))]
    token = approval_token(call, b"secret", "cook")

    def run(name: str) -> None:
        agent = Agent(ScriptedModel("Done."), [pay], secret=b"secret", name=name)
        rxllm.run(agent.stream(history, approvals={token: True}))

    with pytest.raises(BadRequestError, match="no call waits for the approval"):
        run("waiter")
    run("cook")
    assert len(ran) == 1


def test_an_empty_secret_signs_nothing() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        Agent(ScriptedModel("Hi"), secret=b"")


def test_what_an_approved_agent_says_is_not_part_of_the_answer() -> None:
    helper = Agent(ScriptedModel("Nested."), name="helper").as_tool(
        "helper", "Help.", approval="ask"
    )
    call = ToolCall("a", helper.name, '{"task": "Help"}', complete=True)
    history = [Message("user", "Go"), Message("assistant", "", tool_calls=(call,))]
    stream = Agent(ScriptedModel("Done."), [helper]).stream(
        history, approvals={approval_token(call): True}
    )
    chunks, result = rxllm.run(play(stream))
    assert "Nested." in [chunk.text for chunk in chunks if isinstance(chunk, Token)]
    assert result.text == "Done."


# Plain tools in threads


def test_tools_that_hang_take_no_thread_from_others() -> None:
    released = threading.Event()

    def hang() -> bool:
        return released.wait(60)

    def release() -> bool:
        released.set()
        return True

    calls = [*((str(number), "hang", "{}") for number in range(40)), ("last", "release", "{}")]
    agent = Agent(ScriptedModel(calling(*calls), "Done."), [hang, release], concurrency=41)
    chunks, _ = rxllm.run(play(agent.stream("Go")))
    assert [result.output for result in results_of(chunks).values()] == [True] * 41
