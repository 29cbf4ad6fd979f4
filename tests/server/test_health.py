"""Health, metrics, and the documents that describe the messages."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest

import rxllm
from rxllm.chunks import Batch, Chunk, End, Json, Notice, Start, Token, Usage
from rxllm.errors import BadRequestError, ModelNotFoundError
from rxllm.models.scripted import ScriptedModel
from rxllm.server import Limits, create_app, messages
from rxllm.server.app import drain
from rxllm.server.schema import json_schema, openapi
from tests.server.serving import Stepwise, decode, scripted, serving, until

CHUNKS: list[Chunk] = [
    Start("r", "m"),
    Token("a", confidence=0.5),
    Batch((Token("a"),), "a"),
    Json({"a": [1]}, complete=True),
    Usage(1, 2),
    Notice("retry", attempt=2),
    End("stop"),
]


async def test_health_is_ok_and_counts_live_streams() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model})) as client:
        asking = asyncio.ensure_future(client.post("/generate", json={"prompt": "Hi"}))
        await until(lambda: model.active == 1)
        async with client.get("/healthz") as response:
            assert response.status == 200
            health = await response.json()
        health.pop("store", None)  # of several servers
        assert health == {"status": "ok", "streams": 1, "version": rxllm.__version__}
        model.let()
        await (await asking).read()


async def test_a_draining_server_reports_it_and_refuses_streams() -> None:
    model = Stepwise()
    app = create_app({"tiny": model})
    async with serving(app) as client:
        asking = asyncio.ensure_future(client.post("/generate", json={"prompt": "Hi"}))
        await until(lambda: model.active == 1)
        draining = asyncio.gather(drain(app), drain(app))
        await asyncio.sleep(0)
        async with client.get("/healthz") as response:
            assert (response.status, (await response.json())["status"]) == (503, "draining")
        for path in ("/stream", "/api/stream", "/generate"):
            async with client.post(path, json={"prompt": "Hi"}) as response:
                message = decode(await response.read())
            assert isinstance(message, messages.StreamFailed)
            assert (response.status, message.code) == (503, "draining")
            assert response.headers["Retry-After"]
        model.let()
        async with await asking as answered:
            assert (await answered.json())["text"] == "abcdef"
        await draining


async def test_the_metrics_count_streams_by_outcome() -> None:
    async with serving(scripted()) as client:
        async with client.post("/generate", json={"prompt": "Hi"}) as response:
            await response.read()
        async with client.get("/metrics") as response:
            text = await response.text()
    assert response.content_type == "text/plain"
    counted = [line for line in text.splitlines() if "inference_duration_seconds_count" in line]
    assert len(counted) == 1
    assert 'gen_ai_request_model="tiny"' in counted[0]
    assert 'error_type=""' in counted[0]
    assert counted[0].endswith(" 1.0")
    assert "rxllm_active_streams 0.0" in text


async def test_without_prometheus_client_metrics_are_501(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    async with serving(scripted()) as client:
        async with client.get("/metrics") as response:
            assert response.status == 501
            assert "rxllm[metrics]" in await response.text()
        async with client.post("/generate", json={"prompt": "Hi"}) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    "message",
    [
        *[messages.StreamChunk(id="s", position=1, timestamp=1.5, chunk=chunk) for chunk in CHUNKS],
        messages.Complete(id="s", tokens=1, seconds=0.5, finish_reason="stop", usage=Usage(1, 2)),
        messages.StreamFailed(code="rate_limit", message="slow down", retry_after=1.0),
        messages.Pong(),
        messages.Joined(room="r", name="n", participants=("n",)),
    ],
)
def test_server_messages_conform_to_the_schema(message: Any) -> None:
    value = json.loads(msgspec.json.encode(message))
    schema = {**json_schema(), "$ref": "#/$defs/ServerMessage"}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_the_schema_rejects_invalid_messages() -> None:
    validator = jsonschema.Draft202012Validator({**json_schema(), "$ref": "#/$defs/ClientMessage"})
    assert validator.is_valid({"type": "start", "id": "a", "prompt": "Hi"})
    assert not validator.is_valid({"type": "start", "prompt": "Hi"})
    assert not validator.is_valid({"type": "begin", "id": "a"})


@pytest.mark.parametrize("document", [json_schema(), openapi()])
def test_every_reference_in_a_document_resolves(document: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            yield from value.get("discriminator", {}).get("mapping", {}).values()
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, dict | list):
                yield from references(item)

    found = list(references(document))
    assert found
    for reference in found:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_classes_with_the_same_name_are_distinct_in_the_documents() -> None:
    """Our `Message` isn't OpenAI's."""
    known = json_schema()["$defs"]
    assert "developer" not in known["Message"]["properties"]["role"]["enum"]
    assert "developer" in known["OpenAIMessage"]["properties"]["role"]["enum"]


async def test_the_documents_name_every_endpoint() -> None:
    app = scripted()
    paths = {
        resource.canonical
        for resource in app.router.resources()
        if resource.canonical not in ("/", "/static", "/ws", "/schema.json", "/openapi.json")
    }
    assert paths == set(openapi()["paths"])
    async with serving(app) as client:
        for path in ("/schema.json", "/openapi.json"):
            async with client.get(path) as response:
                assert json.loads(await response.read())


@pytest.mark.parametrize(("value", "field"), [(0, "streams"), (-1.0, "grace"), (True, "messages")])
def test_an_invalid_limit_is_refused(value: Any, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})


@pytest.mark.parametrize("models", [{}, [], "tiny", ["no such model"]])
def test_invalid_models_are_refused(models: Any) -> None:
    with pytest.raises(BadRequestError):
        create_app(models)


def test_an_unknown_default_model_is_refused() -> None:
    with pytest.raises(ModelNotFoundError):
        create_app({"tiny": ScriptedModel("x")}, "other")


def test_the_bundled_model_is_served_by_default() -> None:
    from rxllm.server.app_keys import MODELS

    catalogue = create_app()[MODELS]
    assert catalogue.default == "tiny"
    assert all(info.id.startswith("tiny") for info in catalogue.listed)


def test_the_public_names_of_a_store_import_aiohttp_only_on_use() -> None:
    program = """
import sys, rxllm.server
assert "aiohttp" not in sys.modules
found = {name: getattr(rxllm.server, name) for name in rxllm.server.__all__}
assert {"StreamStore", "StreamHandle", "Frame", "MemoryStreams", "Limits", "serve"} <= set(found)
assert all(callable(each) for each in found.values()), found
from rxllm.command_line import main
main(["serve", "--limit", "nothing"])
assert callable(rxllm.server.serve)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_rxllm_imports_no_server() -> None:
    program = (
        "import sys, rxllm; sys.exit('aiohttp' in sys.modules or 'rxllm.server' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_document_lists_the_options_of_a_stream() -> None:
    named = {
        path: {each["name"]: each for each in openapi()["paths"][path]["get"]["parameters"]}
        for path in ("/stream", "/stream/{id}")
    }
    options = {field.encode_name for field in msgspec.structs.fields(messages.StreamQuery)}
    assert set(named["/stream"]) == {*options, "Last-Event-ID", "lastEventId"}
    assert set(named["/stream/{id}"]) == {"id", "after", "Last-Event-ID", "lastEventId"}
    assert [name for name, each in named["/stream"].items() if each.get("required")] == ["prompt"]
    assert named["/stream"]["responseFormat"]["schema"] == {"enum": ["json"]}
