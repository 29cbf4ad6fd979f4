"""`/v1/messages`, for clients of Anthropic's API, such as Claude Code.

Source: https://docs.anthropic.com/en/api/messages, .../messages-count-tokens and .../models-list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

import msgspec
from aiohttp import web

from rxllm.errors import UnsupportedError
from rxllm.requests import ModelInfo, Request
from rxllm.server.anthropic.messages import MessagesRequest
from rxllm.server.app_keys import LIMITS, MODELS, READERS
from rxllm.server.facade import fields_of, stream_answer, whole_answer
from rxllm.server.failures import decoded, json_response, read_body, retry_headers
from rxllm.server.messages import Options, StreamFailed
from rxllm.server.responses import send_json
from rxllm.web.anthropic.writer import (
    ANTHROPIC_WIRE,
    AnthropicWriter,
    error_body,
    message_of,
)

__all__ = ["anthropic_error", "is_anthropic", "listed_model", "listed_models", "routes"]

_body = msgspec.json.Decoder(MessagesRequest)
_VERSION: Final = "anthropic-version"


async def messages(request: web.Request) -> web.StreamResponse:
    """`POST /v1/messages`: an answer, whole or streamed."""
    body, options, asked = await _read(request)
    body.check()
    name = options.model or request.app[MODELS].default
    stream_id = f"msg_{uuid4().hex}"
    with request.app[READERS].one_more():
        if body.stream:
            return await stream_answer(
                request,
                asked,
                options,
                stream_id=stream_id,
                wire=ANTHROPIC_WIRE,
                writer=AnthropicWriter(
                    stream_id,
                    model=name,
                    runs_tools=request.app[MODELS].runs_tools(options.model),
                ),
                refuse=anthropic_error,
                name_of=body.name_of,
            )
        result, _ = await whole_answer(request, asked, options, body.name_of)
        return await send_json(request, message_of(result, stream_id, name))


async def count_tokens(request: web.Request) -> web.Response:
    """`POST /v1/messages/count_tokens`: the number of input tokens, without asking the model."""
    _, options, asked = await _read(request)
    catalogue = request.app[MODELS]
    model = catalogue.find(options.model)
    count = getattr(model, "count_tokens", None)
    if count is None:
        name = options.model or catalogue.default
        raise UnsupportedError(f"{name} doesn't count tokens", "model")
    return json_response({"input_tokens": (await count(asked)).tokens})


routes: list[web.RouteDef] = [
    web.post("/v1/messages", messages),
    web.post("/v1/messages/count_tokens", count_tokens),
]


def is_anthropic(request: web.Request) -> bool:
    """Return whether a request for an endpoint that others have too is one of Anthropic's."""
    return _VERSION in request.headers or request.path.endswith(
        ("/v1/messages", "/v1/messages/count_tokens")
    )


def listed_models(listed: Sequence[ModelInfo]) -> dict[str, Any]:
    """Return the list of models in Anthropic's format."""
    models = [listed_model(info) for info in listed]
    first, last = (models[0]["id"], models[-1]["id"]) if models else (None, None)
    return {"data": models, "has_more": False, "first_id": first, "last_id": last}


def listed_model(info: ModelInfo) -> dict[str, Any]:
    """Return a model in Anthropic's format."""
    return {
        "type": "model",
        "id": info.id,
        "display_name": info.description or info.id,
        "created_at": "1970-01-01T00:00:00Z",  # it isn't known
    }


def anthropic_error(message: StreamFailed, status: int) -> web.Response:
    """Return an error in Anthropic's format. 503 becomes 529, which is its "overloaded"."""
    headers = retry_headers(message, status)
    return json_response(
        error_body(message, status),
        529 if status == 503 else status,
        {**headers, "x-should-retry": "true" if message.retryable else "false"},
    )


async def _read(request: web.Request) -> tuple[MessagesRequest, Options, Request]:
    body = decoded(_body, await read_body(request, request.app[LIMITS]))
    catalogue = request.app[MODELS]
    options = body.as_options()
    catalogue.find(options.model)
    with fields_of(body.name_of):
        asked = catalogue.request(body.as_messages(), options, **body.further())
    return body, options, asked
