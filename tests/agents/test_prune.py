"""`prune` and `prune_steps`: shorter conversations that the providers accept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxllm
from rxllm import Message, ReasoningPart, TextPart
from rxllm.agents import Agent, prune, prune_steps
from rxllm.chunks import End, ProviderState, ToolCall
from rxllm.models.scripted import ScriptedModel
from tests import strict_native_providers, strict_providers
from tests.agents.runs import calling
from tests.agents.test_provider_histories import SAYS, SIGNED, USED, look, looks
from tests.models.remote import test_gemini, test_responses
from tests.models.remote.test_histories import (
    DONE,
    THINKING,
    claude,
    claude_answer,
    gpt,
    thought,
    used,
    written,
)
from tests.strict_providers import StrictServer

STATE = ProviderState("claude", "claude", "signed")
THOUGHT = ReasoningPart("hm", STATE)


def asks(*names: str, thinks: bool = False) -> Message:
    calls = tuple(ToolCall(name, "look", "{}", complete=True) for name in names)
    return Message("assistant", (THOUGHT,) if thinks else "", tool_calls=calls)


def told(name: str, content: Any = "snow", **more: Any) -> Message:
    return Message("tool", content, tool_call_id=name, **more)


def contents(messages: Any) -> list[Any]:
    return [message.content for message in messages if message.role == "tool"]


def test_all_but_the_last_results_are_cleared_in_their_place() -> None:
    history = [Message("user", "Go")]
    for name in "abcd":
        history += [asks(name), told(name, is_error=name == "a")]
    pruned = prune(history, keep=2)
    assert contents(pruned) == ["[cleared]", "[cleared]", "snow", "snow"]
    assert [message.calls for message in pruned] == [message.calls for message in history]
    assert pruned[2] == told("a", "[cleared]", is_error=True)
    assert contents(prune(history)) == ["[cleared]", "snow", "snow", "snow"]
    assert contents(prune(history, 1, cleared="")) == ["", "", "", "snow"]
    assert prune(history, keep=4) == tuple(history)
    assert prune([]) == ()


def test_results_that_the_model_has_not_read_stay() -> None:
    history = [asks("a"), told("a"), asks("b", "c", "d"), told("b"), told("c"), told("d")]
    assert contents(prune(history, keep=1)) == ["[cleared]", "snow", "snow", "snow"]
    assert contents(prune(history, keep=0)) == ["[cleared]", "snow", "snow", "snow"]
    read = [*history, Message("assistant", "It snows.")]
    assert contents(prune(read, keep=0)) == ["[cleared]"] * 4


def test_thinking_of_this_turn_and_before_calls_stays() -> None:
    answer = Message("assistant", (THOUGHT, TextPart("It snows.")))
    only = Message("assistant", (THOUGHT,))
    turn = [asks("a", thinks=True), told("a"), answer]
    history = [Message("user", "Go"), *turn, only, Message("user", "And?"), *turn]
    pruned = prune(history)
    assert pruned[1] == asks("a", thinks=True)
    assert pruned[3] == Message("assistant", (TextPart("It snows."),))
    assert pruned[4:] == (Message("user", "And?"), *turn)


@given(st.lists(st.sampled_from(["ask", "ask twice", "say", "user"])), st.integers(0, 4))
def test_every_call_keeps_its_result(kinds: list[str], keep: int) -> None:
    history = []
    for place, kind in enumerate(kinds):
        names = [f"{place}{name}" for name in {"ask": "a", "ask twice": "ab"}.get(kind, "")]
        if names:
            history += [asks(*names, thinks=True), *map(told, names)]
        else:
            history.append(Message("user" if kind == "user" else "assistant", "Well."))
    pruned = prune(history, keep)
    assert [each.tool_call_id for each in pruned] == [each.tool_call_id for each in history]
    assert [each.calls for each in pruned] == [each.calls for each in history]
    assert contents(pruned).count("snow") >= min(keep, len(contents(history)))
    assert prune(pruned, keep) == pruned


@pytest.mark.parametrize("make", [lambda keep: prune([], keep), prune_steps])
def test_bad_numbers_are_rejected_at_the_call(make: Any) -> None:
    with pytest.raises(ValueError, match="keep"):
        make(-1)
    with pytest.raises(TypeError, match="keep"):
        make(1.5)


async def test_an_agent_prunes_before_each_step_and_its_result_is_whole() -> None:
    model = ScriptedModel(
        *[calling((name, "look", "{}")) for name in "abc"], ["Done.", End("stop")]
    )
    agent = Agent(model, [look], prepare=prune_steps(keep=1))
    result = await agent.stream("Go")
    asked = [contents(request.messages) for request in model.requests]
    assert asked == [
        [],
        ["snow in "],
        ["[cleared]", "snow in "],
        ["[cleared]", "[cleared]", "snow in "],
    ]
    assert contents(result.messages) == ["snow in "] * 3


def history_after(result: Any) -> tuple[Message, ...]:
    return (Message("user", "Go"), *result.messages, Message("user", "And?"))


async def test_anthropic_accepts_it_with_thinking() -> None:
    steps = [
        claude_answer(thought("I must look."), written("One moment."), used("a"), used("b")),
        claude_answer(thought("Again."), used("c")),
        claude_answer(thought("So."), written("It snows."), reason="end_turn"),
        claude_answer(thought("Once more."), used("d")),
        claude_answer(thought("Sure."), used("e")),
        claude_answer(written("It does."), reason="end_turn"),
    ]
    async with StrictServer(strict_providers.anthropic, *steps) as server:
        agent = Agent(claude(server), [look], prepare=prune_steps(keep=1))
        first = await agent.stream("Go", extra=THINKING)
        second = await agent.stream(history_after(first), extra=THINKING)
    assert (server.refused, second.text) == ([], "It does.")
    last = server.bodies[-1]["messages"]
    sent = json.dumps(last)
    assert sent.count("[cleared]") == 4
    assert sent.count("snow in") == 1
    assert "So." not in sent  # thinking of an earlier turn, before text
    assert all(word in sent for word in ("I must look.", "Again.", "Once more.", "Sure."))


async def test_openai_accepts_it() -> None:
    answers = looks("a", "b"), looks("c"), [*SAYS, USED, DONE], looks("d"), [*SAYS, USED, DONE]
    async with StrictServer(strict_providers.openai, *answers) as server:
        agent = Agent(gpt(server), [look], prepare=prune_steps(keep=1))
        first = await agent.stream("Go")
        await agent.stream(history_after(first))
    assert server.refused == []
    assert json.dumps(server.bodies[-1]).count("[cleared]") == 3


async def test_openais_responses_accept_it() -> None:
    looking, telling = test_responses.LOOKS, test_responses.TELLS
    answers = looking, looking, telling, looking, telling
    async with StrictServer(strict_native_providers.responses, *answers) as server:
        model = rxllm.model(test_responses.NAME, api_key="k", base_url=server.url)
        agent = Agent(model, [look], prepare=prune_steps(keep=1))
        first = await agent.stream("Go")
        await agent.stream(history_after(first))
    assert server.refused == []
    assert json.dumps(server.bodies[-1]).count("[cleared]") >= 2


async def test_gemini_accepts_it() -> None:
    calls = [test_gemini.event(*test_gemini.calls(SIGNED, None)), test_gemini.STOP]
    says = [test_gemini.event({"text": "It snows."}, reason="STOP")]
    answers = calls, calls, says, calls, says
    async with StrictServer(strict_native_providers.gemini_native, *answers) as server:
        model = rxllm.model(test_gemini.NAME, api_key="k", base_url=server.url)
        agent = Agent(model, [look], prepare=prune_steps(keep=1))
        first = await agent.stream("Go")
        await agent.stream(history_after(first))
    assert server.refused == []
    assert json.dumps(server.bodies[-1]).count("[cleared]") >= 4


def test_a_generator_of_messages_is_read_and_nothing_else_is() -> None:
    history = [Message("user", "Go")]
    assert list(prune(iter(history))) == history  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="prune takes messages, got 'Go'"):
        prune(["Go"])  # type: ignore[list-item]
