"""`/v1/messages` with Anthropic's own SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest
from aiohttp import web

from rxllm.chunks import (
    End,
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
from tests.server.serving import STORY, Stepwise, port_of, scripted, serving, until

HI: Any = [{"role": "user", "content": "Hi"}]
TOOLS: Any = [{"name": "weather", "description": "", "input_schema": {"type": "object"}}]
ASK: dict[str, Any] = {"model": "tiny", "max_tokens": 100, "messages": HI}
STATE = ProviderState("gemini", "g", {"signature": "x"})


@asynccontextmanager
async def sdk(app: web.Application, **options: Any) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with serving(app) as client:
        url = f"http://127.0.0.1:{port_of(client)}"
        given = {"api_key": "k", "max_retries": 0, **options}
        async with anthropic.AsyncAnthropic(base_url=url, **given) as found:
            yield found


async def test_a_whole_message_and_a_streamed_one() -> None:
    async with sdk(scripted(STORY, STORY)) as client:
        whole = await client.messages.create(**ASK)
        async with client.messages.stream(**ASK) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            message = await stream.get_final_message()
    assert whole.content[0].text == text == STORY
    assert (whole.stop_reason, message.stop_reason) == ("end_turn", "end_turn")
    assert whole.usage.output_tokens == message.usage.output_tokens == 12
    assert (whole.model, message.model) == ("tiny", "tiny")
    assert whole._request_id


async def test_thinking_tools_and_states_go_out_and_come_back() -> None:
    said: list[Any] = [
        Reasoning("Hm."),
        Reasoning("", STATE),
        Token("Wait."),
        Token("", state=STATE),
        ToolCall("c1", "weather", '{"city":', 0),
        ToolCall("c1", "weather", '{"city":"Oslo"}', 0, complete=True, state=STATE),
        Usage(7, 5, reasoning_tokens=2),
        End("tool_calls"),
    ]
    model = ScriptedModel(said, "Snow.", said, "Snow.")
    async with sdk(create_app({"tiny": model})) as client:
        for stream in (False, True):
            if stream:
                async with client.messages.stream(**ASK, tools=TOOLS) as streamed:
                    message = await streamed.get_final_message()
            else:
                message = await client.messages.create(**ASK, tools=TOOLS)
            assert message.stop_reason == "tool_use"
            kinds = [block.type for block in message.content]
            assert kinds == [
                "thinking",
                "text",
                "redacted_thinking",
                "tool_use",
                "redacted_thinking",
            ]
            call: Any = message.content[3]
            assert (call.id, call.input) == ("c1", {"city": "Oslo"})
            assert message.usage.output_tokens_details is not None
            assert message.usage.output_tokens_details.thinking_tokens == 2
            result: Any = {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c1",
                        "is_error": True,
                        "content": [{"type": "text", "text": "no"}],
                    },
                    {"type": "text", "text": "So?"},
                ],
            }
            history: Any = [*HI, {"role": "assistant", "content": message.content}, result]
            await client.messages.create(**{**ASK, "messages": history}, tools=TOOLS)
    for request in model.requests[1::2]:
        assert request.messages[1].parts == (
            ReasoningPart("Hm.", STATE),
            TextPart("Wait.", STATE),
            ToolCall("c1", "weather", '{"city":"Oslo"}', complete=True, state=STATE),
        )
        assert request.messages[2] == Message("tool", "no", tool_call_id="c1", is_error=True)
        assert request.messages[3] == Message("user", "So?")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"system": "Be kind."}, {}),
        ({"system": [{"type": "text", "text": "Be"}, {"type": "text", "text": "kind."}]}, {}),
        ({"stop_sequences": ["X"]}, {"stop": ("X",)}),
        (
            {"extra_body": {"temperature": 0.5, "top_p": 0.9, "top_k": 4}},
            {"top_k": 4, "top_p": 0.9},
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"reasoning": "low"}),
        ({"thinking": {"type": "disabled"}}, {"reasoning": "none"}),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
            {"reasoning": "max"},
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {"response_format": {"type": "object"}},
        ),
        ({"tools": TOOLS, "tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
        (
            {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "weather"}},
            {"tool_choice": "weather"},
        ),
        (
            {"tools": TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
        ({"metadata": {"user_id": "u"}, "extra_query": {"beta": "true"}}, {}),
    ],
)
async def test_options_reach_the_model(given: Any, expected: dict[str, Any]) -> None:
    model = ScriptedModel("Hello")
    async with sdk(create_app({"tiny": model})) as client:
        await client.messages.create(**ASK, **given)
    (request,) = model.requests
    assert {name: getattr(request, name) for name in expected} == expected
    assert request.max_tokens == 100
    roles = [message.role for message in request.messages]
    assert roles == (["system", "user"] if "system" in given else ["user"])


async def test_images_and_text_documents() -> None:
    model = ScriptedModel("A dot")
    png = "iVBORw0KGgo="
    content: Any = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}},
        {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
    ]
    async with sdk(create_app({"tiny": model})) as client:
        await client.messages.create(**{**ASK, "messages": [{"role": "user", "content": content}]})
    first, second, third = model.requests[0].messages[0].parts
    assert isinstance(first, ImagePart)
    assert (first.data, first.media_type) == (b"\x89PNG\r\n\x1a\n", "image/png")
    assert isinstance(second, ImagePart)
    assert (second.url, third) == ("https://a.example/b.png", TextPart("x"))


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"extra_body": {"max_tokens": 10**6}}, "max_tokens"),
        ({"extra_body": {"max_tokens": None}}, "max_tokens is required"),
        ({"extra_body": {"temperature": 9}}, "temperature"),
        ({"messages": []}, "messages"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "video"),
        ({"extra_body": {"container": "c"}}, "container"),
    ],
)
async def test_what_is_wrong_is_an_invalid_request(more: Any, field: str) -> None:
    async with sdk(scripted()) as client:
        with pytest.raises(anthropic.BadRequestError, match=field) as raised:
            await client.messages.create(**{**ASK, **more})
    assert raised.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "kind", "name"),
    [
        (RateLimitError("slow down", retry_after=3), anthropic.RateLimitError, "rate_limit_error"),
        (OverloadedError("busy"), anthropic.APIStatusError, "overloaded_error"),
        (ContextLengthError("9 tokens"), anthropic.BadRequestError, "invalid_request_error"),
    ],
)
async def test_failures_are_exceptions_of_the_sdk(
    stream: bool, error: Exception, kind: type[anthropic.APIStatusError], name: str
) -> None:
    model = Stepwise(error)
    model.let()
    async with sdk(create_app({"tiny": model})) as client:
        with pytest.raises(kind) as raised:
            await client.messages.create(**ASK, stream=stream)
    assert raised.value.body["error"]["type"] == name  # type: ignore[index]
    if isinstance(error, ContextLengthError):
        assert "prompt is too long" in raised.value.message
    if isinstance(error, OverloadedError):
        assert raised.value.status_code == 529


@pytest.mark.parametrize("after", [OverloadedError("busy"), Notice("restart")])
async def test_a_failure_and_a_restart_amid_the_stream_are_exceptions(after: Any) -> None:
    model = Stepwise(Start("r", "m"), Token("Half"), after, Token("b"), End("stop"))
    model.let()
    seen = []
    async with sdk(create_app({"tiny": model})) as client:
        stream = await client.messages.create(**ASK, stream=True)
        with pytest.raises(anthropic.APIStatusError, match=r"busy|restarted"):
            async for event in stream:
                seen.append(event.type)
    assert seen[:3] == ["message_start", "content_block_start", "content_block_delta"]


async def test_pings_keep_a_silent_stream_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Stepwise(Start("r", "m"), Token("a"), End("stop"))
    async with serving(create_app({"tiny": model})) as client:
        model.let(1)
        body = {**ASK, "stream": True}
        async with client.post("/v1/messages", json=body) as response:
            await response.content.readuntil(b"\n\n")
            assert response.headers["X-Accel-Buffering"] == "no"
            model.let()
            rest = await response.read()
    assert rest.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


async def test_a_client_that_leaves_stops_the_model() -> None:
    model = Stepwise()
    async with sdk(create_app({"tiny": model})) as client:
        model.let(2)
        stream = await client.messages.create(**ASK, stream=True)
        async for event in stream:
            if event.type == "content_block_delta":
                break
        await stream.close()
        await until(lambda: model.active == 0)
    assert model.said < len(model.chunks)


async def test_tokens_are_counted_and_models_listed() -> None:
    async with sdk(create_app(["tiny"])) as client:
        counted = await client.messages.count_tokens(model="tiny", messages=HI, tools=TOOLS)
        alone = await client.messages.count_tokens(model="tiny", messages=HI)
        assert counted.input_tokens > alone.input_tokens > 0
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.count_tokens(model="claude", messages=HI)
        listed = [model async for model in client.models.list()]
        assert [(model.id, model.type) for model in listed] == [("tiny", "model")]


async def test_the_bundled_model_calls_a_tool() -> None:
    clock: Any = {
        "name": "clock",
        "description": "The time in a place",
        "input_schema": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
        },
    }
    messages: Any = [{"role": "user", "content": "What time is it in Velmo?"}]
    async with sdk(create_app(["tiny"])) as client:
        ask: dict[str, Any] = {**ASK, "messages": messages, "tools": [clock]}
        async with client.messages.stream(**ask, extra_body={"temperature": 0}) as stream:
            message = await stream.get_final_message()
    call: Any = message.content[-1]
    assert (message.stop_reason, call.name, call.input) == ("tool_use", "clock", {"place": "Velmo"})


async def test_other_errors_have_the_format_too() -> None:
    async with serving(scripted(api_key="right")) as client:
        assert (await client.head("/", headers={"X-API-Key": "right"})).status == 200
        async with client.post("/v1/messages", json=ASK) as response:
            assert response.status == 401
            assert (await response.json())["error"]["type"] == "authentication_error"
        headers = {"anthropic-version": "2023-06-01", "x-api-key": "right"}
        async with client.get("/v1/nothing", headers=headers) as response:
            assert (response.status, (await response.json())["type"]) == (404, "error")
        async with client.get("/v1/models", headers={"x-api-key": "right"}) as response:
            assert (await response.json())["object"] == "list"


async def test_several_streams_at_once() -> None:
    async with sdk(scripted(*([STORY] * 8))) as client:

        async def ask() -> str:
            async with client.messages.stream(**ASK) as stream:
                return await stream.get_final_text()

        assert await asyncio.gather(*[ask() for _ in range(8)]) == [STORY] * 8
