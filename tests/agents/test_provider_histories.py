"""Runs against servers that refuse a bad conversation, as the providers do."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import msgspec
import pytest

import rxllm
from rxllm import Message
from rxllm import operators as ops
from rxllm.agents import Agent
from rxllm.chunks import Notice, ToolCall, Usage
from rxllm.errors import OverloadedError
from rxllm.models.scripted import ScriptedModel
from rxllm.piped_model import piped
from rxllm.testing.provider_streams import openai_event
from tests import strict_native_providers, strict_providers
from tests.agents.runs import play, results_of
from tests.models.remote import test_gemini, test_ollama, test_responses
from tests.models.remote.test_histories import (
    DONE,
    THINKING,
    called,
    claude,
    claude_answer,
    delta,
    gpt,
    thought,
    used,
    written,
)
from tests.strict_providers import StrictServer


async def look(at: int = 0, place: str = "") -> str:
    """Look at a place.

    Args:
        at: its number.
        place: its name.
    """
    await asyncio.sleep(0.01 * (place == "Oslo"))
    return f"snow in {place}"


SIGNED = base64.b64encode(b"signed").decode()
SAYS = [delta(content="It"), delta(content=" snows."), delta("stop")]
USED = openai_event(choices=[], usage={"prompt_tokens": 10, "completion_tokens": 5})


def looks(*call_ids: str, text: str = "Let me look.") -> list[bytes]:
    """An answer of OpenAI with calls at once, whose arguments come in pieces."""
    calls = [called(each, index) for index, each in enumerate(call_ids)]
    cut = [
        {**call, "function": {**call["function"], "arguments": piece}}
        for call in calls
        for piece in ('{"at', '": 1}')
    ]
    events = [delta(tool_calls=[each]) for each in cut]
    return [delta(content=text), *events, delta("tool_calls"), USED, DONE]


async def test_openai_accepts_each_later_step() -> None:
    answers = looks("call_1", "call_2"), looks("call_1"), [*SAYS, USED, DONE]
    async with StrictServer(strict_providers.openai, *answers) as server:
        agent = Agent(gpt(server), [look], instructions="Be brief.")
        chunks, result = await play(agent.stream("Weather?"))
    assert server.refused == []
    assert (result.text, result.usage, result.steps) == ("It snows.", Usage(30, 15), 3)
    roles = [message["role"] for message in server.bodies[2]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool", "assistant", "tool"]
    assert server.bodies[1]["messages"][2]["content"] == "Let me look."
    sent = server.bodies[0]["tools"][0]["function"]["parameters"]["properties"]
    assert sent["at"]["description"] == "its number."
    # An id that the server uses twice is made another one, here and there.
    assert set(results_of(chunks)) == {"call_1", "call_2", "call_1-2"}
    assert server.bodies[2]["messages"][-1]["tool_call_id"] == "call_1-2"


async def test_arguments_that_are_no_json_do_not_spoil_the_conversation() -> None:
    broken = called("a", function={"name": "look", "arguments": '{"at": 1'})
    answers = [delta(tool_calls=[broken]), delta("tool_calls"), DONE], [*SAYS, DONE]
    async with StrictServer(strict_providers.openai, *answers) as server:
        result = await Agent(gpt(server), [look]).stream("Go")
    assert (server.refused, result.text) == ([], "It snows.")
    assert "InvalidArgumentsError" in server.bodies[1]["messages"][-1]["content"]


async def test_a_retry_in_the_second_step_has_the_same_conversation() -> None:
    cut = [delta(content="It"), delta(content=" sn")]
    async with StrictServer(strict_providers.openai, looks("a"), cut, [*SAYS, DONE]) as server:
        retry = ops.retry_with_backoff(3, initial=0.01, jitter=False, after_output="restart")
        result = await Agent(piped(gpt(server), retry), [look]).stream("Go")
    assert (server.refused, result.text, len(server.bodies)) == ([], "It snows.", 3)
    assert server.bodies[1]["messages"] == server.bodies[2]["messages"]


async def test_anthropic_gets_the_thinking_of_each_step_back() -> None:
    first = [thought("I must look."), written("One moment."), used("a", place="Oslo"), used("b")]
    answers = [
        claude_answer(*first),
        claude_answer(thought("Again."), used("c", place="Rome")),
        claude_answer(written("It snows."), reason="end_turn"),
    ]
    async with StrictServer(strict_providers.anthropic, *answers) as server:
        result = await Agent(claude(server), [look]).stream("Go", extra=THINKING)
    assert (server.refused, result.text, result.steps) == ([], "It snows.", 3)
    assert server.bodies[1]["messages"][1]["content"] == first
    told = server.bodies[1]["messages"][2]["content"]
    assert [block["tool_use_id"] for block in told] == ["a", "b"]

    # Stored, and continued in another process; the thinking stays with its model.
    messages = (Message("user", "Go"), *result.messages)
    stored = msgspec.json.decode(msgspec.json.encode(messages), type=list[Message])
    more = [*stored, Message("user", "Sure?")]
    yes = claude_answer(written("Yes."), reason="end_turn")
    async with StrictServer(strict_providers.anthropic, yes) as server:
        assert (await Agent(claude(server), [look]).stream(more, extra=THINKING)).text == "Yes."
    assert server.refused == []
    async with StrictServer(strict_providers.openai, [*SAYS, DONE]) as server:
        await Agent(gpt(server), [look]).stream(more)
    assert server.refused == []
    assert "must look" not in json.dumps(server.bodies)


async def test_anthropic_is_told_that_a_tool_has_failed() -> None:
    def broken() -> str:
        raise ValueError("it is dark")

    answers = claude_answer({**used("a"), "name": "broken"}), claude_answer(written("Sorry."))
    async with StrictServer(strict_providers.anthropic, *answers) as server:
        await Agent(claude(server), [broken]).stream("Go")
    block = server.bodies[1]["messages"][2]["content"][0]
    assert (server.refused, block["is_error"]) == ([], True)
    assert "it is dark" in json.dumps(block["content"])


async def test_gemini_gets_the_signatures_of_each_step_back() -> None:
    answers: list[list[bytes]] = [
        [test_gemini.event(*test_gemini.calls(SIGNED, None)), test_gemini.STOP],
        [test_gemini.event(*test_gemini.calls(SIGNED)), test_gemini.STOP],
        [test_gemini.event({"text": "It snows."}, reason="STOP")],
    ]
    async with StrictServer(strict_native_providers.gemini_native, *answers) as server:
        model = rxllm.model(test_gemini.NAME, api_key="k", base_url=server.url)
        chunks, result = await play(Agent(model, [look]).stream("Go"))
    assert (server.refused, result.text, result.steps) == ([], "It snows.", 3)
    assert len(results_of(chunks)) == 3


async def test_openais_responses_get_the_reasoning_of_each_step_back() -> None:
    answers = test_responses.LOOKS, test_responses.LOOKS, test_responses.TELLS
    async with StrictServer(strict_native_providers.responses, *answers) as server:
        model = rxllm.model(test_responses.NAME, api_key="k", base_url=server.url)
        result = await Agent(model, [look]).stream("Go")
    assert (server.refused, result.text, result.steps) == ([], "It snows.", 3)
    sent = [item.get("type") for item in server.bodies[2]["input"]]
    assert sent == [None, *["reasoning", "function_call", "function_call_output"] * 2]


async def test_ollama_gets_thinking_and_calls_of_each_step_back() -> None:
    call = {"function": {"name": "look", "arguments": {"at": 1}}}
    step = [test_ollama.said(thinking="Hm."), test_ollama.said(tool_calls=[call])]
    answers = [[*step, test_ollama.done()]] * 2
    answers.append([test_ollama.said("It snows."), test_ollama.done()])
    async with StrictServer(strict_native_providers.ollama, *answers) as server:
        result = await Agent(rxllm.model(test_ollama.NAME, base_url=server.url), [look]).stream(
            "Go"
        )
    assert (server.refused, result.text, result.steps) == ([], "It snows.", 3)


async def test_a_fallback_from_one_provider_to_another_in_the_second_step() -> None:
    answers = claude_answer(thought("hm"), written("One moment."), used("a", place="Oslo"))
    async with (
        StrictServer(strict_providers.anthropic, answers) as one,
        StrictServer(strict_providers.openai, [*SAYS, DONE]) as two,
    ):
        backup = gpt(two)

        def on_error(request: Any) -> Any:
            return ops.fallback_to(lambda: backup.stream(request))

        model = piped(OnlyOnce(claude(one)), of_request=on_error)
        chunks, result = await play(Agent(model, [look]).stream("Go"))
    assert (one.refused, two.refused, result.text) == ([], [], "It snows.")
    roles = [message["role"] for message in two.bodies[0]["messages"]]
    assert roles == ["user", "assistant", "tool"]
    assert [chunk.kind for chunk in chunks if isinstance(chunk, Notice)] == ["fallback"]


class OnlyOnce:
    """A model that is overloaded after its first answer."""

    def __init__(self, model: rxllm.Model) -> None:
        self._models = [model]
        self.info = model.info

    def stream(self, prompt: Any, **options: Any) -> Any:
        busy = ScriptedModel([OverloadedError("busy")])
        return (self._models.pop() if self._models else busy).stream(prompt, **options)


@pytest.mark.parametrize("name", ["reset", "refused"])
async def test_calls_whose_results_were_lost_are_told_to_be_unknown(name: str) -> None:
    """A stored conversation may end amid the calls, or continue after them."""
    asked = Message("assistant", "", tool_calls=(ToolCall("a", "look", "{}", complete=True),))
    history = [Message("user", "Go"), asked, *([Message("user", "Well?")] * (name == "refused"))]
    async with StrictServer(strict_providers.openai, [*SAYS, DONE]) as server:
        assert (await Agent(gpt(server), [look]).stream(history)).text == "It snows."
    assert server.refused == []
    async with StrictServer(strict_providers.anthropic, claude_answer(written("x"))) as server:
        await Agent(claude(server), [look]).stream(history)
    assert server.refused == []
