"""Requests of OpenAI's chat completions.

Source: https://platform.openai.com/docs/api-reference/chat/create.
"""

from __future__ import annotations

import base64
import mimetypes
from typing import Any, Final

from rxllm.chunks import ToolCall
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import FilePart, ImagePart, Message, TextPart, Tool
from rxllm.models.remote.history import Target, input_of, messages_for
from rxllm.models.remote.openai_states import returned_fields
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.sent_schema import is_closed, sent_schema
from rxllm.models.remote.wire import check_options
from rxllm.requests import Request

__all__ = ["REFUSED", "data_url", "openai_body", "openai_tool"]

REFUSED: Final = ("minLength", "maxLength", "uniqueItems")
"""The keywords of a JSON Schema that this API refuses in its strict mode, of those of a type; see
https://platform.openai.com/docs/guides/structured-outputs."""

_AUDIO: Final = {"audio/mpeg": "mp3", "audio/x-wav": "wav"}


def openai_body(request: Request, model: str, provider: Provider) -> dict[str, Any]:
    """Return the body of a streamed chat completion. Fields in `extra` override the others.

    Raises:
        BadRequestError: the request asks for something that the provider doesn't support.
    """
    check_options(request, model, provider)
    body = {
        "model": model,
        "messages": [
            _message(message)
            for message in messages_for(Target(provider.name, model), request.messages)
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        **provider.body,
        **(provider.prefill_fields if request.messages[-1].role == "assistant" else {}),
    }
    options = {
        provider.length_field: request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        **{theirs: getattr(request, ours) for ours, theirs in provider.option_names.items()},
        "stop": request.stop or None,
        "response_format": _response_format(request),
        "logprobs": request.confidence or request.top_logprobs is not None or None,
        "top_logprobs": request.top_logprobs,
        "tools": [openai_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request),
    }
    if request.reasoning == "none" and not provider.reasoning:  # it needn't be told
        options.pop(provider.option_names.get("reasoning", ""), None)
    if not request.tools:
        options.pop("parallel_tool_calls", None)
    if provider.cache_key is not None and isinstance(request.cache, str):
        options[provider.cache_key] = request.cache
    return {n: v for n, v in (body | options).items() if v is not None} | request.extra


def data_url(part: ImagePart | FilePart) -> str:
    """Return the URL of an image or a file, or a data URL with its bytes."""
    if part.data is None:
        return part.url or ""
    return f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"


def _message(message: Message) -> dict[str, Any]:
    content: Any = message.content
    if message.role == "assistant":
        if any(isinstance(part, ImagePart | FilePart) for part in message.parts):
            raise BadRequestError("an assistant message can't have images or files", "messages")
        content = message.text  # not all servers read parts here
    elif not isinstance(content, str):
        content = [
            _part(part) for part in content if isinstance(part, TextPart | ImagePart | FilePart)
        ]
    written: dict[str, Any] = {"role": message.role, "content": content}
    if message.name is not None:
        written["name"] = message.name
    if message.tool_call_id is not None:
        written["tool_call_id"] = message.tool_call_id
    if message.calls:
        written["content"] = content or None
        written["tool_calls"] = [_call(call) for call in message.calls]
    return written | returned_fields(message)


def _call(call: ToolCall) -> dict[str, Any]:
    data = call.state.data if call.state is not None else {}
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": _arguments(call)},
        **({"extra_content": data["extra_content"]} if "extra_content" in data else {}),
    }


def _arguments(call: ToolCall) -> str:
    input_of(call)  # servers refuse what isn't JSON
    return call.arguments or "{}"


def _part(part: TextPart | ImagePart | FilePart) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": data_url(part)}}
    if isinstance(part, FilePart):
        return _file(part)
    return {"type": "text", "text": part.text}


def _file(part: FilePart) -> dict[str, Any]:
    if part.data is None:
        raise UnsupportedError("chat completions take the data of a file, not its URL", "messages")
    kind = part.media_type or ""
    if kind.startswith("audio/"):
        data = base64.b64encode(part.data).decode()
        form = _AUDIO.get(kind, kind.removeprefix("audio/"))
        return {"type": "input_audio", "input_audio": {"data": data, "format": form}}
    name = part.name or "file" + (mimetypes.guess_extension(kind) or "")
    return {"type": "file", "file": {"filename": name, "file_data": data_url(part)}}


def openai_tool(tool: Tool) -> dict[str, Any]:
    """Return the declaration of a tool."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = tool.parameters
    return {"type": "function", "function": function}


def _tool_choice(request: Request) -> Any:
    choice = request.tool_choice
    if choice is None or choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "function": {"name": choice}}


def _response_format(request: Request) -> dict[str, Any] | None:
    asked = request.response_format
    if asked is None:
        return None
    if asked == "json":
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {
            "name": "answer",
            "schema": sent_schema(asked, REFUSED),
            "strict": is_closed(asked),
        },
    }
