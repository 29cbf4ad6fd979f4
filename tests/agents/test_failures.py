"""Whatever fails, and whatever the valve does meanwhile: a run ends, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from reactivex import Observable

import rxllm
from rxllm import operators as ops
from rxllm.agents import Agent, FunctionTool, ToolError, Turn
from rxllm.chunks import End, Token, ToolResult, Usage
from rxllm.errors import RxLLMError
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve
from tests.agents.runs import calling, kinds, play, results_of

LOST = ConnectionResetError("lost")
CALLS = [("a", "slow", "{}"), ("b", "numbers", "{}"), ("c", "sub", '{"task": "x"}')]


async def slow() -> str:
    await asyncio.sleep(1)
    return "done"


async def numbers() -> AsyncIterator[int]:
    for number in range(3):
        yield number
        await asyncio.sleep(0.5)


async def broken() -> str:
    await asyncio.sleep(0.5)
    raise ToolError("broken")


async def endless() -> str:
    await asyncio.Event().wait()
    return "never"


def fail(*_: Any) -> Any:
    raise RuntimeError("boom")


async def fail_later(turn: Turn) -> None:
    await asyncio.sleep(0.5)
    if turn.step == 2:
        raise RuntimeError("boom")


def agent_of(
    *scripts: Any, first: Any = slow, nested: Any = ("inner", " text"), **options: Any
) -> Agent:
    helper = Agent(ScriptedModel(list(nested), delay=0.4))
    sub = helper.as_tool("sub", "A helper.")
    tools: list[Any] = [FunctionTool(first, name="slow"), numbers, sub]
    return Agent(ScriptedModel(calling(*CALLS), *scripts, delay=0.3), tools, **options)


CASES: dict[str, tuple[Callable[[], Agent], type[Exception] | None]] = {
    "nothing": (lambda: agent_of(["Do", "ne."]), None),
    "the model, at once": (lambda: Agent(ScriptedModel([LOST]), [slow]), ConnectionResetError),
    "the model, in the second step": (lambda: agent_of([LOST]), ConnectionResetError),
    "the model, after text": (lambda: agent_of(["Do", LOST]), ConnectionResetError),
    "a tool": (lambda: agent_of("Sorry.", first=broken), None),
    "the time of a tool": (lambda: agent_of("Sorry.", first=endless, tool_timeout=2), None),
    "a run inside a tool": (lambda: agent_of("Sorry.", nested=["in", LOST]), None),
    "the preparation": (lambda: agent_of("x", prepare=fail), RuntimeError),
    "the preparation, later": (lambda: agent_of("x", prepare=fail_later), RuntimeError),
    "the words for an error": (
        lambda: agent_of("x", first=broken, on_tool_error=fail),
        RuntimeError,
    ),
}

VALVES: dict[str, list[tuple[float, bool]]] = {
    "open": [],
    "closed at first": [(0.0, False), (5.0, True)],
    "closed amid the tools": [(2.6, False), (9.0, True)],
    "closed amid the second answer": [(5.0, False), (9.0, True)],
    "opening and closing": [(step / 10, bool(step % 2)) for step in range(100)],
}


async def watch(stream: Observable[Any], changes: list[tuple[float, bool]]) -> list[Any]:
    """The events of a stream while its valve changes at these times."""
    loop = asyncio.get_running_loop()
    events: list[Any] = []
    ended = asyncio.Event()

    def end(event: Any) -> None:
        events.append(event)
        ended.set()

    valve = Valve()
    async with no_leaks(valve):
        for seconds, is_open in changes:
            if seconds:
                loop.call_later(seconds, valve.open if is_open else valve.close)
            elif not is_open:
                valve.close()
        loop.call_later(20, valve.open)
        scheduler = StreamScheduler(loop, valve)
        stream.subscribe(events.append, end, lambda: end(COMPLETED), scheduler=scheduler)
        await asyncio.wait_for(ended.wait(), 100)
        await scheduler.settle()
        await asyncio.sleep(100)  # nothing comes after the end
    return events


@pytest.mark.parametrize("valve", VALVES)
@pytest.mark.parametrize("what", CASES)
def test_a_failure_ends_the_run_or_is_told_to_the_model(what: str, valve: str) -> None:
    make, error = CASES[what]
    events = run_virtual(watch(make().stream("Go"), VALVES[valve]))
    assert events[-1] is COMPLETED if error is None else isinstance(events[-1], error)
    calls = [name for name, _, _ in CALLS]
    ended = [event for event in events if isinstance(event, ToolResult) and not event.preliminary]
    results = [event.id for event in ended]
    if error is None:
        assert sorted(results) == calls
        assert events[-2] == End("stop")
    else:
        assert len(results) == len(set(results))


@pytest.mark.parametrize("valve", VALVES)
@pytest.mark.parametrize("count", range(1, 26, 3))
def test_a_subscriber_that_raises_at_any_chunk_stops_everything(count: int, valve: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        valves = Valve()
        failures: list[Any] = []
        loop.set_exception_handler(lambda _, told: failures.append(told.get("exception")))
        async with no_leaks(valves):
            for seconds, is_open in VALVES[valve]:
                loop.call_later(seconds, valves.open if is_open else valves.close)
            loop.call_later(20, valves.open)
            seen: list[Any] = []

            def on_next(chunk: Any) -> None:
                seen.append(chunk)
                if len(seen) == count:
                    raise RuntimeError("boom")

            sink = StreamScheduler(loop, valves).with_sink(failures.append)
            agent_of(["Do", "ne."]).stream("Go").subscribe(on_next, failures.append, scheduler=sink)
            await asyncio.sleep(60)
            await sink.settle()
        assert len(seen) == count
        assert [type(error) for error in failures] == [RuntimeError]

    run_virtual(main())


def test_an_error_of_ours_has_the_text_and_the_conversation() -> None:
    agent = agent_of(["Do", RxLLMError("lost")])
    with pytest.raises(RxLLMError) as failed:
        run_virtual(play(agent.stream("Go")))
    assert failed.value.partial == "Do"
    assert [message.role for message in failed.value.messages] == [
        *["user", "assistant", "tool", "tool", "tool"],
    ]


# A budget


def test_a_budget_cuts_between_two_tokens_and_keeps_what_was_said() -> None:
    def look() -> str:
        return "there"

    model = ScriptedModel(
        calling(("a", "look", "{}"), usage=Usage(100, 10)),
        ["one", " two", " three", " four", " five"],
    )

    async def main() -> Any:
        async with no_leaks():
            return await play(Agent(model, [look]).stream("Go").pipe(ops.budget(tokens=113)))

    _, result = rxllm.run(main())
    assert (result.text, result.finish_reason, result.steps) == ("one two three", "limit", 2)
    assert (model.cancelled, model.active) == (1, 0)
    assert result.messages[-1].text == "one two three"


def test_a_budget_that_is_spent_runs_no_tools() -> None:
    model = ScriptedModel(calling(("a", "slow", "{}"), usage=Usage(100, 10)), "never")
    stream = Agent(model, [slow]).stream("Go").pipe(ops.budget(tokens=100))
    chunks, result = run_virtual(play(stream))
    assert (kinds(chunks)[-1], result.finish_reason) == ("End", "limit")
    assert (results_of(chunks), len(model.requests)) == ({}, 1)


# Sharing


def test_who_joins_amid_the_second_step_gets_the_first_and_what_replaced_the_second() -> None:
    async def look() -> str:
        return "there"

    retry = ops.retry_with_backoff(2, initial=0, jitter=False, after_output="restart")
    scripts: Any = [
        calling(("a", "look", "{}"), text=["First."]),
        ["Lo", 0.5, LOST],
        ["Fo", 1.0, "und."],
    ]
    model = rxllm.piped(ScriptedModel(*scripts), retry)
    shared = Agent(model, [look]).stream("Go").pipe(ops.multiplex())

    async def main() -> Any:
        async with no_leaks():
            first = asyncio.ensure_future(play(shared))
            await asyncio.sleep(1)
            return await asyncio.gather(play(shared), first)

    (late, result), (_, early) = run_virtual(main())
    assert kinds(late)[:6] == ["Start", "Token", "ToolCall", "Usage", "End+", "ToolResult"]
    texts = [chunk.text for chunk in late if isinstance(chunk, Token)]
    assert texts == ["First.", "Fo", "und."]
    assert (result.text, result.messages, result.usage) == (
        early.text,
        early.messages,
        early.usage,
    )
