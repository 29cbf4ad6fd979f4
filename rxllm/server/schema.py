"""`/schema.json` and `/openapi.json`, made from the classes of the messages."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from aiohttp import web

import rxllm
from rxllm.chunks import Chunk
from rxllm.server.messages import (
    ClientMessage,
    Failed,
    Generated,
    Models,
    ServerMessage,
    StreamList,
    StreamRequest,
    StreamState,
)
from rxllm.server.openai_messages import CompletionRequest

__all__ = ["json_schema", "openapi", "routes"]

_TYPES: Final[dict[str, Any]] = {
    "ClientMessage": ClientMessage,
    "ServerMessage": ServerMessage,
    "AnyChunk": Chunk,
    "StreamRequest": StreamRequest,
    "Generated": Generated,
    "StreamList": StreamList,
    "CompletionRequest": CompletionRequest,
}


@cache
def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of all messages: `$defs` holds one for each class, and the unions
    `ClientMessage`, `ServerMessage` and `AnyChunk`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "rxllm-messages",
        "title": "The messages of the rxllm server",
        "$defs": _definitions("#/$defs/{name}"),
    }


@cache
def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the HTTP endpoints."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rxllm",
            "version": rxllm.__version__,
            "description": "Streams of language models. `/ws` is described by `/schema.json`.",
        },
        "paths": _paths(),
        "components": {
            "schemas": _definitions("#/components/schemas/{name}"),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
        "security": [{}, {"bearer": []}, {"header": []}, {"basic": []}],
    }


async def _schema(_: web.Request) -> web.Response:
    """`GET /schema.json`."""
    return _document(json_schema(), "application/schema+json")


async def _openapi(_: web.Request) -> web.Response:
    """`GET /openapi.json`."""
    return _document(openapi(), "application/json")


routes = [web.get("/schema.json", _schema), web.get("/openapi.json", _openapi)]


def _document(value: dict[str, Any], content_type: str) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type=content_type)


def _definitions(template: str) -> dict[str, Any]:
    # Two classes may have one name (the chunk `Start`, and the message): msgspec tells them apart
    # by their modules, and the dots of these are no part of a component's name.
    kinds = [*_TYPES.values(), Failed, Models, StreamState]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=template)
    unions = dict(zip(_TYPES, schemas, strict=False))
    named = {**components, **{name: it for name, it in unions.items() if name not in components}}
    return {_short(name): _renamed(schema, template) for name, schema in named.items()}


def _short(name: str) -> str:
    *_, module, short = ("", *name.split("."))
    prefix = {"chunks": "Chunk", "messages": "Client"}.get(module.removeprefix("_"), "")
    return prefix + short.removeprefix("_")


def _renamed(schema: Any, template: str) -> Any:
    head = template.format(name="")
    if isinstance(schema, dict):
        return {
            key: head + _short(value.removeprefix(head))
            if isinstance(value, str) and value.startswith(head)
            else _renamed(value, template)
            for key, value in schema.items()
        }
    return [_renamed(item, template) for item in schema] if isinstance(schema, list) else schema


def _paths() -> dict[str, Any]:
    prompt = _query("prompt", "string")
    options = [
        _query(name, kind)
        for name, kind in (
            ("id", "string"),
            ("model", "string"),
            ("maxTokens", "integer"),
            ("temperature", "number"),
            ("topP", "number"),
            ("seed", "integer"),
            ("strategy", "string"),
            ("responseFormat", "string"),
        )
    ]
    options.append({"name": "stop", "in": "query", "schema": _STOPS})
    last_id = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "integer"}}
    after = [last_id, _query("after", "integer")]
    ask = _body("StreamRequest")
    events = _answer("`chunk` events, then `complete` or `error`.", "ServerMessage", _SSE)
    lines = _answer("A message a line; the last has the text.", "ServerMessage", _NDJSON)
    sse_query = {"parameters": [prompt, *options, *after]}
    return {
        "/stream": {
            "get": _resumable("A stream, as server-sent events", events, **sse_query),
            "post": _operation("A stream, as server-sent events", events, **ask),
        },
        "/stream/{id}": {
            "get": _resumable("Go on with a stream, or join it", events, parameters=[_ID, *after])
        },
        "/api/stream": {"post": _operation("A stream, as NDJSON", lines, **ask)},
        "/generate": {"post": _operation("A whole answer", _answer("It.", "Generated"), **ask)},
        "/streams": {"get": _operation("All streams", _answer("They.", "StreamList"))},
        "/streams/{id}": {"delete": _act("Cancel a stream")},
        "/streams/{id}/pause": {"post": _act("Hold a stream")},
        "/streams/{id}/resume": {"post": _act("Let a stream go on")},
        "/models": {"get": _operation("What may be asked", _answer("The models.", "Models"))},
        "/v1/chat/completions": {
            "post": _operation(
                "OpenAI's chat completions",
                {"description": "As OpenAI answers."},
                **_body("CompletionRequest"),
            )
        },
        "/v1/models": {"get": _operation("As OpenAI lists them", {"description": "The models."})},
        "/healthz": {"get": _operation("200, or 503 while it drains", {"description": "Health."})},
        "/metrics": {"get": _operation("For Prometheus", {"description": "Text format."})},
    }


_SSE: Final = "text/event-stream"
_STOPS: Final = {"type": "array", "items": {"type": "string"}}
_NDJSON: Final = "application/x-ndjson"
_ID: Final = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def _query(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": kind}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(name: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(name)}}
    return {"requestBody": {"required": True, "content": content}}


def _answer(words: str, name: str, content_type: str = "application/json") -> dict[str, Any]:
    return {"description": words, "content": {content_type: {"schema": _ref(name)}}}


def _act(summary: str) -> dict[str, Any]:
    return _operation(summary, _answer("What has become of it.", "StreamState"), parameters=[_ID])


def _operation(summary: str, success: dict[str, Any], **more: Any) -> dict[str, Any]:
    failure = _answer("What is wrong: see `code` and `field`.", "Failed")
    return {"summary": summary, "responses": {"200": success, "default": failure}, **more}


def _resumable(summary: str, success: dict[str, Any], **more: Any) -> dict[str, Any]:
    operation = _operation(summary, success, **more)
    operation["responses"]["204"] = {"description": "Nothing more to come: do not reconnect."}
    return operation
