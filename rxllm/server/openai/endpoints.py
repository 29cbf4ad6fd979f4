"""`/v1/chat/completions` and `/v1/models`, for clients of the OpenAI API.

Source: https://platform.openai.com/docs/api-reference/chat and .../chat-streaming.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import msgspec
from aiohttp import web

from rxllm.chunks import Chunk, is_restart
from rxllm.errors import BadRequestError
from rxllm.requests import ModelInfo, Request
from rxllm.server.app_keys import LIMITS, MODELS, READERS, STREAMS
from rxllm.server.failures import decoded, json_response, read_body, retry_headers
from rxllm.server.messages import Options, StreamFailed
from rxllm.server.openai.messages import CompletionRequest
from rxllm.server.responses import collect, first_frame, send_json
from rxllm.web.encoding import encode_each
from rxllm.web.failures import RefusedError, status_of_message
from rxllm.web.frame_sender import send_frames
from rxllm.web.openai_chat.logprobs import logprobs_of
from rxllm.web.openai_chat.types import (
    ListedModel,
    ListedModels,
    OpenAIError,
)
from rxllm.web.openai_chat.writer import Events, completion, error_body

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
    with _fields_of(body):
        asked = catalogue.request(body.as_messages(), options, **body.further())
    name = options.model or catalogue.default
    with request.app[READERS].one_more():
        if body.stream:
            return await _stream(request, name, options, asked, body)
        chunks: list[Chunk] = []

        def keep(chunk: Chunk) -> None:
            if is_restart(chunk):
                chunks.clear()
            chunks.append(chunk)

        stream = catalogue.ask(asked, options, progress=False)
        with _fields_of(body):
            result = await collect(request, stream, keep if body.logprobs else None)
        if result.finish_reason == "cancelled":
            raise RefusedError("cancelled", "the stream was cancelled", 409)
        logprobs = logprobs_of(chunks)
        answer = completion(result, f"chatcmpl-{uuid4().hex}", name, logprobs)
        return await send_json(request, answer)


async def _stream(
    request: web.Request, name: str, options: Options, asked: Request, body: CompletionRequest
) -> web.StreamResponse:
    stream_id = f"chatcmpl-{uuid4().hex}"
    catalogue = request.app[MODELS]
    begun = await request.app[STREAMS].begin(
        lambda: catalogue.ask(asked, options, stream_id=stream_id, progress=False),
        stream_id,
        model=name,
        grace=0.0,
    )
    first = await first_frame(request, begun)
    if first is not None and isinstance(first.message, StreamFailed):
        failed = msgspec.structs.replace(first.message, field=body.name_of(first.message.field))
        return openai_error(failed, status_of_message(failed))
    frames = await begun.read()
    events = Events(stream_id, name, body.with_usage, bool(body.logprobs))
    return await send_frames(
        request,
        encode_each(frames, events.of),
        headers={"X-Stream-Id": stream_id},
        max_stall=request.app[LIMITS].reader_stall,
        on_end=lambda delivery: begun.cancel_if_unread() if delivery.left else None,
    )


@contextmanager
def _fields_of(body: CompletionRequest) -> Iterator[None]:
    """Name the field of an error as the request does."""
    try:
        yield
    except BadRequestError as error:
        error.field = body.name_of(error.field)
        raise


async def models(request: web.Request) -> web.Response:
    """`GET /v1/models`."""
    listed = [_model(info) for info in request.app[MODELS].listed]
    return json_response(ListedModels(object="list", data=listed))


async def one_model(request: web.Request) -> web.Response:
    """`GET /v1/models/{id}`."""
    name = request.match_info["id"]
    catalogue = request.app[MODELS]
    catalogue.find(name)
    return json_response(next(_model(info) for info in catalogue.listed if info.id == name))


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
