"""`/schema.json` and `/openapi.json`, generated from the message classes."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from aiohttp import web

import rxllm
from rxllm.chunks import Chunk
from rxllm.server.ag_ui.messages import RunRequest
from rxllm.server.anthropic.messages import MessagesRequest
from rxllm.server.messages import (
    ClientMessage,
    Complete,
    Generated,
    Health,
    Models,
    ServerMessage,
    StreamChunk,
    StreamFailed,
    StreamList,
    StreamQuery,
    StreamRequest,
    StreamState,
)
from rxllm.server.ollama.messages import ChatRequest as OllamaRequest
from rxllm.server.ollama.messages import GenerateRequest
from rxllm.server.openai.messages import CompletionRequest
from rxllm.server.responses_api.messages import ResponsesRequest
from rxllm.server.ui_messages.messages import ChatRequest as UIRequest
from rxllm.web.openai_chat.types import (
    Completion,
    CompletionEvent,
    ListedModel,
    ListedModels,
    OpenAIError,
)

__all__ = ["json_schema", "openapi", "routes"]

_UNIONS: Final[dict[str, Any]] = {
    "ClientMessage": ClientMessage,
    "ServerMessage": ServerMessage,
    "StreamMessage": StreamChunk | Complete | StreamFailed,
    "AnyChunk": Chunk,
}
_OTHERS: Final = (
    StreamRequest,
    Generated,
    Models,
    StreamList,
    StreamState,
    Health,
    CompletionRequest,
    Completion,
    CompletionEvent,
    ListedModel,
    ListedModels,
    OpenAIError,
    *(ResponsesRequest, MessagesRequest, UIRequest, RunRequest, OllamaRequest, GenerateRequest),
)
_WIRES: Final = {
    "openai": "OpenAI",
    "responses_api": "Responses",
    "anthropic": "Anthropic",
    "ui_messages": "UI",
    "ag_ui": "AGUI",
    "ollama": "Ollama",
}
"""The prefixes of the classes in our packages for the wires of others."""


@cache
def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of all messages: `$defs` has an entry for each class, and
    for the unions `ClientMessage`, `ServerMessage`, `StreamMessage` and `AnyChunk`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "rxllm-messages",
        "title": "The messages of the rxllm server",
        "$defs": _definitions("#/$defs/{name}"),
    }


@cache
def openapi() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the HTTP endpoints."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rxllm",
            "version": rxllm.__version__,
            "description": "Streams of language models. `/schema.json` describes `/ws`.",
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


routes: list[web.RouteDef] = [web.get("/schema.json", _schema), web.get("/openapi.json", _openapi)]


def _document(value: dict[str, Any], content_type: str) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type=content_type)


def _definitions(template: str) -> dict[str, Any]:
    # Two classes may share a name (the chunk `Start` and the message): msgspec prefixes them with
    # their modules, but the name of a component can't contain dots.
    kinds = [*_UNIONS.values(), *_OTHERS]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=template)
    named = {**components, **dict(zip(_UNIONS, schemas, strict=False))}
    return {_short(name): _renamed(schema, template) for name, schema in named.items()}


def _short(name: str) -> str:
    *_, package, module, short = ("", "", *name.split("."))
    if package in _WIRES or short.startswith("_"):
        return _WIRES.get(package, "Wire") + short.removeprefix("_")
    return {"chunks": "Chunk", "messages": "Client"}.get(module, "") + short


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
    return {
        **_stream_paths(),
        **_list_paths(),
        **_openai_paths(),
        **_paths_of_others(),
        **_health_paths(),
    }


def _stream_paths() -> dict[str, Any]:
    last_id = [
        {"name": "Last-Event-ID", "in": "header", "schema": {"type": "integer"}},
        {"name": "lastEventId", "in": "query", "schema": {"type": "integer"}},
    ]
    after = {"name": "after", "in": "query", "schema": {"type": "integer"}}
    ask = _body("StreamRequest")
    events = _answer("Events whose `data` is one of these.", "StreamMessage", _SSE)
    lines = _answer("One message per line; the last has the text.", "StreamMessage", _NDJSON)
    from_query = _resumable("Start a stream, as server-sent events", events, [*_query(), *last_id])
    resumed = _resumable("Resume or join a stream", events, [_ID, *last_id, after])
    return {
        "/stream": {
            "get": from_query,
            "post": _resumable("Start a stream, as server-sent events", events, last_id, **ask),
        },
        "/stream/{id}": {"get": resumed},
        "/api/stream": {"post": _resumable("Start a stream, as NDJSON", lines, last_id, **ask)},
        "/generate": {
            "post": _operation(
                "Generate a whole answer", _answer("The answer.", "Generated"), **ask
            )
        },
    }


def _list_paths() -> dict[str, Any]:
    return {
        "/streams": {"get": _operation("List streams", _answer("The streams.", "StreamList"))},
        "/streams/{id}": {"delete": _control("Cancel a stream")},
        "/streams/{id}/pause": {"post": _control("Pause a stream")},
        "/streams/{id}/resume": {"post": _control("Resume a stream")},
        "/models": {"get": _operation("List models", _answer("The models.", "Models"))},
    }


def _openai_paths() -> dict[str, Any]:
    whole = _answer("The completion, or with `stream` its events, then `[DONE]`.", "Completion")
    events = [_ref("CompletionEvent"), _ref("OpenAIError")]
    whole["content"][_SSE] = {"schema": {"anyOf": events}}
    listed = _answer("The models.", "ListedModels")
    model = _answer("The model.", "ListedModel")
    failure = _answer("An error in OpenAI's format.", "OpenAIError")
    return {
        "/v1/chat/completions": {
            "post": _operation(
                "Create a chat completion", whole, failure=failure, **_body("CompletionRequest")
            )
        },
        "/v1/models": {"get": _operation("List models", listed, failure=failure)},
        "/v1/models/{id}": {
            "get": _operation("Describe a model", model, failure=failure, parameters=[_ID]),
        },
    }


def _paths_of_others() -> dict[str, Any]:
    def answers(summary: str, body: str | None = None, *, streams: str = "", **more: Any) -> Any:
        """An operation whose answers are in the format of others, and described by them."""
        content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
        if streams:
            content[streams] = content["application/json"]  # each event, or line
        success = {"description": "In the format of its API.", "content": content}
        asked = {} if body is None else _body(body)
        return _operation(summary, success, failure=success, **asked, **more)

    events, lines = {"streams": _SSE}, {"streams": _NDJSON}
    after = {"name": "starting_after", "in": "query", "schema": {"type": "integer"}}
    stream = {"name": "stream", "in": "query", "schema": {"type": "boolean"}}
    stop = answers("Stop the running answer of a chat", parameters=[_ID])
    resume = answers("Resume the running answer of a chat", parameters=[_ID], **events)
    for operation in (stop, resume):
        operation["responses"]["204"] = {"description": "There is no running answer, or no more."}
    chat = answers("Chat, for the AI SDK or for clients of Ollama", None, **events)
    bodies = [_ref(_short_of(UIRequest)), _ref(_short_of(OllamaRequest))]
    chat["requestBody"] = {"content": {"application/json": {"schema": {"anyOf": bodies}}}}
    return {
        "/v1/responses": {"post": answers("Create a response", "ResponsesRequest", **events)},
        "/v1/responses/{id}": {
            "get": answers("Read a response", parameters=[_ID, stream, after], **events)
        },
        "/v1/responses/{id}/cancel": {"post": answers("Cancel a response", parameters=[_ID])},
        "/v1/messages": {"post": answers("Create a message", "MessagesRequest", **events)},
        "/v1/messages/count_tokens": {"post": answers("Count tokens", "MessagesRequest")},
        "/api/chat": {"post": chat},
        "/api/chat/{id}/stream": {"get": resume, "delete": stop},
        "/agui": {"post": answers("Run, for clients of AG-UI", "RunRequest", **events)},
        "/api/generate": {"post": answers("Answer a prompt", "GenerateRequest", **lines)},
        "/api/tags": {"get": answers("List models, as Ollama does")},
        "/api/show": {"post": answers("Describe a model, as Ollama does")},
        "/api/version": {"get": answers("The version of Ollama's API")},
        "/api/ps": {"get": answers("List loaded models, as Ollama does")},
    }


def _short_of(kind: type) -> str:
    """Return the name of a component whose class shares its name with another one."""
    return _short(f"{kind.__module__}.{kind.__qualname__}")


def _health_paths() -> dict[str, Any]:
    health = _operation(
        "Check whether the server accepts streams", _answer("It accepts streams.", "Health")
    )
    health["responses"]["503"] = _answer("The server is shutting down.", "Health")
    text = {"description": "Prometheus text format.", "content": {"text/plain": {"schema": _TEXT}}}
    return {"/healthz": {"get": health}, "/metrics": {"get": _operation("Metrics", text)}}


_SSE: Final = "text/event-stream"
_NDJSON: Final = "application/x-ndjson"
_TEXT: Final = {"type": "string"}
_ID: Final = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def _query() -> list[dict[str, Any]]:
    """Return the parameters of `GET /stream`. A query value is never null."""
    (_,), components = msgspec.json.schema_components([StreamQuery])
    options = []
    for name, schema in components["StreamQuery"]["properties"].items():
        kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
        kind = next((kind for kind in kinds if kind.get("type") == "array"), kinds[0])
        kind = {key: value for key, value in kind.items() if key not in ("default", "description")}
        if "enum" in kind:
            kind["enum"] = [value for value in kind["enum"] if value is not None]
        description = schema["description"]
        options.append({"name": name, "in": "query", "description": description, "schema": kind})
    return options


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(name: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(name)}}
    return {"requestBody": {"required": True, "content": content}}


def _answer(description: str, name: str, content_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": _ref(name)}}}


def _control(summary: str) -> dict[str, Any]:
    return _operation(summary, _answer("Its new status.", "StreamState"), parameters=[_ID])


def _operation(
    summary: str, success: dict[str, Any], *, failure: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    failure = failure or _answer("An error: see `code` and `field`.", "StreamFailed")
    return {"summary": summary, "responses": {"200": success, "default": failure}, **more}


def _resumable(
    summary: str, success: dict[str, Any], parameters: list[dict[str, Any]], **more: Any
) -> dict[str, Any]:
    operation = _operation(summary, success, parameters=parameters, **more)
    operation["responses"]["204"] = {"description": "There are no more events: do not reconnect."}
    return operation
