"""`/v1/responses`, with OpenAI's SDK as its client."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from rxllm.chunks import (
    Citation,
    End,
    FileOutput,
    Notice,
    ProviderState,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
)
from rxllm.errors import ContextLengthError, OverloadedError, RateLimitError
from rxllm.messages import ImagePart, Message, ReasoningPart, TextPart
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from tests.server.serving import STORY, Stepwise, scripted, until
from tests.server.test_openai import let, sdk

ASK: dict[str, Any] = {"model": "tiny", "input": "Hi"}
TOOLS: Any = [{"type": "function", "name": "weather", "parameters": {"type": "object"}}]
STATE = ProviderState("gemini", "g", {"signature": "x"})


async def test_a_whole_response_and_a_streamed_one() -> None:
    async with sdk(scripted(STORY, STORY)) as client:
        whole = await client.responses.create(**ASK, temperature=0.5, metadata={"a": "b"})
        async with client.responses.stream(**ASK) as stream:
            deltas = [
                event.delta async for event in stream if event.type == "response.output_text.delta"
            ]
            final = await stream.get_final_response()
    assert whole.output_text == final.output_text == "".join(deltas) == STORY
    assert (whole.status, final.status) == ("completed", "completed")
    assert (whole.temperature, whole.metadata, whole.model) == (0.5, {"a": "b"}, "tiny")
    assert whole.usage is not None
    assert whole.usage.output_tokens == 12
    assert whole._request_id


async def test_thinking_calls_and_states_go_out_and_come_back() -> None:
    said: list[Any] = [
        Reasoning("Hm."),
        Reasoning("", STATE),
        Token("Wait."),
        Token("", state=STATE),
        Citation("https://a.example", "A", start=0, end=4),
        ToolCall("c1", "weather", '{"city":', 0),
        ToolCall("c1", "weather", '{"city":"Oslo"}', 0, complete=True, state=STATE),
        FileOutput("image/png", "iVBO"),
        Usage(7, 5, reasoning_tokens=2),
        End("tool_calls"),
    ]
    model = ScriptedModel(said, "Snow.", said, "Snow.")
    async with sdk(create_app({"tiny": model})) as client:
        for stream in (False, True):
            if stream:
                async with client.responses.stream(**ASK, tools=TOOLS) as streamed:
                    response: Any = await streamed.get_final_response()
            else:
                response = await client.responses.create(**ASK, tools=TOOLS)
            kinds = [item.type for item in response.output]
            assert kinds == [
                "reasoning",
                "message",
                "reasoning",
                "function_call",
                "reasoning",
                "image_generation_call",
            ]
            assert response.usage.output_tokens_details.reasoning_tokens == 2
            history: list[Any] = [
                {"role": "user", "content": "Hi"},
                *[item.model_dump(exclude_none=True) for item in response.output],
                {"type": "function_call_output", "call_id": "c1", "output": "snow"},
            ]
            for item in history:
                item.pop("parsed_arguments", None)
            await client.responses.create(**{**ASK, "input": history}, tools=TOOLS)
    for request in model.requests[1::2]:
        assert request.messages[1].parts == (
            ReasoningPart("Hm.", STATE),
            TextPart("Wait.", STATE),
            ToolCall("c1", "weather", '{"city":"Oslo"}', complete=True, state=STATE),
        )
        assert request.messages[2] == Message("tool", "snow", tool_call_id="c1")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"instructions": "Be kind."}, {}),
        ({"max_output_tokens": 9}, {"max_tokens": 9}),
        ({"reasoning": {"effort": "high"}}, {"reasoning": "high"}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": "json"}),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"title": "x"}}}},
            {"response_format": {"title": "x"}},
        ),
        ({"tools": TOOLS, "tool_choice": "required"}, {"tool_choice": "required"}),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "name": "weather"}},
            {"tool_choice": "weather"},
        ),
        ({"tools": TOOLS, "parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"parallel_tool_calls": True, "tool_choice": "auto", "store": False}, {}),
    ],
)
async def test_options_reach_the_model(given: Any, expected: dict[str, Any]) -> None:
    model = ScriptedModel("Hello")
    async with sdk(create_app({"tiny": model})) as client:
        await client.responses.create(**ASK, **given)
    (request,) = model.requests
    assert {name: getattr(request, name) for name in expected} == expected
    roles = [message.role for message in request.messages]
    assert roles == (["system", "user"] if "instructions" in given else ["user"])


async def test_images_and_roles_of_the_input() -> None:
    model = ScriptedModel("A dot")
    items: Any = [
        {"role": "developer", "content": "Be"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What?"},
                {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="},
            ],
        },
        {"role": "assistant", "content": "A dot."},
        {"role": "user", "content": "Sure?"},
    ]
    async with sdk(create_app({"tiny": model})) as client:
        await client.responses.create(**{**ASK, "input": items})
    system, user, answer, again = model.requests[0].messages
    assert (system.role, answer, again.text) == ("system", Message("assistant", "A dot."), "Sure?")
    assert isinstance(user.parts[1], ImagePart)
    assert user.parts[1].data == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"max_output_tokens": 10**6}, "max_output_tokens"),
        ({"temperature": 9}, "temperature"),
        ({"input": ""}, "input"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format"),
        ({"reasoning": {"effort": "utmost"}}, "reasoning.effort"),
    ],
)
async def test_what_is_wrong_is_a_bad_request(more: Any, field: str) -> None:
    async with sdk(scripted()) as client:
        with pytest.raises(openai.BadRequestError) as raised:
            await client.responses.create(**{**ASK, **more})
    assert raised.value.param == field


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (RateLimitError("slow down"), openai.RateLimitError, "rate_limit"),
        (OverloadedError("busy"), openai.InternalServerError, "overloaded"),
        (ContextLengthError("long"), openai.BadRequestError, "context_length_exceeded"),
    ],
)
async def test_failures_are_exceptions_of_the_sdk(
    stream: bool, error: Exception, kind: type[openai.APIStatusError], code: str
) -> None:
    _, app = let(error)
    async with sdk(app) as client:
        with pytest.raises(kind) as raised:
            await client.responses.create(**ASK, stream=stream)
    assert raised.value.code == code


async def test_a_failure_amid_the_stream_and_a_restart() -> None:
    _, app = let(Start("r", "m"), Token("Half"), OverloadedError("busy"))
    async with sdk(app) as client:
        events = [event async for event in await client.responses.create(**ASK, stream=True)]
    assert events[-1].type == "response.failed"
    assert events[-1].response.error is not None
    assert events[-1].response.error.code == "overloaded"
    script: list[Any] = [Start("r", "m"), Token("Half"), Notice("restart"), Token("b"), End("stop")]
    async with sdk(create_app({"tiny": ScriptedModel(script, script)})) as client:
        assert (await client.responses.create(**ASK)).output_text == "b"
        stream: Any = await client.responses.create(**ASK, stream=True)
        events = [event async for event in stream]
    assert (events[-1].type, events[-1].code) == ("error", "restarted_stream")


async def test_a_response_that_is_cut_off_is_incomplete() -> None:
    async with sdk(scripted()) as client:
        response = await client.responses.create(**ASK, max_output_tokens=4)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text == "Once upon a time"


async def test_a_response_in_the_background_is_resumed_after_any_event() -> None:
    model = Stepwise(
        Start("r", "m"),
        *map(Token, "abc"),
        *[ToolCall("c", "f", '{"a":1}'[:end], 0) for end in range(1, 7)],
        ToolCall("c", "f", '{"a":1}', 0, complete=True),
        End("tool_calls"),
    )
    async with sdk(create_app({"tiny": model})) as client:
        model.let(7)
        stream: Any = await client.responses.create(**ASK, stream=True, background=True)
        seen: list[Any] = []
        async for event in stream:
            seen.append(event)
            if event.type == "response.function_call_arguments.delta" and len(seen) > 12:
                break
        await stream.close()
        response_id, after = seen[0].response.id, seen[-1].sequence_number
        assert (await client.responses.retrieve(response_id)).status == "in_progress"
        model.let()
        again: Any = await client.responses.retrieve(response_id, stream=True, starting_after=after)
        seen += [event async for event in again]
        everything: Any = await client.responses.retrieve(response_id, stream=True)
        all_events = [event async for event in everything]
        final = await client.responses.retrieve(response_id)
        with pytest.raises(openai.BadRequestError):
            await client.responses.retrieve(response_id, extra_query={"starting_after": "x"})
    for events in (seen, all_events):
        numbers = [event.sequence_number for event in events]
        assert numbers == sorted(set(numbers))
        text = [e.delta for e in events if e.type == "response.output_text.delta"]
        calls = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
        assert ("".join(text), "".join(calls)) == ("abc", '{"a":1}')
        assert events[-1].type == "response.completed"
    assert final.status == "completed"
    assert final.output_text == "abc"


async def test_a_response_in_the_background_that_is_not_streamed_is_polled_and_cancelled() -> None:
    model = Stepwise()
    async with sdk(create_app({"tiny": model})) as client:
        response = await client.responses.create(**ASK, background=True)
        assert (response.status, response.output) == ("in_progress", [])
        model.let(3)
        await until(lambda: model.said == 3)
        cancelled = await client.responses.cancel(response.id)
        assert cancelled.status == "cancelled"
        assert cancelled.output_text == "ab"
        await until(lambda: model.active == 0)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_unknown")
        with pytest.raises(openai.NotFoundError):
            await client.responses.cancel("resp_unknown")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_the_model(stream: bool) -> None:
    model = Stepwise()
    async with sdk(create_app({"tiny": model})) as client:
        model.let(2)
        if stream:
            reading: Any = await client.responses.create(**ASK, stream=True)
            await reading.close()
        else:
            asking = asyncio.create_task(client.responses.create(**ASK))
            await until(lambda: model.said == 2)
            asking.cancel()
        await until(lambda: model.active == 0)
    assert model.said < len(model.chunks)


async def test_the_bundled_model_calls_a_tool_and_uses_its_result() -> None:
    clock: Any = {
        "type": "function",
        "name": "clock",
        "description": "The time in a place",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
        },
        "strict": False,
    }
    history: list[Any] = [{"role": "user", "content": "What time is it in Velmo?"}]
    async with sdk(create_app(["tiny"])) as client:
        ask: dict[str, Any] = {"model": "tiny", "tools": [clock], "temperature": 0}
        first = await client.responses.create(**ask, input=history)
        (call,) = [item for item in first.output if item.type == "function_call"]
        assert (call.name, call.arguments) == ("clock", '{"place": "Velmo"}')
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "14:05"}
        history += [item.model_dump(exclude_none=True) for item in first.output] + [result]
        second = await client.responses.create(**ask, input=history)
    assert "14:05" in second.output_text
