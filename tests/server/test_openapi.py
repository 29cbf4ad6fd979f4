"""The responses of a running server conform to its OpenAPI document, on every path."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import jsonschema
import pytest

from rxllm.chunks import End, Reasoning, Token, ToolCall, Usage
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Model
from rxllm.server import create_app
from rxllm.server.app import drain
from rxllm.server.limits import Limits
from rxllm.server.schema import openapi
from tests.server.serving import Stepwise, all_events, scripted, serving, until

PROMPT = {"prompt": "Hi"}
CONVERSATION = {"messages": [{"role": "user", "content": "Hi"}]}
CALLED = {"model": "tools", **CONVERSATION}
UI = {
    "id": "c",
    "trigger": "submit-message",
    "messages": [{"role": "user", "parts": [{"type": "text", "text": "Hi"}]}],
}
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
TOOLS = (
    Reasoning("Hm. "),
    ToolCall("c1", "weather", '{"ci', 0),
    ToolCall("c1", "weather", '{"city":"Paris"}', 0, complete=True),
    Usage(5, 7, cached_tokens=2, reasoning_tokens=1),
    End("tool_calls"),
)
RESUMED = {"Last-Event-ID": "0"}
# The path in the document, the method, the requested path, and the arguments of the request.
SUCCESSES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("/stream", "get", "/stream", {"params": PROMPT}),
    ("/stream", "post", "/stream", {"json": PROMPT}),
    ("/stream/{id}", "get", "/stream/kept", {}),
    ("/api/stream", "post", "/api/stream", {"json": {**PROMPT, "model": "tools"}}),
    ("/generate", "post", "/generate", {"json": PROMPT}),
    ("/streams", "get", "/streams", {}),
    ("/streams/{id}/pause", "post", "/streams/live/pause", {}),
    ("/streams/{id}/resume", "post", "/streams/live/resume", {}),
    ("/streams/{id}", "delete", "/streams/live", {}),
    ("/models", "get", "/models", {}),
    ("/rooms", "get", "/rooms", {}),
    ("/v1/chat/completions", "post", "/v1/chat/completions", {"json": CONVERSATION}),
    ("/v1/chat/completions", "post", "/v1/chat/completions", {"json": CALLED}),
    ("/v1/chat/completions", "post", "/v1/chat/completions", {"json": {**CALLED, **STREAMED}}),
    ("/v1/models", "get", "/v1/models", {}),
    ("/v1/models/{id}", "get", "/v1/models/tiny", {}),
    ("/healthz", "get", "/healthz", {}),
    ("/metrics", "get", "/metrics", {}),
    ("/v1/responses", "post", "/v1/responses", {"json": {"input": "Hi"}}),
    ("/v1/responses", "post", "/v1/responses", {"json": {"input": "Hi", "stream": True}}),
    ("/v1/responses/{id}", "get", "/v1/responses/kept", {}),
    ("/v1/responses/{id}", "get", "/v1/responses/kept?stream=true&starting_after=2000", {}),
    ("/v1/responses/{id}/cancel", "post", "/v1/responses/live/cancel", {}),
    ("/v1/messages", "post", "/v1/messages", {"json": {**CONVERSATION, "max_tokens": 5}}),
    (
        *("/v1/messages", "post", "/v1/messages"),
        {"json": {**CONVERSATION, "max_tokens": 5, "stream": True}},
    ),
    ("/v1/messages/count_tokens", "post", "/v1/messages/count_tokens", {"json": CONVERSATION}),
    ("/api/chat", "post", "/api/chat", {"json": {**CONVERSATION, "stream": False}}),
    ("/api/chat", "post", "/api/chat", {"json": UI}),
    ("/api/chat/{id}/stream", "get", "/api/chat/running/stream", {}),
    ("/api/chat/{id}/stream", "delete", "/api/chat/running/stream", {}),
    ("/agui", "post", "/agui", {"json": CONVERSATION}),
    ("/api/generate", "post", "/api/generate", {"json": PROMPT}),
    ("/api/generate", "post", "/api/generate", {"json": {**PROMPT, "stream": False}}),
    ("/api/tags", "get", "/api/tags", {}),
    ("/api/show", "post", "/api/show", {"json": {"model": "tiny"}}),
    ("/api/version", "get", "/api/version", {}),
    ("/api/ps", "get", "/api/ps", {}),
]
FAILURES: list[tuple[str, str, str, dict[str, Any], int]] = [
    ("/stream", "get", "/stream", {}, 400),
    ("/stream", "get", "/stream", {"params": {**PROMPT, "after": "1"}}, 400),
    ("/stream", "post", "/stream", {"data": b"{"}, 400),
    ("/stream/{id}", "get", "/stream/unknown", {}, 404),
    ("/api/stream", "post", "/api/stream", {"json": {**PROMPT, "model": "no"}}, 404),
    ("/generate", "post", "/generate", {"json": {}}, 400),
    ("/streams/{id}/pause", "post", "/streams/unknown/pause", {}, 404),
    ("/streams/{id}/resume", "post", "/streams/unknown/resume", {}, 404),
    ("/streams/{id}", "delete", "/streams/unknown", {}, 404),
    ("/v1/chat/completions", "post", "/v1/chat/completions", {"json": {}}, 400),
    ("/v1/models/{id}", "get", "/v1/models/unknown", {}, 404),
    ("/stream", "get", "/stream?prompt=Hi&topP=null", {"headers": RESUMED}, 400),
    ("/stream", "get", "/stream?prompt=Hi&topP=2", {"headers": RESUMED}, 400),
    ("/stream", "get", "/stream?id=a", {"headers": RESUMED}, 400),
    ("/stream/{id}", "get", "/stream/a?lastEventId=x", {"headers": RESUMED}, 400),
    ("/v1/responses/{id}", "get", "/v1/responses/a?stream=maybe", {}, 400),
    ("/api/generate", "post", "/api/generate", {"json": {"options": {"temperature": 3}}}, 400),
]


async def check(path: str, method: str, response: aiohttp.ClientResponse) -> None:
    """Assert that a response conforms to the document."""
    responses = openapi()["paths"][path][method]["responses"]
    documented = responses.get(str(response.status), responses["default"])
    schema = schema_of(documented["content"][response.content_type])
    validator = jsonschema.Draft202012Validator({**schema, "components": openapi()["components"]})
    values = values_of(response.content_type, await response.text())
    assert values
    for value in values:
        validator.validate(value)


def schema_of(content: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a body, or of the JSON in each of its events or lines."""
    if "schema" in content:
        return dict(content["schema"])
    item = dict(content["itemSchema"])
    if "data" not in item.get("properties", {}):
        return item
    data = item["properties"]["data"]
    return dict(data.get("anyOf", [data])[-1]["contentSchema"])


def values_of(content_type: str, text: str) -> list[Any]:
    """Return the values in a response: the data of its events, its lines, or its body."""
    if content_type == "text/plain":
        return [text]
    if content_type == "text/event-stream":
        data = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        return [json.loads(each) for each in data if each != "[DONE]"]
    if content_type == "application/x-ndjson":
        return [json.loads(line) for line in text.splitlines()]
    return [json.loads(text)]


def test_every_operation_of_the_document_is_checked() -> None:
    paths = openapi()["paths"]
    documented = {(path, method) for path, methods in paths.items() for method in methods}
    assert documented == {(path, method) for path, method, *_ in SUCCESSES}


@pytest.mark.parametrize(("path", "method", "url", "given"), SUCCESSES)
async def test_a_successful_response_conforms_to_the_document(
    path: str, method: str, url: str, given: dict[str, Any]
) -> None:
    story, live = ScriptedModel("once upon a time " * 6, by="word"), Stepwise()
    models: dict[str, Model] = {"tiny": story, "live": live, "tools": ScriptedModel(TOOLS)}
    live.let(1)
    async with serving(create_app(models)) as client:
        async with client.get("/stream", params={**PROMPT, "id": "kept"}) as kept:
            await kept.read()
        await client.get("/stream", params={**PROMPT, "id": "live", "model": "live"})
        async with client.request(method, url, **given) as response:
            if response.status != 204 or "running" not in url:
                assert response.status == 200, await response.text()
                await check(path, method, response)
        await client.delete("/streams/live")


@pytest.mark.parametrize(("path", "method", "url", "given", "status"), FAILURES)
async def test_an_error_response_conforms_to_the_document(
    path: str, method: str, url: str, given: dict[str, Any], status: int
) -> None:
    async with serving(scripted()) as client, client.request(method, url, **given) as response:
        assert response.status == status
        await check(path, method, response)


async def test_a_stream_that_fails_half_way_conforms_to_the_document() -> None:
    model = ScriptedModel([Token("a"), ConnectionResetError("gone")])
    async with serving(create_app({"tiny": model})) as client:
        for url in ("/stream", "/api/stream", "/v1/chat/completions"):
            given = PROMPT if "v1" not in url else {**CONVERSATION, **STREAMED}
            async with client.post(url, json=given) as response:
                assert response.status == 200
                await check(url, "post", response)


async def test_the_responses_of_a_draining_server_conform_to_the_document() -> None:
    model = Stepwise()
    app = create_app({"tiny": model})
    async with serving(app) as client:
        asking = asyncio.ensure_future(client.post("/generate", json=PROMPT))
        await until(lambda: model.active == 1)
        draining = asyncio.ensure_future(drain(app))
        await asyncio.sleep(0)
        for path, method, given in (
            ("/healthz", "get", {}),
            ("/generate", "post", {"json": PROMPT}),
            ("/v1/chat/completions", "post", {"json": CONVERSATION}),
        ):
            async with client.request(method, path, **given) as response:
                assert response.status == 503
                await check(path, method, response)
        model.let()
        await (await asking).read()
        await draining


async def test_the_end_of_a_stream_is_204_without_a_body() -> None:
    async with serving(scripted()) as client:
        async with client.get("/stream", params={**PROMPT, "id": "mine"}) as response:
            last = str((await all_events(response))[-1].position)
        for url in ("/stream/mine", "/stream?prompt=Hi&id=mine"):
            async with client.get(url, headers={"Last-Event-ID": last}) as response:
                assert (response.status, await response.read()) == (204, b"")
        assert "204" in openapi()["paths"]["/stream"]["get"]["responses"]
        assert "204" in openapi()["paths"]["/stream/{id}"]["get"]["responses"]


async def test_the_document_of_a_server_states_its_limits_and_whether_it_requires_a_key() -> None:
    headers = {"Authorization": "Bearer secret"}
    async with serving(scripted(api_key="secret", limits=Limits(max_tokens=7))) as client:
        document = await (await client.get("/openapi.json", headers=headers)).json()
    properties = document["components"]["schemas"]["StreamRequest"]["properties"]
    assert properties["maxTokens"]["maximum"] == 7
    assert {} not in document["security"]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert {} in openapi()["security"]
