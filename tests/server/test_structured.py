"""Structured answers and JSON over the server: as options of requests, and as chunks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

import rxllm
from rxllm.chunks import (
    ApprovalRequest,
    Chunk,
    End,
    ErrorInfo,
    Json,
    Progress,
    ProviderState,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
)
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from rxllm.server.messages import Complete, Generated, StreamChunk, StreamFailed
from tests.server.serving import Calls, all_events, decode, said, serving
from tests.server.websocket_client import talking

CHUNKS: tuple[Chunk, ...] = (
    Token('{"name":'),
    Json({"name": "M"}),
    Token('"Mia"}'),
    Json({"name": "Mia"}, complete=True),
    ToolCall("c1", "weather", '{"ci', 0),
    ToolCall("c1", "weather", '{"city":"Paris"}', 0, complete=True),
    ToolCall("c2", "time", "{}", 1, complete=True),
    End("tool_calls"),
)
STATE = ProviderState("anthropic", "claude", {"type": "thinking", "signature": "s"})
RUN: tuple[Chunk, ...] = (
    Start("1", "m"),
    Reasoning("Hm."),
    Reasoning("", STATE),
    Token("Wait."),
    Token("", state=STATE),
    ToolCall("c1", "weather", '{"ci', 0),
    ToolCall("c1", "weather", '{"city":"Oslo"}', 0, complete=True, state=STATE),
    Usage(1, 2),
    End("tool_calls", more=True),
    ToolResult("c1", "weather", {"done": 0.5}, preliminary=True),
    ToolResult("c1", "weather", {"snow": True}),
    Steering("And Rome?", "m1"),
    Start("2", "m"),
    ToolCall("c2", "weather", '{"city":"Rome"}', 0, complete=True),
    Usage(3, 4),
    End("tool_calls", more=True),
    ToolResult("c2", "weather", error=ErrorInfo("ToolError", "no such city")),
    ApprovalRequest("c3", "token", "it costs"),
    End("limit"),
)
CAT = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}},
    "required": ["name"],
    "additionalProperties": False,
}
ASKED: dict[str, Any] = {
    "prompt": "Give me a JSON record of a cat",
    "maxTokens": 120,
    "temperature": 0,
    "seed": 1,
}


async def over_sse(client: aiohttp.ClientSession) -> list[Any]:
    async with client.post("/stream", json={"prompt": "Hi"}) as response:
        calls = Calls()
        return [calls.whole(event.message) for event in await all_events(response)]


async def over_ndjson(client: aiohttp.ClientSession) -> list[Any]:
    async with client.post("/api/stream", json={"prompt": "Hi"}) as response:
        calls = Calls()
        return [calls.whole(decode(line)) async for line in response.content]


async def over_websocket(client: aiohttp.ClientSession) -> list[Any]:
    async with talking(client) as talk:
        await talk.send("start", id="a", prompt="Hi")
        await talk.until("complete", id="a")
        calls = Calls()
        return [calls.whole(decode(msgspec.json.encode(message))) for message in talk.got]


@pytest.mark.parametrize("read", [over_sse, over_ndjson, over_websocket])
async def test_json_and_tool_calls_arrive_unchanged(read: Any) -> None:
    async with serving(create_app({"tiny": ScriptedModel(CHUNKS, delay=0.001)})) as client:
        *messages, last = await read(client)
    chunks = [each.chunk for each in messages]
    assert [each for each in chunks if not isinstance(each, Start | Progress)] == list(CHUNKS)
    assert isinstance(last, Complete)
    assert last.finish_reason == "tool_calls"


@pytest.mark.parametrize("read", [over_sse, over_ndjson, over_websocket])
async def test_a_run_of_steps_arrives_unchanged(read: Any) -> None:
    async with serving(create_app({"tiny": ScriptedModel(RUN[1:], delay=0.001)})) as client:
        *messages, last = await read(client)
    chunks = [each.chunk for each in messages if not isinstance(each.chunk, Progress)]
    assert chunks[1:] == list(RUN[1:])
    assert isinstance(last, Complete)
    assert last.finish_reason == "limit"


async def test_a_late_reader_of_a_run_gets_its_states_and_its_results() -> None:
    async with serving(create_app({"tiny": ScriptedModel(RUN[1:])})) as client:
        async with client.get("/stream", params={"prompt": "Hi", "id": "mine"}) as response:
            await response.read()
        async with client.get("/stream/mine") as response:
            late = [event.message for event in await all_events(response)]
    chunks = [each.chunk for each in late if isinstance(each, StreamChunk)]
    superseded = (RUN[5], RUN[9])  # by the complete call and by the final result
    kept = [chunk for chunk in RUN[1:] if chunk not in superseded]
    assert [chunk for chunk in chunks[1:] if not isinstance(chunk, Progress)] == kept


async def test_a_late_reader_gets_the_latest_state_of_each_value_and_call() -> None:
    async with serving(create_app({"tiny": ScriptedModel(CHUNKS)})) as client:
        async with client.get("/stream", params={"prompt": "Hi", "id": "mine"}) as response:
            await response.read()
        async with client.get("/stream/mine") as response:
            late = [event.message for event in await all_events(response)]
    chunks = [each.chunk for each in late if isinstance(each, StreamChunk)]
    assert Json({"name": "Mia"}, complete=True) in chunks
    calls = [chunk for chunk in chunks if isinstance(chunk, ToolCall)]
    assert [(call.name, call.arguments) for call in calls if call.complete] == [
        ("weather", '{"city":"Paris"}'),
        ("time", "{}"),
    ]


async def test_the_arguments_of_a_long_call_are_sent_once() -> None:
    """In 2,000 pieces, 40 KB, not the 40 MB of all the arguments so far."""
    text = "0123456789" * 4000
    pieces = [ToolCall("c", "write", text[:end]) for end in range(20, len(text) + 1, 20)]
    script: list[Any] = [*pieces, ToolCall("c", "write", text, complete=True), End("tool_calls")]
    async with serving(create_app({"tiny": ScriptedModel(script)})) as client:
        async with client.post("/stream", json={"prompt": "Hi", "id": "a"}) as response:
            body = await response.read()
        async with client.post("/api/stream", json={"prompt": "Hi"}) as response:
            lines = (await response.read()).splitlines()
        async with client.get("/stream/a") as response:
            late = await all_events(response)
    assert len(body) < 2_000_000
    calls = Calls()
    messages = [calls.whole(decode(line)) for line in lines]
    assert sum(map(len, lines)) < 2_000_000
    for got in (messages, [each.message for each in late]):
        chunks = [each.chunk for each in got if isinstance(each, StreamChunk)]
        assert [each for each in chunks if isinstance(each, ToolCall)][-1] == script[-2]


@asynccontextmanager
async def llama() -> AsyncIterator[aiohttp.ClientSession]:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    async with serving(create_app({"tiny": rxllm.model("tiny/llama")})) as client:
        yield client


async def test_json_mode_answers_with_json() -> None:
    async with (
        llama() as client,
        client.get("/stream", params={**ASKED, "responseFormat": "json"}) as response,
    ):
        got = await all_events(response)
    assert isinstance(json.loads(said(got)), dict)


async def test_an_answer_follows_a_schema() -> None:
    async with (
        llama() as client,
        client.post("/generate", json={**ASKED, "responseFormat": CAT}) as response,
    ):
        answer = msgspec.json.decode(await response.read(), type=Generated)
    assert set(json.loads(answer.text)) == {"name"}


async def test_a_schema_in_a_query_is_refused_with_a_hint_to_use_post() -> None:
    asked = {"prompt": "Hi", "responseFormat": json.dumps(CAT)}
    async with (
        serving(create_app({"tiny": ScriptedModel("x")})) as client,
        client.get("/stream", params=asked) as response,
    ):
        refused = decode(await response.read())
    assert isinstance(refused, StreamFailed)
    assert (response.status, refused.field) == (400, "responseFormat")
    assert "use POST /stream" in refused.message
