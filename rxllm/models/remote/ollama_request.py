"""Requests of Ollama's own API.

Source: https://docs.ollama.com/api/chat.
"""

from __future__ import annotations

import base64
from typing import Any, Final

from rxllm.chunks import ToolCall
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import ImagePart, Message, ReasoningPart
from rxllm.models.remote.history import Target, input_of, messages_for
from rxllm.models.remote.openai_request import openai_tool
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.sent_schema import sent_schema
from rxllm.models.remote.wire import check_options
from rxllm.requests import Request

__all__ = ["ollama_body"]

_LEVELS: Final = {"minimal": "low", "xhigh": "high", "max": "high"}
"""What this API has in place of some levels of reasoning."""


def ollama_body(request: Request, model: str, provider: Provider) -> dict[str, Any]:
    """Return the body of a streamed answer. Fields in `extra` override the others.

    Raises:
        BadRequestError: the request asks for something that this API doesn't support.
    """
    check_options(request, model, provider)
    if request.tool_choice not in (None, "auto", "none"):
        raise UnsupportedError("ollama can't be made to call a tool", "tool_choice")
    messages = messages_for(Target(provider.name, model), request.messages)
    names = {call.id: call.name for message in messages for call in message.calls}
    asked = request.response_format
    options = {
        "num_predict": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        **{theirs: getattr(request, ours) for ours, theirs in provider.option_names.items()},
        "stop": request.stop or None,
    }
    del options["think"]
    options = {name: value for name, value in options.items() if value is not None}
    tools = () if request.tool_choice == "none" else request.tools
    body = {
        "model": model,
        "messages": [_message(message, names) for message in messages],
        "stream": True,
        "think": _think(request),
        "format": sent_schema(asked) if isinstance(asked, dict) else asked,
        "options": options or None,
        "tools": [openai_tool(tool) for tool in tools] or None,
        "logprobs": request.confidence or request.top_logprobs is not None or None,
        "top_logprobs": request.top_logprobs,
    }
    return {name: value for name, value in body.items() if value is not None} | request.extra


def _think(request: Request) -> bool | str | None:
    if request.reasoning is None:
        return None
    if request.reasoning == "none":
        return False
    return _LEVELS.get(request.reasoning, request.reasoning)


def _message(message: Message, names: dict[str, str]) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role, "content": message.text}
    images = [_image(part) for part in message.parts if isinstance(part, ImagePart)]
    thoughts = [part.text for part in message.parts if isinstance(part, ReasoningPart)]
    if message.role == "tool":
        if message.tool_call_id is None:
            raise BadRequestError("a tool message must have a tool_call_id")
        written["tool_name"] = names.get(message.tool_call_id, message.tool_call_id)
    if images:
        written["images"] = images
    if thoughts:
        written["thinking"] = "".join(thoughts)
    if message.calls:
        written["tool_calls"] = [_call(call) for call in message.calls]
    return written


def _image(part: ImagePart) -> str:
    if part.data is None:
        raise UnsupportedError("ollama takes the data of an image, not its URL", "messages")
    return base64.b64encode(part.data).decode()


def _call(call: ToolCall) -> dict[str, Any]:
    given = input_of(call)
    return {"function": {"name": call.name, "arguments": given}}
