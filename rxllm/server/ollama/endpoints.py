"""`/api/chat`, `/api/generate`, `/api/tags` and others, for clients of Ollama.

Source: https://docs.ollama.com/api.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final
from uuid import uuid4

import msgspec
from aiohttp import web

from rxllm.messages import Message
from rxllm.requests import ModelInfo
from rxllm.server.app_keys import LIMITS, MODELS, READERS
from rxllm.server.facade import fields_of, stream_answer, whole_answer
from rxllm.server.failures import decoded, json_response, read_body, retry_headers
from rxllm.server.messages import StreamFailed
from rxllm.server.ollama.messages import ChatRequest, GenerateRequest, ShowRequest
from rxllm.server.responses import send_json
from rxllm.web.failures import InvalidMessageError
from rxllm.web.ollama.writer import OLLAMA_WIRE, OllamaWriter, call_fields, timestamp

__all__ = ["chat", "ollama_error", "routes"]

_VERSION: Final = "0.12.0"
"""The version whose API this is: clients ask for it to know what they can use."""

_NO_MESSAGES: Final = (Message("user", ""),)

_chat = msgspec.json.Decoder(ChatRequest)
_generate = msgspec.json.Decoder(GenerateRequest)
_shown = msgspec.json.Decoder(ShowRequest)


async def chat(request: web.Request, data: bytes) -> web.StreamResponse:
    """Answer a chat in Ollama's format, streamed unless the client asks for the whole."""
    return await _answer(request, decoded(_chat, data), generates=False)


async def generate(request: web.Request) -> web.StreamResponse:
    """`POST /api/generate`: the answer to a prompt."""
    data = await read_body(request, request.app[LIMITS])
    return await _answer(request, decoded(_generate, data), generates=True)


async def tags(request: web.Request) -> web.Response:
    """`GET /api/tags`: the models."""
    return json_response({"models": [_listed(info) for info in request.app[MODELS].listed]})


async def show(request: web.Request) -> web.Response:
    """`POST /api/show`: what is known about a model."""
    body = decoded(_shown, await read_body(request, request.app[LIMITS]))
    name = body.model or body.name
    if not name:
        raise InvalidMessageError("model is required", "model")
    catalogue = request.app[MODELS]
    known = _name_of(request, name)
    catalogue.find(known)
    info = next(info for info in catalogue.listed if info.id == known)
    capabilities = ["completion"]
    for ours, theirs in (("tools", "tools"), ("images", "vision"), ("reasoning", "thinking")):
        if ours in info.capabilities:
            capabilities.append(theirs)
    length = {} if info.context_length is None else {"rxllm.context_length": info.context_length}
    return json_response(
        {
            "details": _details(info),
            "model_info": {"general.architecture": "rxllm", **length},
            "capabilities": capabilities,
            "modified_at": timestamp(0),
        }
    )


async def version(request: web.Request) -> web.Response:
    """`GET /api/version`."""
    return json_response({"version": _VERSION})


async def running(request: web.Request) -> web.Response:
    """`GET /api/ps`: the models that are loaded, which is not known here."""
    return json_response({"models": []})


routes: list[web.RouteDef] = [
    web.post("/api/generate", generate),
    web.get("/api/tags", tags),
    web.post("/api/show", show),
    web.get("/api/version", version),
    web.get("/api/ps", running),
]


def ollama_error(message: StreamFailed, status: int) -> web.Response:
    """Return an error in Ollama's format."""
    return json_response({"error": message.message}, status, retry_headers(message, status))


async def _answer(
    request: web.Request, body: ChatRequest | GenerateRequest, *, generates: bool
) -> web.StreamResponse:
    body.check()
    catalogue = request.app[MODELS]
    options = body.as_options()
    options.model = _name_of(request, options.model)
    catalogue.find(options.model)
    name = options.model or catalogue.default
    stream_id = f"ollama-{uuid4().hex}"
    writer = OllamaWriter(
        stream_id,
        model=name,
        generates=generates,
        runs_tools=catalogue.runs_tools(options.model),
    )
    messages = body.as_messages()
    with fields_of(body.name_of):
        asked = catalogue.request(messages or _NO_MESSAGES, options, **body.further())
    if not messages:  # a client loads or unloads a model
        return web.Response(body=writer.last_line(None, 0, "load"), content_type="application/json")
    with request.app[READERS].one_more():
        if body.stream is not False:
            return await stream_answer(
                request,
                asked,
                options,
                stream_id=stream_id,
                wire=OLLAMA_WIRE,
                writer=writer,
                refuse=ollama_error,
                name_of=body.name_of,
            )
        result, _ = await whole_answer(request, asked, options, body.name_of)
        said: dict[str, Any] = {"text": result.text}
        if result.reasoning:
            said["thinking"] = result.reasoning
        if result.tool_calls:
            said["tool_calls"] = [call_fields(call) for call in result.tool_calls]
        reason = "length" if result.finish_reason in ("length", "limit") else "stop"
        line = writer.last_line(result.usage, result.timings.tokens, reason, **said)
        return await send_json(request, msgspec.Raw(line))


def _name_of(request: web.Request, name: str | None) -> str | None:
    """Return our name of a model: clients add `:latest` to names without a tag."""
    catalogue = request.app[MODELS]
    known = {info.id for info in catalogue.listed}
    if name is not None and name not in known and name.removesuffix(":latest") in known:
        return name.removesuffix(":latest")
    return name


def _listed(info: ModelInfo) -> dict[str, Any]:
    return {
        "name": info.id,
        "model": info.id,
        "modified_at": timestamp(0),  # it isn't known
        "size": 0,
        "digest": sha256(info.id.encode("utf-8", "replace")).hexdigest(),
        "details": _details(info),
    }


def _details(info: ModelInfo) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "",
        "family": info.provider,
        "families": [info.provider],
        "parameter_size": "",
        "quantization_level": "",
    }
