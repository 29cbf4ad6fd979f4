"""`/api/chat`, `/api/generate` and others, with Ollama's own client for Python."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ollama
import pytest
from aiohttp import web

from rxllm.chunks import End, Notice, Reasoning, Start, Token, ToolCall, Usage
from rxllm.errors import OverloadedError
from rxllm.messages import ImagePart, Message, ReasoningPart, TextPart
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Request
from rxllm.server import create_app
from tests.server.serving import STORY, Stepwise, port_of, scripted, serving, until

HI: Any = [{"role": "user", "content": "Hi"}]
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
]


@asynccontextmanager
async def client_of(app: web.Application) -> AsyncIterator[ollama.AsyncClient]:
    async with serving(app) as session:
        client = ollama.AsyncClient(f"http://127.0.0.1:{port_of(session)}")
        try:
            yield client
        finally:
            await client._client.aclose()


async def test_a_chat_whole_and_streamed() -> None:
    async with client_of(scripted(STORY, STORY)) as client:
        whole = await client.chat("tiny", HI)
        parts = [part async for part in await client.chat("tiny:latest", HI, stream=True)]
    assert whole.message.content == STORY
    assert "".join(part.message.content or "" for part in parts) == STORY
    for last in (whole, parts[-1]):
        assert (last.done, last.done_reason, last.eval_count) == (True, "stop", 12)
        assert last.total_duration is not None
        assert last.total_duration > 0
    assert not any(part.done for part in parts[:-1])
    assert parts[0].model == "tiny"


async def test_a_prompt_whole_and_streamed() -> None:
    async with client_of(scripted(STORY, STORY)) as client:
        whole = await client.generate("tiny", "Hi")
        stream = await client.generate("tiny", "Hi", stream=True, system="Be kind.")
        text = "".join([part.response or "" async for part in stream])
    assert whole.response == text == STORY


@pytest.mark.parametrize("stream", [False, True])
async def test_thinking_and_calls(stream: bool) -> None:
    said: list[Any] = [
        Reasoning("Hm."),
        Token("Wait."),
        ToolCall("c1", "weather", '{"city":', 0),
        ToolCall("c1", "weather", '{"city":"Oslo"}', 0, complete=True),
        Usage(7, 5),
        End("tool_calls"),
    ]
    model = ScriptedModel(said, "Snow.")
    async with client_of(create_app({"tiny": model})) as client:
        if stream:
            parts = [part async for part in await client.chat("tiny", HI, tools=TOOLS, stream=True)]
            thinking = "".join(part.message.thinking or "" for part in parts)
            (call,) = [each for part in parts for each in part.message.tool_calls or ()]
            assert parts[-1].prompt_eval_count == 7
        else:
            whole = await client.chat("tiny", HI, tools=TOOLS)
            thinking = whole.message.thinking or ""
            (call,) = whole.message.tool_calls or ()
        assert (thinking, call.function.name, call.function.arguments) == (
            "Hm.",
            "weather",
            {"city": "Oslo"},
        )
        answer: Any = {
            "role": "assistant",
            "content": "Wait.",
            "thinking": "Hm.",
            "tool_calls": [call.model_dump()],
        }
        result: Any = {"role": "tool", "content": "snow", "tool_name": "weather"}
        await client.chat("tiny", [*HI, answer, result], tools=TOOLS)
    _, assistant, tool = model.requests[1].messages
    assert assistant.parts[:2] == (ReasoningPart("Hm."), TextPart("Wait."))
    assert (assistant.calls[0].name, tool.tool_call_id) == ("weather", assistant.calls[0].id)
    assert tool == Message("tool", "snow", tool_call_id=assistant.calls[0].id)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"options": {"num_predict": 9}}, {"max_tokens": 9}),
        ({"options": {"num_predict": -1, "num_ctx": 4096}}, {"max_tokens": None}),
        ({"options": {"temperature": 0.0, "top_k": 5}}, {"temperature": 0.0, "top_k": 5}),
        ({"options": {"seed": 7, "stop": ["X"]}}, {"seed": 7, "stop": ("X",)}),
        ({"options": {"repeat_penalty": 1.1}}, {"repeat_penalty": 1.1}),
        ({"think": True}, {"reasoning": "medium"}),
        ({"think": "high"}, {"reasoning": "high"}),
        ({"think": False}, {"reasoning": "none"}),
        ({"format": "json"}, {"response_format": "json"}),
        ({"format": {"title": "x"}}, {"response_format": {"title": "x"}}),
        ({"keep_alive": "5m"}, {}),
    ],
)
async def test_options_reach_the_model(given: Any, expected: dict[str, Any]) -> None:
    model = ScriptedModel("Hello", "Hello")
    async with client_of(create_app({"tiny": model})) as client:
        await client.chat("tiny", HI, **given)
        await client.generate("tiny", "Hi", **given)
    for request in model.requests:
        assert {name: getattr(request, name) for name in expected} == expected


async def test_images() -> None:
    model = ScriptedModel("A dot")
    async with client_of(create_app({"tiny": model})) as client:
        await client.chat("tiny", [{**HI[0], "images": [b"\x89PNG\r\n\x1a\n"]}])
    request: Request = model.requests[0]
    text, image = request.messages[0].parts
    assert text == TextPart("Hi")
    assert isinstance(image, ImagePart)
    assert image.data == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("stream", [False, True])
async def test_failures(stream: bool) -> None:
    model = Stepwise(OverloadedError("busy"))
    model.let()
    async with client_of(create_app({"tiny": model})) as client:

        async def ask(name: str, **more: Any) -> None:
            chat: Any = client.chat
            answer = await chat(name, HI, stream=stream, **more)
            if stream:
                async for _ in answer:
                    pass

        with pytest.raises(ollama.ResponseError, match="busy") as raised:
            await ask("tiny")
        assert raised.value.status_code == 503
        with pytest.raises(ollama.ResponseError, match="llama3") as raised:
            await ask("llama3")
        assert raised.value.status_code == 404
        with pytest.raises(ollama.ResponseError, match="temperature"):
            await ask("tiny", options={"temperature": 9})
        with pytest.raises(ollama.ResponseError, match="mirostat"):
            await ask("tiny", options={"mirostat": 2})
        with pytest.raises(ollama.ResponseError, match="suffix"):
            await client.generate("tiny", "a", suffix="b")


@pytest.mark.parametrize("after", [OverloadedError("busy"), Notice("restart")])
async def test_a_failure_and_a_restart_amid_the_stream(after: Any) -> None:
    model = Stepwise(Start("r", "m"), Token("Half"), after, Token("b"), End("stop"))
    model.let()
    seen = []
    async with client_of(create_app({"tiny": model})) as client:
        with pytest.raises(ollama.ResponseError, match=r"busy|restarted"):
            async for part in await client.chat("tiny", HI, stream=True):
                seen.append(part.message.content)
    assert seen == ["Half"]


async def test_models_are_listed_and_shown() -> None:
    async with client_of(create_app(["tiny"])) as client:
        (listed,) = (await client.list()).models
        assert listed.model == "tiny"
        shown = await client.show("tiny")
        assert shown.capabilities is not None
        assert {"completion", "tools"} <= set(shown.capabilities)
        assert (await client.ps()).models == []
        with pytest.raises(ollama.ResponseError, match="llama3"):
            await client.show("llama3")
    async with serving(scripted()) as session:
        async with session.get("/api/version") as response:
            assert "version" in await response.json()
        async with session.post("/api/generate", json={"model": "tiny"}) as response:
            assert (await response.json())["done_reason"] == "load"
        async with session.post("/api/generate", data=b"{") as response:
            assert (response.status, list(await response.json())) == (400, ["error"])


async def test_a_client_that_leaves_stops_the_model() -> None:
    model = Stepwise()
    async with client_of(create_app({"tiny": model})) as client:
        model.let(2)
        async for _ in await client.chat("tiny", HI, stream=True):
            break
        await client._client.aclose()
        await until(lambda: model.active == 0)
    assert model.said < len(model.chunks)
