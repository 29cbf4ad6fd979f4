"""`/schema.json` and `/openapi.json`, generated from the message classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec
from aiohttp import web

import rxllm
from rxllm.chunks import Chunk
from rxllm.server.ag_ui.messages import RunRequest
from rxllm.server.anthropic.messages import MessagesRequest
from rxllm.server.app_keys import LIMITS, REQUIRES_KEY
from rxllm.server.limits import Limits
from rxllm.server.messages import (
    ClientMessage,
    Complete,
    Generated,
    Health,
    Models,
    RoomList,
    ServerMessage,
    StreamChunk,
    StreamFailed,
    StreamList,
    StreamQuery,
    StreamRequest,
    StreamState,
)
from rxllm.server.ollama.messages import ChatRequest as OllamaRequest
from rxllm.server.ollama.messages import GenerateRequest, ShowRequest
from rxllm.server.openai.messages import CompletionRequest
from rxllm.server.responses_api.messages import ResponsesRequest
from rxllm.server.schema_rules import (
    OPTIONAL_POSITION,
    POSITION,
    WITH_MAX_TOKENS,
    add_rules,
    query_rules,
)
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
    RoomList,
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
    ShowRequest,
)
_LIMITS: Final = Limits()
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
def json_schema(limits: Limits = _LIMITS) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of all messages: `$defs` has an entry for each class, and
    for the unions `ClientMessage`, `ServerMessage`, `StreamMessage` and `AnyChunk`.

    Args:
        limits: the limits for clients.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "rxllm-messages",
        "title": "The messages of the rxllm server",
        "$defs": _definitions("#/$defs/{name}", limits),
    }


@cache
def openapi(limits: Limits = _LIMITS, *, requires_key: bool = False) -> dict[str, Any]:
    """Return the OpenAPI 3.2 document of the HTTP endpoints.

    Args:
        limits: the limits for clients.
        requires_key: whether clients must send an API key.
    """
    schemes: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}, {"basic": []}]
    return {
        "openapi": "3.2.0",
        "info": {
            "title": "rxllm",
            "version": rxllm.__version__,
            "description": "Streams of language models. `/schema.json` describes `/ws`.",
        },
        "paths": _paths(limits),
        "components": {
            "schemas": _definitions("#/components/schemas/{name}", limits),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
        "security": schemes if requires_key else [{}, *schemes],
    }


async def _schema(request: web.Request) -> web.Response:
    """`GET /schema.json`."""
    return _document(json_schema(request.app[LIMITS]), "application/schema+json")


async def _openapi(request: web.Request) -> web.Response:
    """`GET /openapi.json`."""
    document = openapi(request.app[LIMITS], requires_key=request.app[REQUIRES_KEY])
    return _document(document, "application/json")


routes: list[web.RouteDef] = [web.get("/schema.json", _schema), web.get("/openapi.json", _openapi)]


def _document(value: dict[str, Any], content_type: str) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type=content_type)


def _definitions(template: str, limits: Limits) -> dict[str, Any]:
    # Two classes may share a name (the chunk `Start` and the message): msgspec prefixes them with
    # their modules, but the name of a component can't contain dots.
    kinds = [*_UNIONS.values(), *_OTHERS]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=template)
    named = {**components, **dict(zip(_UNIONS, schemas, strict=False))}
    short = {_short(name): _renamed(schema, template) for name, schema in named.items()}
    return add_rules(short, limits)


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


def _paths(limits: Limits) -> dict[str, Any]:
    return {
        **_stream_paths(limits),
        **_list_paths(),
        **_openai_paths(),
        **_paths_of_others(),
        **_health_paths(),
    }


def _stream_paths(limits: Limits) -> dict[str, Any]:
    last_id: list[dict[str, Any]] = [
        {"name": "Last-Event-ID", "in": "header", "schema": POSITION},
        {"name": "lastEventId", "in": "query", **OPTIONAL_POSITION},
    ]
    after = {"name": "after", "in": "query", **OPTIONAL_POSITION}
    ask = _body("StreamRequest")
    events = _answer("Events whose `data` is one of these.", "StreamMessage", _SSE)
    lines = _answer("One message per line; the last has the text.", "StreamMessage", _NDJSON)
    from_query = _resumable(
        "Start a stream, as server-sent events", events, [*_query(limits), *last_id]
    )
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
        "/rooms": {"get": _operation("List rooms", _answer("The rooms.", "RoomList"))},
        "/models": {"get": _operation("List models", _answer("The models.", "Models"))},
    }


def _openai_paths() -> dict[str, Any]:
    whole = _answer("The completion, or with `stream` its events, then `[DONE]`.", "Completion")
    events = [_ref("CompletionEvent"), _ref("OpenAIError")]
    whole["content"][_SSE] = _items(_SSE, {"anyOf": events}, ends_with_done=True)
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
    events: dict[str, Any] = {"streams": [_SSE]}
    lines: dict[str, Any] = {"streams": [_NDJSON]}
    after = {"name": "starting_after", "in": "query", "schema": POSITION}
    stream = {"name": "stream", "in": "query", "schema": {"type": "boolean"}}
    stop = _answers("Stop the running answer of a chat", parameters=[_ID])
    resume = _answers("Resume the running answer of a chat", parameters=[_ID], **events)
    for operation in (stop, resume):
        operation["responses"]["204"] = {"description": "No answer is running."}
    chat = _answers("Chat, for the AI SDK or for clients of Ollama", None, streams=[_SSE, _NDJSON])
    bodies = [_ref(_short_of(UIRequest)), _ref(_short_of(OllamaRequest))]
    chat["requestBody"] = _json_body({"anyOf": bodies})
    return {
        "/v1/responses": {"post": _answers("Create a response", "ResponsesRequest", **events)},
        "/v1/responses/{id}": {
            "get": _answers("Read a response", parameters=[_ID, stream, after], **events)
        },
        "/v1/responses/{id}/cancel": {"post": _answers("Cancel a response", parameters=[_ID])},
        "/v1/messages": {
            "post": _answers(
                "Create a message", "MessagesRequest", required=WITH_MAX_TOKENS, **events
            )
        },
        "/v1/messages/count_tokens": {"post": _answers("Count tokens", "MessagesRequest")},
        "/api/chat": {"post": chat},
        "/api/chat/{id}/stream": {"get": resume, "delete": stop},
        "/agui": {"post": _answers("Run, for clients of AG-UI", "RunRequest", **events)},
        "/api/generate": {"post": _answers("Answer a prompt", "GenerateRequest", **lines)},
        "/api/tags": {"get": _answers("List models, as Ollama does")},
        "/api/show": {"post": _answers("Describe a model, as Ollama does", "ShowRequest")},
        "/api/version": {"get": _answers("The version of Ollama's API")},
        "/api/ps": {"get": _answers("List loaded models, as Ollama does")},
    }


def _answers(
    summary: str,
    body: str | None = None,
    *,
    streams: Sequence[str] = (),
    required: dict[str, Any] | None = None,
    **more: Any,
) -> Any:
    """An operation whose answers are in the format of others, and described by them."""
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    for each in streams:
        content[each] = _items(each, {"type": "object"}, ends_with_done=True)
    success = {"description": "In the format of its API.", "content": content}
    asked = {} if body is None else _body(body, required)
    return _operation(summary, success, failure=success, **asked, **more)


def _short_of(kind: type) -> str:
    """Return the name of a component whose class shares its name with another one."""
    return _short(f"{kind.__module__}.{kind.__qualname__}")


def _health_paths() -> dict[str, Any]:
    health = _operation(
        "Check whether the server accepts streams", _answer("It accepts streams.", "Health")
    )
    health["security"] = []
    health["responses"]["503"] = _answer("The server is shutting down.", "Health")
    text = {"description": "Prometheus text format.", "content": {"text/plain": {"schema": _TEXT}}}
    return {"/healthz": {"get": health}, "/metrics": {"get": _operation("Metrics", text)}}


_SSE: Final = "text/event-stream"
_NDJSON: Final = "application/x-ndjson"
_TEXT: Final = {"type": "string"}
_ID: Final = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def _query(limits: Limits) -> list[dict[str, Any]]:
    """Return the parameters of `GET /stream`. A query value is never null."""
    rules = query_rules(limits)
    (_,), components = msgspec.json.schema_components([StreamQuery])
    options = []
    for name, schema in components["StreamQuery"]["properties"].items():
        kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
        kind = next((kind for kind in kinds if kind.get("type") == "array"), kinds[0])
        kind = {key: value for key, value in kind.items() if key not in ("default", "description")}
        if "enum" in kind:
            kind["enum"] = [value for value in kind["enum"] if value is not None]
        option = {"name": name, "in": "query", "description": schema["description"]}
        options.append({**option, "schema": {**kind, **rules.get(name, {})}})
    return [{**each, "required": True} if each["name"] == "prompt" else each for each in options]


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(name: str, required: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the body of an operation, of the class with this name.

    Args:
        name: the name of the class.
        required: what the operation requires besides.
    """
    schema = _ref(name) if required is None else {"allOf": [_ref(name), required]}
    return {"requestBody": _json_body(schema)}


def _json_body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answer(description: str, name: str, content_type: str = "application/json") -> dict[str, Any]:
    is_stream = content_type in (_SSE, _NDJSON)
    content = _items(content_type, _ref(name)) if is_stream else {"schema": _ref(name)}
    return {"description": description, "content": {content_type: content}}


def _items(
    content_type: str, schema: dict[str, Any], *, ends_with_done: bool = False
) -> dict[str, Any]:
    """Return the schema of each line of NDJSON, or of each event, whose `data` is JSON.

    Args:
        content_type: the media type of the stream.
        schema: the schema of the JSON.
        ends_with_done: whether the `data` of the last event may be `[DONE]`.
    """
    if content_type == _NDJSON:
        return {"itemSchema": schema}
    data: dict[str, Any] = {
        **_TEXT,
        "contentMediaType": "application/json",
        "contentSchema": schema,
    }
    if ends_with_done:
        data = {"anyOf": [{"const": "[DONE]"}, data]}
    properties = {"data": data, "event": _TEXT, "id": _TEXT}
    return {"itemSchema": {"type": "object", "properties": properties, "required": ["data"]}}


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
