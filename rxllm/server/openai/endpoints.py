"""`/v1/chat/completions` and `/v1/models`, for clients of the OpenAI API.

Source: https://platform.openai.com/docs/api-reference/chat and .../chat-streaming.
"""

from __future__ import annotations

from uuid import uuid4

import msgspec
from aiohttp import web

from rxllm.chunks import Batch, Token
from rxllm.requests import ModelInfo
from rxllm.server.anthropic.endpoints import is_anthropic, listed_model, listed_models
from rxllm.server.app_keys import LIMITS, MODELS, READERS
from rxllm.server.facade import fields_of, stream_answer, whole_answer
from rxllm.server.failures import decoded, json_response, read_body, retry_headers
from rxllm.server.messages import StreamFailed
from rxllm.server.openai.messages import CompletionRequest
from rxllm.server.responses import send_json
from rxllm.web.openai_chat.logprobs import logprobs_of
from rxllm.web.openai_chat.types import (
    ListedModel,
    ListedModels,
    OpenAIError,
)
from rxllm.web.openai_chat.writer import OPENAI_CHAT_WIRE, ChatWriter, completion, error_body

__all__ = ["openai_error", "routes"]

_body = msgspec.json.Decoder(CompletionRequest)


async def completions(request: web.Request) -> web.StreamResponse:
    """`POST /v1/chat/completions`: an answer, whole or streamed."""
    data = await read_body(request, request.app[LIMITS])
    body = decoded(_body, data)
    body.check(msgspec.json.decode(data))
    catalogue = request.app[MODELS]
    options = body.as_options()
    catalogue.find(options.model)
    with fields_of(body.name_of):
        asked = catalogue.request(body.as_messages(), options, **body.further())
    name = options.model or catalogue.default
    stream_id = f"chatcmpl-{uuid4().hex}"
    with request.app[READERS].one_more():
        if body.stream:
            return await stream_answer(
                request,
                asked,
                options,
                stream_id=stream_id,
                wire=OPENAI_CHAT_WIRE,
                writer=ChatWriter(
                    stream_id,
                    model=name,
                    include_usage=body.with_usage,
                    logprobs=bool(body.logprobs),
                    runs_tools=catalogue.runs_tools(options.model),
                ),
                refuse=openai_error,
                name_of=body.name_of,
            )
        keep = (Token, Batch) if body.logprobs else ()
        result, chunks = await whole_answer(request, asked, options, body.name_of, *keep)
        return await send_json(request, completion(result, stream_id, name, logprobs_of(chunks)))


async def models(request: web.Request) -> web.Response:
    """`GET /v1/models`, also in Anthropic's format."""
    listed = request.app[MODELS].listed
    if is_anthropic(request):
        return json_response(listed_models(listed))
    return json_response(ListedModels(object="list", data=[_model(info) for info in listed]))


async def one_model(request: web.Request) -> web.Response:
    """`GET /v1/models/{id}`."""
    name = request.match_info["id"]
    catalogue = request.app[MODELS]
    catalogue.find(name)
    info = next(info for info in catalogue.listed if info.id == name)
    return json_response(listed_model(info) if is_anthropic(request) else _model(info))


routes: list[web.RouteDef] = [
    web.post("/v1/chat/completions", completions),
    web.get("/v1/models", models),
    web.get("/v1/models/{id:.+}", one_model),
]


def openai_error(message: StreamFailed, status: int) -> web.Response:
    """Return an error in OpenAI's format, which the SDK maps to an exception by its status.

    By default the SDK retries after 409, 5xx and others: `x-should-retry` says whether to retry.
    """
    body = OpenAIError(error=error_body(message, status))
    headers = retry_headers(message, status)
    return json_response(
        body, status, {**headers, "x-should-retry": "true" if message.retryable else "false"}
    )


def _model(info: ModelInfo) -> ListedModel:
    return {"id": info.id, "object": "model", "created": 0, "owned_by": info.provider}
