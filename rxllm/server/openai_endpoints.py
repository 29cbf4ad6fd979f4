"""`/v1/chat/completions` and `/v1/models`: what a client of OpenAI's API expects.

Source: https://platform.openai.com/docs/api-reference/chat and .../chat-streaming.
"""

from __future__ import annotations

import time
from typing import Any, Final
from uuid import uuid4

import msgspec
from aiohttp import web
from reactivex import operators as rxo

from rxllm.chunks import Batch, Chunk, Reasoning, Token, ToolCall, Usage, is_restart
from rxllm.errors import RestartedStreamError
from rxllm.requests import ModelInfo, Request
from rxllm.server.app_keys import LIMITS, MODELS, READERS, STREAMS
from rxllm.server.endpoints import collect, first_frame
from rxllm.server.failures import (
    RefusedError,
    decoded,
    failed,
    json_response,
    read_body,
    retry_headers,
    status_of_message,
)
from rxllm.server.messages import Complete, Failed, Options, StreamChunk
from rxllm.server.openai_messages import CompletionRequest
from rxllm.server.streams import Frame
from rxllm.sinks._encoding import to_json
from rxllm.sinks._result import Result
from rxllm.sinks._sending import send_frames

__all__ = ["openai_error", "routes"]

_body = msgspec.json.Decoder(CompletionRequest)

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES: Final = {"context_length": "context_length_exceeded"}


async def completions(request: web.Request) -> web.StreamResponse:
    """`POST /v1/chat/completions`: one answer, whole or streamed."""
    body = decoded(_body, await read_body(request, request.app[LIMITS]))
    body.check()
    catalogue = request.app[MODELS]
    options = body.as_options()
    catalogue.find(options.model)
    asked = catalogue.request(body.as_messages(), options, **body.further())
    name = options.model or catalogue.default
    if not body.stream:
        answer = _Answer(f"chatcmpl-{uuid4().hex}", name)
        stream = catalogue.ask(asked, options, progress=False)
        result = await collect(request, stream, answer.add)
        if result.finish_reason == "cancelled":
            raise RefusedError("cancelled", "the stream was cancelled", 503)
        return json_response(answer.whole(result))
    with request.app[READERS].one_more():
        return await _stream(request, name, options, asked, body.with_usage)


async def _stream(
    request: web.Request, name: str, options: Options, asked: Request, with_usage: bool
) -> web.StreamResponse:
    stream_id = f"chatcmpl-{uuid4().hex}"
    stream = request.app[MODELS].ask(asked, options, stream_id=stream_id, progress=False)
    begun = await request.app[STREAMS].begin(stream, stream_id, model=name, grace=0.0)
    first = await first_frame(request, begun)
    if first is not None and isinstance(first.message, Failed):
        return openai_error(first.message, status_of_message(first.message))
    frames = await begun.read()
    events = _Events(stream_id, name, with_usage)
    return await send_frames(
        request,
        frames.pipe(rxo.map(events.of), rxo.filter(bool)),
        headers={"X-Stream-Id": stream_id},
        max_stall=request.app[LIMITS].reader_stall,
    )


async def models(request: web.Request) -> web.Response:
    """`GET /v1/models`."""
    listed = [_model(info) for info in request.app[MODELS].listed]
    return json_response({"object": "list", "data": listed})


async def one_model(request: web.Request) -> web.Response:
    """`GET /v1/models/{id}`."""
    name = request.match_info["id"]
    catalogue = request.app[MODELS]
    catalogue.find(name)
    return json_response(next(_model(info) for info in catalogue.listed if info.id == name))


routes = [
    web.post("/v1/chat/completions", completions),
    web.get("/v1/models", models),
    web.get("/v1/models/{id:.+}", one_model),
]


def openai_error(message: Failed, status: int) -> web.Response:
    """An error in OpenAI's form, which the SDK makes an exception of by its status."""
    return json_response({"error": _error(message, status)}, status, retry_headers(message, status))


def _error(message: Failed, status: int) -> dict[str, Any]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {
        "message": message.message,
        "type": kind,
        "param": message.field,
        "code": _CODES.get(message.code, message.code),
    }


def _model(info: ModelInfo) -> dict[str, Any]:
    return {"id": info.id, "object": "model", "created": 0, "owned_by": info.provider}


class _Answer:
    """What of a whole answer is not in its `Result`: tool calls and reasoning."""

    def __init__(self, answer_id: str, model: str) -> None:
        self._id = answer_id
        self._model = model
        self._calls: dict[int, ToolCall] = {}
        self._reasoning: list[str] = []

    def add(self, chunk: Chunk) -> None:
        """Take note of a chunk."""
        if isinstance(chunk, ToolCall):
            self._calls[chunk.index] = chunk
        elif isinstance(chunk, Reasoning):
            self._reasoning.append(chunk.text)
        elif isinstance(chunk, Batch):
            self._reasoning += [part.text for part in chunk.chunks if isinstance(part, Reasoning)]
        elif is_restart(chunk):
            self._calls.clear()
            self._reasoning.clear()

    def whole(self, result: Result) -> dict[str, Any]:
        """The answer."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if calls and not result.text else result.text,
            "refusal": None,
        }
        if calls:
            message["tool_calls"] = [_call(call, call.arguments) for call in calls]
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": result.finish_reason,
        }
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._model,
            "choices": [choice],
            "usage": _usage(result.usage, result.timings.tokens),
        }


class _Events:
    """Turns what a stream says into the events of one answer.

    An answer that can't go on (an error, a restart, which this form has no word for, a
    cancellation) ends with an `error` event, for which the SDK raises; `[DONE]` ends a whole one.
    """

    def __init__(self, answer_id: str, model: str, with_usage: bool) -> None:
        self._head = {
            "id": answer_id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._with_usage = with_usage
        self._has_begun = self._has_failed = False
        self._arguments: dict[int, int] = {}  # of each call: characters that were sent

    def of(self, frame: Frame) -> bytes:
        """The events for a frame; none is empty."""
        message = frame.message
        if self._has_failed:
            return b""
        if isinstance(message, Failed):
            return self._failed(message)
        if isinstance(message, Complete):
            return self._complete(message)
        return b"".join(map(self._of_chunk, _parts(message)))

    def _of_chunk(self, chunk: Chunk) -> bytes:
        if isinstance(chunk, Token):
            return self._delta({"content": chunk.text})
        if isinstance(chunk, Reasoning):
            return self._delta({"reasoning_content": chunk.text})
        if isinstance(chunk, ToolCall):
            return self._tool_call(chunk)
        if is_restart(chunk) and self._has_begun:
            error = RestartedStreamError("the answer began again after a part of it was sent")
            return self._failed(failed(error))
        return b""

    def _tool_call(self, call: ToolCall) -> bytes:
        sent = self._arguments.get(call.index)
        self._arguments[call.index] = len(call.arguments)
        if sent is None:
            return self._delta({"tool_calls": [_call(call, call.arguments)]})
        more = call.arguments[sent:]
        if not more:
            return b""
        return self._delta({"tool_calls": [{"index": call.index, "function": {"arguments": more}}]})

    def _complete(self, message: Complete) -> bytes:
        if message.finish_reason == "cancelled":
            return self._failed(Failed(code="cancelled", message="the stream was cancelled"))
        events = [self._delta({}, message.finish_reason)]
        if self._with_usage:
            usage = _usage(message.usage, message.tokens)
            events.append(_event({**self._head, "choices": [], "usage": usage}))
        return b"".join([*events, b"data: [DONE]\n\n"])

    def _failed(self, message: Failed) -> bytes:
        self._has_failed = True
        return _event({"error": _error(message, status_of_message(message))})

    def _delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        if not self._has_begun:
            self._has_begun = True
            delta = {"role": "assistant", **delta}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        event = {**self._head, "choices": [choice]}
        return _event({**event, "usage": None} if self._with_usage else event)


def _parts(message: StreamChunk) -> tuple[Chunk, ...]:
    """The chunks of a message: joined text is one of text and one of reasoning at most."""
    chunk = message.chunk
    if not isinstance(chunk, Batch):
        return (chunk,)
    reasoning = "".join([part.text for part in chunk.chunks if isinstance(part, Reasoning)])
    parts: list[Chunk] = [Reasoning(reasoning)] if reasoning else []
    return (*parts, Token(chunk.text)) if chunk.text else tuple(parts)


def _event(value: object) -> bytes:
    return b"data: %b\n\n" % to_json(value)


def _call(call: ToolCall, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"index": call.index, "id": call.id, "type": "function", "function": function}


def _usage(usage: Usage | None, tokens: int) -> dict[str, Any]:
    read = 0 if usage is None else usage.input_tokens
    written = tokens if usage is None else usage.output_tokens
    counts: dict[str, Any] = {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }
    if usage is not None and usage.cached_tokens is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage is not None and usage.reasoning_tokens is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return counts
