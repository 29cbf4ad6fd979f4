"""Requests of OpenAI's chat completions.

Source: https://platform.openai.com/docs/api-reference/chat/create.
"""

from __future__ import annotations

import base64
from typing import Any

from rxllm.chunks import ToolCall
from rxllm.messages import ImagePart, Message, TextPart, Tool
from rxllm.models.remote.history import Target, messages_for
from rxllm.models.remote.openai_states import returned_fields
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.wire import check_options
from rxllm.requests import Request

__all__ = ["data_url", "openai_body"]


def openai_body(request: Request, model: str, provider: Provider) -> dict[str, Any]:
    """Return the body of a streamed chat completion. Fields in `extra` override the others.

    Raises:
        BadRequestError: the request asks for something that the provider doesn't support.
    """
    check_options(request, model, provider)
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            _message(message)
            for message in messages_for(Target(provider.name, model), request.messages)
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        **provider.body,
    }
    options = {
        provider.length_field: request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        **{theirs: getattr(request, ours) for ours, theirs in provider.option_names.items()},
        "stop": request.stop or None,
        "response_format": _response_format(request),
        "logprobs": request.confidence or None,
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request),
    }
    if provider.cache_key is not None and isinstance(request.cache, str):
        options[provider.cache_key] = request.cache
    body |= {name: value for name, value in options.items() if value is not None}
    return body | request.extra


def data_url(image: ImagePart) -> str:
    """Return the URL of the image, or a data URL with its bytes."""
    if image.data is None:
        return image.url or ""
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


def _message(message: Message) -> dict[str, Any]:
    content: Any = message.content
    if message.role == "assistant":
        content = message.text  # not all servers read parts here
    elif not isinstance(content, str):
        content = [_part(part) for part in content if isinstance(part, TextPart | ImagePart)]
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
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
        **(call.state.data if call.state is not None else {}),
    }


def _part(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": data_url(part)}}
    return {"type": "text", "text": part.text}


def _tool(tool: Tool) -> dict[str, Any]:
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
        "json_schema": {"name": "answer", "schema": asked, "strict": True},
    }
