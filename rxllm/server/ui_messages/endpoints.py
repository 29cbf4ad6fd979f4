"""`/api/chat`, for the AI SDK's `useChat` and what is built on it.

The same path serves clients of Ollama: a body with a `trigger`, or whose messages have `parts`, is
one of the AI SDK.

Source: https://ai-sdk.dev/docs/ai-sdk-ui/transport and .../chatbot-resume-streams.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from uuid import uuid4

import msgspec
from aiohttp import web

from rxllm.server.app_keys import LIMITS, MODELS, READERS, STREAMS
from rxllm.server.asked import AskedStream
from rxllm.server.client import CLIENT
from rxllm.server.facade import stream_answer
from rxllm.server.failures import decoded, read_body, refusal
from rxllm.server.ollama.endpoints import chat as ollama_chat
from rxllm.server.ownership import visible
from rxllm.server.ui_messages.messages import ChatRequest
from rxllm.web.encoding import encode_each
from rxllm.web.frame_sender import send_frames
from rxllm.web.ui_messages.writer import UI_MESSAGES_WIRE, UIMessageWriter

__all__ = ["routes"]

_body = msgspec.json.Decoder(ChatRequest)
_fields = msgspec.json.Decoder(dict[str, Any])


async def chat(request: web.Request) -> web.StreamResponse:
    """`POST /api/chat`: the answer as a UI message stream, or in Ollama's format.

    When the client has left, the stream goes on for a while, so that it can be resumed.
    """
    data = await read_body(request, request.app[LIMITS])
    fields = decoded(_fields, data)
    if not _is_ui(fields):
        return await ollama_chat(request, data)
    body = decoded(_body, data)
    options = body.as_options(fields)
    catalogue = request.app[MODELS]
    catalogue.find(options.model)
    asked = catalogue.request(body.as_messages(), options, tools=body.as_tools())
    stream_id = f"{_prefix(body.id)}{uuid4().hex}"
    message_id, model = body.answer_id or stream_id, options.model or catalogue.default
    with request.app[READERS].one_more():
        return await stream_answer(
            request,
            asked,
            options,
            stream_id=stream_id,
            wire=UI_MESSAGES_WIRE,
            writer=UIMessageWriter(
                stream_id, model=model, message_id=message_id, call_ids=body.call_ids
            ),
            refuse=refusal,
            name_of=lambda field: field,
            grace=request.app[LIMITS].grace,
            approvals=body.approvals,
            message_id=message_id,
            call_ids=body.call_ids,
        )


async def resume(request: web.Request) -> web.StreamResponse:
    """`GET /api/chat/{id}/stream`: the running answer of a chat, from its beginning; 204 if there
    is none."""
    running = await _running(request)
    if running is None:
        return web.Response(status=204)
    stream_id, model = running
    asked = AskedStream.decode(await request.app[STREAMS].asked(stream_id))
    writer = UIMessageWriter(
        stream_id,
        model=model,
        message_id=asked.message_id or stream_id,
        call_ids=asked.call_ids,
    )
    with request.app[READERS].one_more():
        return await send_frames(
            request,
            encode_each(await request.app[STREAMS].read(stream_id), writer),
            wire=UI_MESSAGES_WIRE,
            headers={"X-Stream-Id": stream_id},
            max_stall=request.app[LIMITS].reader_stall,
        )


async def stop(request: web.Request) -> web.Response:
    """`DELETE /api/chat/{id}/stream`: stop the running answer of a chat.

    The client's own `stop()` only closes its connection, which a stream outlives for a while.
    """
    running = await _running(request)
    if running is not None:
        await request.app[STREAMS].cancel(running[0])
    return web.Response(status=204)


routes: list[web.RouteDef] = [
    web.post("/api/chat", chat),
    web.get("/api/chat/{id:[^/]+}/stream", resume, allow_head=False),
    web.delete("/api/chat/{id:[^/]+}/stream", stop),
]


def _is_ui(fields: dict[str, Any]) -> bool:
    messages = fields.get("messages")
    listed = messages if isinstance(messages, list) else []
    return "trigger" in fields or any(isinstance(each, dict) and "parts" in each for each in listed)


def _prefix(chat_id: str | None) -> str:
    """Return the beginning of the ids of a chat's streams, among those of the client."""
    if chat_id is None:
        return "chat-"
    name = f"{CLIENT.get().owner} {chat_id}".encode("utf-8", "replace")
    return f"chat-{sha256(name).hexdigest()[:24]}-"


async def _running(request: web.Request) -> tuple[str, str | None] | None:
    """Return the newest live stream of a chat, and its model."""
    prefix = _prefix(request.match_info["id"])
    found = [
        (each.id, each.model) for each in await visible(request, prefix) if each.outcome is None
    ]
    return found[-1] if found else None
