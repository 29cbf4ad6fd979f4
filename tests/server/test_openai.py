"""`/v1`, with the official SDK as its client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from aiohttp import web
from openai import AsyncOpenAI, OpenAI

from rxllm.chunks import (
    Citation,
    End,
    FileOutput,
    ProviderState,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
)
from rxllm.errors import ContextLengthError, OverloadedError, RateLimitError
from rxllm.messages import ReasoningPart, TextPart
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from rxllm.server.app_keys import MODELS
from tests.server.serving import STORY, Stepwise, scripted, serving, until

HI: Any = [{"role": "user", "content": "Hi"}]
CALLS = (
    Start("r", "m"),
    Reasoning("Hm. "),
    ToolCall("c1", "weather", '{"ci', 0),
    ToolCall("c1", "weather", '{"city":"Paris"}', 0, complete=True),
    ToolCall("c2", "time", "{}", 1, complete=True),
    Usage(5, 7, cached_tokens=2, reasoning_tokens=1),
    End("tool_calls"),
)
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("weather", "time")
]


@asynccontextmanager
async def sdk(app: web.Application, key: str = "none") -> AsyncIterator[AsyncOpenAI]:
    async with serving(app) as client:
        base = f"{client._base_url}v1"
        async with AsyncOpenAI(base_url=base, api_key=key, max_retries=0) as made:
            yield made


def let(*chunks: Any) -> tuple[Stepwise, web.Application]:
    model = Stepwise(*chunks)
    model.let()
    return model, create_app({"tiny": model})


async def test_a_whole_answer() -> None:
    async with sdk(scripted()) as client:
        answer = await client.chat.completions.create(model="tiny", messages=HI, max_tokens=4)
    assert answer.object == "chat.completion"
    assert answer.model == "tiny"
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Once upon a time", "length")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 4)
    assert answer.usage.total_tokens == 5


async def test_a_streamed_answer() -> None:
    async with sdk(scripted()) as client:
        stream = await client.chat.completions.create(model="tiny", messages=HI, stream=True)
        got = [chunk async for chunk in stream]
    assert "".join(each.choices[0].delta.content or "" for each in got) == STORY
    assert got[0].choices[0].delta.role == "assistant"
    assert [each.choices[0].finish_reason for each in got[-2:]] == [None, "stop"]
    assert len({each.id for each in got}) == 1
    assert all(each.usage is None for each in got)


async def test_the_usage_comes_last_if_requested() -> None:
    async with sdk(scripted()) as client:
        stream = await client.chat.completions.create(
            model="tiny", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        *others, last = [chunk async for chunk in stream]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 12
    assert all(each.usage is None for each in others)


async def test_the_synchronous_client() -> None:
    def ask(base: str) -> tuple[str | None, str, list[str]]:
        with OpenAI(base_url=base, api_key="none", max_retries=0) as client:
            whole = client.chat.completions.create(model="tiny", messages=HI)
            stream = client.chat.completions.create(model="tiny", messages=HI, stream=True)
            text = "".join(each.choices[0].delta.content or "" for each in stream)
            return whole.choices[0].message.content, text, [it.id for it in client.models.list()]

    async with serving(scripted()) as client:
        assert await asyncio.to_thread(ask, f"{client._base_url}v1") == (STORY, STORY, ["tiny"])


async def test_the_request_reaches_the_model() -> None:
    model = ScriptedModel(STORY, by="word")
    messages: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "time", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "noon"},
    ]
    async with sdk(create_app({"tiny": model})) as client:
        await client.chat.completions.create(
            model="tiny",
            messages=messages,
            max_completion_tokens=9,
            temperature=0,
            top_p=0.5,
            stop=["x", "y"],
            seed=3,
            n=1,
            response_format={"type": "json_object"},
            tools=TOOLS,
            tool_choice={"type": "function", "function": {"name": "time"}},
        )
    (asked,) = model.requests
    assert [message.role for message in asked.messages] == ["system", "user", "assistant", "tool"]
    assert asked.messages[2].tool_calls[0].name == "time"
    assert asked.messages[3].tool_call_id == "c"
    assert (asked.max_tokens, asked.temperature, asked.top_p) == (9, 0.0, 0.5)
    assert (asked.stop, asked.seed, asked.response_format) == (("x", "y"), 3, "json")
    assert ([tool.name for tool in asked.tools], asked.tool_choice) == (["weather", "time"], "time")


async def test_the_answer_ends_before_a_stop_sequence() -> None:
    async with sdk(scripted()) as client:
        answer = await client.chat.completions.create(model="tiny", messages=HI, stop=" robot")
    assert answer.choices[0].message.content == "Once upon a time there was a"


async def test_a_json_schema_is_passed_on() -> None:
    model = ScriptedModel("{}")
    schema: dict[str, object] = {"type": "object"}
    async with sdk(create_app({"tiny": model})) as client:
        await client.chat.completions.create(
            model="tiny",
            messages=HI,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        )
    assert model.requests[0].response_format == schema


async def test_tool_calls_of_a_whole_answer() -> None:
    _, app = let(*CALLS)
    async with sdk(app) as client:
        answer = await client.chat.completions.create(model="tiny", messages=HI, tools=TOOLS)
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    calls = [
        (call.id, call.function.name, call.function.arguments)
        for call in choice.message.tool_calls or ()
        if call.type == "function"
    ]
    assert calls == [("c1", "weather", '{"city":"Paris"}'), ("c2", "time", "{}")]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 2


async def test_calls_of_several_steps_are_separate() -> None:
    steps = (
        Start("1", "m"),
        ToolCall("c1", "weather", '{"city":', 0),
        ToolCall("c1", "weather", '{"city":"Oslo"}', 0, complete=True),
        End("tool_calls", more=True),
        Start("2", "m"),
        ToolCall("c2", "weather", '{"city":', 0),
        ToolCall("c2", "weather", '{"city":"Rome"}', 0, complete=True),
        End("limit"),
    )
    _, app = let(*steps)
    async with (
        sdk(app) as client,
        client.chat.completions.stream(model="tiny", messages=HI, tools=TOOLS[:1]) as stream,
    ):
        with pytest.raises(openai.LengthFinishReasonError) as caught:
            await stream.get_final_completion()
    calls = caught.value.completion.choices[0].message.tool_calls or ()
    said = [(call.id, call.function.arguments) for call in calls if call.type == "function"]
    assert said == [("c1", '{"city":"Oslo"}'), ("c2", '{"city":"Rome"}')]


async def test_tool_calls_of_a_streamed_answer_add_up() -> None:
    _, app = let(*CALLS)
    async with (
        sdk(app) as client,
        client.chat.completions.stream(model="tiny", messages=HI, tools=TOOLS) as stream,
    ):
        answer = await stream.get_final_completion()
    calls = [
        (call.id, call.function.name, call.function.arguments)
        for call in answer.choices[0].message.tool_calls or ()
    ]
    assert calls == [("c1", "weather", '{"city":"Paris"}'), ("c2", "time", "{}")]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (RateLimitError("slow down"), openai.RateLimitError, "rate_limit"),
        (OverloadedError("busy"), openai.InternalServerError, "overloaded"),
        (ContextLengthError("long"), openai.BadRequestError, "context_length_exceeded"),
    ],
)
async def test_failures_are_raised_as_exceptions_of_the_sdk(
    stream: bool, error: Exception, kind: type[openai.APIStatusError], code: str
) -> None:
    _, app = let(error)
    async with sdk(app) as client:
        with pytest.raises(kind) as raised:
            await client.chat.completions.create(model="tiny", messages=HI, stream=stream)
    assert raised.value.code == code


async def test_a_failure_after_the_first_token_is_raised_too() -> None:
    _, app = let(Start("r", "m"), Token("Half"), OverloadedError("busy"))
    async with sdk(app) as client:
        stream = await client.chat.completions.create(model="tiny", messages=HI, stream=True)
        said = []
        with pytest.raises(openai.APIError, match="busy"):
            async for chunk in stream:
                said.append(chunk.choices[0].delta.content)
    assert said == ["Half"]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"n": 2}, "n"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"temperature": 9}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"top_p": 7}, "top_p"),
        ({"stop": [""]}, "stop"),
        ({"messages": [{"role": "user", "content": "x" * 100_001}]}, "messages"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logprobs": True, "top_logprobs": 99}, "top_logprobs"),
        ({"reasoning_effort": "utmost"}, "reasoning_effort"),
        ({"extra_body": {"guided_regex": "a+"}}, "guided_regex"),
        ({"extra_body": {"min_tokens": 5}}, "min_tokens"),
        ({"extra_body": {"mirostat": 2}}, "mirostat"),
        ({"extra_body": {"structured_outputs": {"regex": "a"}}}, "structured_outputs.regex"),
        ({"extra_body": {"guided_json": "{"}}, "guided_json"),
        ({"extra_body": {"guided_json": {}, "grammar": "root ::= [a]"}}, "grammar"),
    ],
)
async def test_an_invalid_or_unsupported_request_is_400_or_413(
    more: dict[str, Any], field: str | None
) -> None:
    async with sdk(scripted()) as client:
        with pytest.raises(openai.APIStatusError) as raised:
            await client.chat.completions.create(**{"model": "tiny", "messages": HI, **more})
    assert raised.value.status_code in (400, 413)
    assert raised.value.param == field


async def test_a_cancelled_answer_is_not_requested_again() -> None:
    """By default the SDK retries after a 409 or a 5xx: such a stream could never be stopped."""
    model = Stepwise()
    app = create_app({"tiny": model})
    async with sdk(app) as client:
        again = client.with_options(max_retries=2)
        asking = asyncio.create_task(again.chat.completions.create(model="tiny", messages=HI))
        await until(lambda: model.active == 1)
        (live,) = app[MODELS].registry.active
        live.cancel()
        with pytest.raises(openai.ConflictError, match="cancelled"):
            await asking
        assert model.active == 0


async def test_v1_lists_the_models_and_refuses_unknown_names_and_wrong_keys() -> None:
    async with sdk(scripted(api_key="right"), key="wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    async with sdk(scripted(api_key="right"), key="right") as client:
        assert [model.id async for model in client.models.list()] == ["tiny"]
        assert (await client.models.retrieve("tiny")).owned_by == "scripted"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-4o")
        with pytest.raises(openai.NotFoundError) as raised:
            await client.chat.completions.create(model="gpt-4o", messages=HI)
    assert raised.value.code == "model_not_found"


async def test_citations_and_files_are_annotations_and_images() -> None:
    said: list[Any] = [
        Start("r", "m"),
        Token("It is so."),
        Citation("https://a.example", "A", start=0, end=8),
        FileOutput("image/png", "iVBO"),
        FileOutput("image/png", url="https://a.example/b.png"),
        End("stop"),
    ]
    annotation = {
        "type": "url_citation",
        "url_citation": {
            "url": "https://a.example",
            "title": "A",
            "start_index": 0,
            "end_index": 8,
        },
    }
    urls = ["data:image/png;base64,iVBO", "https://a.example/b.png"]
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    async with serving(create_app({"tiny": ScriptedModel(said)})) as session:
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        async with session.post("/v1/chat/completions", json=body) as response:
            message = (await response.json())["choices"][0]["message"]
        assert (message["annotations"], message["images"]) == ([annotation], images)
        async with session.post("/v1/chat/completions", json={**body, "stream": True}) as response:
            lines = (await response.text()).split("\n\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    deltas = [event["choices"][0]["delta"] for event in events]
    assert [each["annotations"] for each in deltas if "annotations" in each] == [[annotation]]
    assert [each["images"] for each in deltas if "images" in each] == [[each] for each in images]


async def test_what_a_model_wants_back_goes_through_the_client() -> None:
    thought = ProviderState("anthropic", "claude", {"type": "thinking", "signature": "s"})
    spoken = ProviderState("anthropic", "claude", {"type": "text"})
    known = ProviderState("gemini", "g", {"signature": "c"})
    model = ScriptedModel(
        [
            Reasoning("Hm."),
            Reasoning("", thought),
            Token("Wait."),
            Token("", state=spoken),
            Reasoning("Hm?"),
            Reasoning("", thought),
            Token("So."),
            ToolCall("c1", "weather", "{}", complete=True, state=known),
            End("tool_calls"),
        ],
        "It snows.",
    )
    async with sdk(create_app({"tiny": model})) as client:
        answer = await client.chat.completions.create(model="tiny", messages=HI, tools=TOOLS)
        said: Any = answer.choices[0].message.model_dump(exclude_none=True)
        result: Any = {"role": "tool", "tool_call_id": "c1", "content": "snow"}
        await client.chat.completions.create(model="tiny", messages=[*HI, said, result])
        broken: Any = {**said, "reasoning_details": [{"format": "rxllm", "data": "{"}]}
        with pytest.raises(openai.BadRequestError, match="invalid reasoning_details"):
            await client.chat.completions.create(model="tiny", messages=[*HI, broken, result])
    message = model.requests[1].messages[1]
    assert message.parts == (
        ReasoningPart("Hm.", thought),
        TextPart("Wait.", spoken),
        ReasoningPart("Hm?", thought),
        TextPart("So."),
        ToolCall("c1", "weather", "{}", complete=True, state=known),
    )


CLOCK: Any = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "The time in a place",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
        },
    },
}


def only_call(message: Any) -> Any:
    (call,) = message.tool_calls
    assert call.type == "function"
    return call


async def test_the_bundled_model_calls_a_tool_and_uses_its_result() -> None:
    messages: list[Any] = [{"role": "user", "content": "What time is it in Velmo?"}]
    async with sdk(create_app(["tiny"])) as client:
        ask = client.chat.completions.create
        first = await ask(model="tiny", messages=messages, tools=[CLOCK], temperature=0)
        message = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls"
        call = only_call(message)
        assert (call.function.name, call.function.arguments) == ("clock", '{"place": "Velmo"}')
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "14:05"}]
        async with client.chat.completions.stream(
            model="tiny", messages=messages, tools=[CLOCK], temperature=0
        ) as stream:
            second = await stream.get_final_completion()
    assert "14:05" in (second.choices[0].message.content or "")


async def test_a_call_may_be_demanded_of_the_bundled_model() -> None:
    async with sdk(create_app(["tiny"])) as client:
        answer = await client.chat.completions.create(
            model="tiny", messages=HI, tools=[CLOCK], tool_choice="required", temperature=0
        )
    call = only_call(answer.choices[0].message)
    assert set(json.loads(call.function.arguments)) == {"place"}
