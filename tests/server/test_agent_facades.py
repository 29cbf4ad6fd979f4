"""Agents for clients that know no runs, with their own SDKs: all text, only open calls, the usage
of all answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anthropic
import openai
import pytest

from rxllm.agents import Agent
from rxllm.chunks import Citation, End, FileOutput, Reasoning, Token, ToolCall, Usage
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from tests.agents.runs import calling
from tests.server.agents import WEATHER, delete, restarting
from tests.server.serving import port_of, serving, until

HI: Any = [{"role": "user", "content": "Hi"}]


class Answer(NamedTuple):
    """What a client has made of an answer."""

    text: str
    calls: list[tuple[str, str, Any]]
    reason: str
    tokens: tuple[int, int]
    history: list[Any]  # the answer, as the client sends it back


class Clients(NamedTuple):
    chat: openai.AsyncOpenAI
    claude: anthropic.AsyncAnthropic
    http: Any


@asynccontextmanager
async def clients_of(agent: Any) -> AsyncIterator[Clients]:
    async with serving(create_app({"agent": agent})) as http:
        url = f"http://127.0.0.1:{port_of(http)}"
        async with (
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as chat,
            anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as claude,
        ):
            yield Clients(chat, claude, http)


def _tools(wrap: Callable[[dict[str, Any]], Any], tools: bool) -> dict[str, Any]:
    return {"tools": [wrap(WEATHER)]} if tools else {}


async def chat(clients: Clients, messages: Any, streamed: bool, tools: bool) -> Answer:
    given = _tools(lambda tool: {"type": "function", "function": tool}, tools)
    asked: dict[str, Any] = {"model": "agent", "messages": messages, **given}
    api: Any = clients.chat.chat.completions
    if streamed:
        message, reason, usage = await _assembled(
            await api.create(**asked, stream=True, stream_options={"include_usage": True})
        )
    else:
        done = await api.create(**asked)
        choice, usage = done.choices[0], done.usage
        message, reason = choice.message.model_dump(exclude_none=True), choice.finish_reason
    calls = [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls", ())
    ]
    tokens = usage.prompt_tokens, usage.completion_tokens
    return Answer(message.get("content", ""), calls, reason, tokens, [message])


async def _assembled(chunks: Any) -> tuple[dict[str, Any], str, Any]:
    """The message of a stream, as clients assemble it, its reason to end, and its usage."""
    calls: dict[int, Any] = {}
    text, reason, usage = "", "", None
    async for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                if call.index in calls:
                    calls[call.index]["function"]["arguments"] += call.function.arguments
                else:
                    calls[call.index] = call.model_dump(exclude_none=True, exclude={"index"})
    message: dict[str, Any] = {"role": "assistant", "content": text}
    return message | ({"tool_calls": list(calls.values())} if calls else {}), reason, usage


async def responses(clients: Clients, messages: Any, streamed: bool, tools: bool) -> Answer:
    given = _tools(lambda tool: {"type": "function", **tool, "strict": False}, tools)
    api = clients.chat.responses
    if streamed:
        async for event in await api.create(model="agent", input=messages, stream=True, **given):
            if event.type == "error":
                raise RuntimeError(event.message)
        done: Any = event.response
        again = await api.retrieve(done.id)
        assert again.output_text == done.output_text
        assert [item.id for item in again.output] == [item.id for item in done.output]
    else:
        done = await api.create(model="agent", input=messages, **given)
    calls = [
        (item.call_id, item.name, json.loads(item.arguments))
        for item in done.output
        if item.type == "function_call"
    ]
    reason = done.incomplete_details.reason if done.incomplete_details else done.status
    written = [item.model_dump(exclude_none=True) for item in done.output]
    tokens = done.usage.input_tokens, done.usage.output_tokens
    return Answer(done.output_text, calls, reason, tokens, written)


async def claude(clients: Clients, messages: Any, streamed: bool, tools: bool) -> Answer:
    given = _tools(lambda tool: {"name": tool["name"], "input_schema": tool["parameters"]}, tools)
    api = clients.claude.messages
    asked: dict[str, Any] = {"model": "agent", "max_tokens": 100, "messages": messages, **given}
    if streamed:
        async with api.stream(**asked) as stream:
            done = await stream.get_final_message()
    else:
        done = await api.create(**asked)
    calls = [(each.id, each.name, each.input) for each in done.content if each.type == "tool_use"]
    text = "".join(each.text for each in done.content if each.type == "text")
    content = [each.model_dump(exclude_none=True) for each in done.content]
    tokens = done.usage.input_tokens, done.usage.output_tokens
    written = [{"role": "assistant", "content": content}]
    return Answer(text, calls, done.stop_reason or "", tokens, written)


async def ollama(clients: Clients, messages: Any, streamed: bool, tools: bool) -> Answer:
    given = _tools(lambda tool: {"type": "function", "function": tool}, tools)
    asked = {"model": "agent", "messages": messages, "stream": streamed, **given}
    async with clients.http.post("/api/chat", json=asked) as response:
        lines = [json.loads(line) for line in (await response.text()).splitlines()]
    for line in lines:
        if "error" in line:
            raise RuntimeError(line["error"])
    text = "".join(line["message"]["content"] for line in lines)
    found = [call for line in lines for call in line["message"].get("tool_calls", ())]
    calls = [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in found]
    last = lines[-1]
    tokens = last["prompt_eval_count"], last["eval_count"]
    written = [{"role": "assistant", "content": text, "tool_calls": found}]
    return Answer(text, calls, last["done_reason"], tokens, written)


Ask = Callable[[Clients, Any, bool, bool], Awaitable[Answer]]
every_wire = pytest.mark.parametrize(
    ("ask", "reasons"),
    [
        (chat, {"calls": "tool_calls", "stop": "stop", "limit": "length"}),
        (responses, {"calls": "completed", "stop": "completed", "limit": "max_output_tokens"}),
        (claude, {"calls": "tool_use", "stop": "end_turn", "limit": "max_tokens"}),
        (ollama, {"calls": "stop", "stop": "stop", "limit": "length"}),
    ],
    ids=["chat", "responses", "claude", "ollama"],
)
streamed_or_whole = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])


def population(place: str) -> int:
    """Count the people of a place."""
    return 320


def looking(*calls: tuple[str, str, str], text: str = "Let me look. ") -> list[Any]:
    return calling(*calls, text=[text], usage=Usage(10, 5))


@every_wire
@streamed_or_whole
async def test_all_text_and_the_usage_of_all_answers_but_no_call_that_was_answered(
    ask: Ask, reasons: dict[str, str], streamed: bool
) -> None:
    inner = Agent(ScriptedModel(["NESTED", Usage(100, 50)]))
    model = ScriptedModel(
        looking(("a", "population", '{"place": "Velmo"}'), ("b", "sub", '{"task": "go"}')),
        looking(("c", "nothing", "{}"), text="And now. "),
        ["It is 320.", Usage(20, 7)],
    )
    agent = Agent(model, [population, inner.as_tool("sub", "Ask.")])
    async with clients_of(agent) as clients:
        answer = await ask(clients, HI, streamed, False)
    assert answer[:4] == (
        "Let me look. And now. It is 320.",
        [],
        reasons["stop"],
        (10 + 10 + 20 + 100, 5 + 5 + 7 + 50),
    )


@every_wire
@streamed_or_whole
async def test_a_call_that_waits_for_an_approval_stays_open(
    ask: Ask, reasons: dict[str, str], streamed: bool
) -> None:
    calls = ("a", "population", '{"place": "Velmo"}'), ("b", "delete", '{"path": "/x"}')
    async with clients_of(Agent(ScriptedModel(looking(*calls)), [population, delete])) as clients:
        answer = await ask(clients, HI, streamed, False)
    assert answer.text == "Let me look. "
    assert answer.calls == [("b", "delete", {"path": "/x"})]
    assert answer.reason == reasons["calls"]


@every_wire
@streamed_or_whole
async def test_a_tool_of_the_client_is_called_by_it_and_the_run_continues(
    ask: Ask, reasons: dict[str, str], streamed: bool
) -> None:
    calls = ("a", "population", '{"place": "Velmo"}'), ("b", "weather", '{"city": "Oslo"}')
    model = ScriptedModel(looking(*calls), "It snows on 320.")
    async with clients_of(Agent(model, [population])) as clients:
        answer = await ask(clients, HI, streamed, True)
        assert answer.calls == [("b", "weather", {"city": "Oslo"})]
        assert answer.reason == reasons["calls"]
        result: Any = {"role": "tool", "tool_call_id": "b", "content": "snow"}
        if ask is responses:
            result = {"type": "function_call_output", "call_id": "b", "output": "snow"}
        elif ask is claude:
            block = {"type": "tool_result", "tool_use_id": "b", "content": "snow"}
            result = {"role": "user", "content": [block]}
        again = await ask(clients, [*HI, *answer.history, result], streamed, True)
    assert (again.text, again.calls, again.reason) == ("It snows on 320.", [], reasons["stop"])
    first, second = model.requests
    assert [tool.name for tool in first.tools] == ["population", "weather"]
    assert [message.role for message in second.messages][-2:] == ["assistant", "tool"]
    assert (second.messages[-1].text, second.messages[-1].is_error) == ("snow", False)


@every_wire
@streamed_or_whole
async def test_the_limit_of_a_run_is_that_of_an_answer(
    ask: Ask, reasons: dict[str, str], streamed: bool
) -> None:
    model = ScriptedModel(looking(("a", "population", '{"place": "Velmo"}')))
    async with clients_of(Agent(model, [population], max_steps=1)) as clients:
        answer = await ask(clients, HI, streamed, False)
    assert answer[:3] == ("Let me look. ", [], reasons["limit"])


@every_wire
@streamed_or_whole
async def test_a_restart_is_no_error_if_nothing_of_the_answer_under_way_was_sent(
    ask: Ask, reasons: dict[str, str], streamed: bool
) -> None:
    half = [ToolCall("z", "population", '{"pl'), ConnectionResetError()]
    model = restarting(
        looking(("a", "population", '{"place": "Velmo"}')), half, ["It is 320.", Usage(20, 7)]
    )
    async with clients_of(Agent(model, [population])) as clients:
        answer = await ask(clients, HI, streamed, False)
    assert answer[:3] == ("Let me look. It is 320.", [], reasons["stop"])


@every_wire
async def test_a_restart_after_text_is_an_error_of_a_stream_and_none_of_a_whole_answer(
    ask: Ask, reasons: dict[str, str]
) -> None:
    def agent() -> Agent:
        first = looking(("a", "population", '{"place": "Velmo"}'))
        return Agent(restarting(first, ["Wro", ConnectionResetError()], "Right."), [population])

    async with clients_of(agent()) as clients:
        errors = (openai.APIError, anthropic.APIError, RuntimeError)
        with pytest.raises(errors, match="restarted after part"):
            await ask(clients, HI, True, False)
    async with clients_of(agent()) as clients:
        answer = await ask(clients, HI, False, False)
    assert answer[:3] == ("Let me look. Right.", [], reasons["stop"])


async def test_thinking_citations_and_images_of_all_answers_are_in_a_whole_completion() -> None:
    first: list[Any] = [
        Reasoning("Hm."),
        Citation("https://a.example", "A"),
        FileOutput("image/png", "QQ=="),
    ]
    call = ToolCall("a", "population", '{"place": "Velmo"}', complete=True)
    model = ScriptedModel(
        [*first, Token("Look. "), call, End("tool_calls")],
        [Reasoning("So."), Citation("https://b.example", "B"), Token("320.")],
    )
    async with clients_of(Agent(model, [population])) as clients:
        done = await clients.chat.chat.completions.create(model="agent", messages=HI)
    message: Any = done.choices[0].message
    assert (message.content, message.reasoning_content) == ("Look. 320.", "Hm.So.")
    assert [each.url_citation.title for each in message.annotations] == ["A", "B"]
    assert len(message.images) == 1


async def test_a_client_that_leaves_stops_the_model_and_the_tools() -> None:
    running: list[str] = []

    async def endless() -> str:
        """Never end."""
        running.append("tool")
        try:
            await asyncio.Event().wait()
        finally:
            running.remove("tool")
        return ""

    agent = Agent(ScriptedModel(looking(("a", "endless", "{}"))), [endless])
    async with clients_of(agent) as clients:
        for path, asked in (
            ("/v1/chat/completions", {"model": "agent", "messages": HI, "stream": True}),
            ("/v1/messages", {"model": "agent", "max_tokens": 9, "messages": HI, "stream": True}),
            ("/v1/responses", {"model": "agent", "input": "Hi", "stream": True}),
            ("/api/chat", {"model": "agent", "messages": HI}),
            ("/agui", {"messages": [{"id": "u", **HI[0]}]}),
        ):
            response = await clients.http.post(path, json=asked)
            await until(lambda: running == ["tool"])
            response.close()
            await until(lambda: not running)
