"""Requests of OpenAI's Responses API.

Source: https://platform.openai.com/docs/api-reference/responses/create.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rxllm.chunks import ToolCall
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import FilePart, ImagePart, Message, Part, ReasoningPart, TextPart, Tool
from rxllm.models.remote.coercion import as_object, as_text
from rxllm.models.remote.history import Target, input_of, messages_for
from rxllm.models.remote.openai_request import REFUSED, data_url
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.responses_calls import CUSTOM_CALL, FUNCTION_CALL
from rxllm.models.remote.sent_schema import is_closed, sent_schema
from rxllm.models.remote.wire import check_options
from rxllm.requests import Request

__all__ = ["responses_body"]

_OPTIONS: Final = {
    "reasoning": "reasoning",
    "parallel_tool_calls": "parallel_tool_calls",
    "verbosity": "verbosity",
}


def responses_body(request: Request, model: str, provider: Provider) -> dict[str, Any]:
    """Return the body of a streamed response. Fields in `extra` override the others.

    Nothing is stored at the provider (`store`), so reasoning is requested in its encrypted form,
    and comes back with the next request. The tools of the provider itself go into `extra`: its
    `tools` are added to those of the request.

    Raises:
        BadRequestError: the request asks for something that this API doesn't support.
    """
    options = {ours: name for ours, name in _OPTIONS.items() if ours in provider.option_names}
    check_options(request, model, msgspec.structs.replace(provider, option_names=options))
    if request.stop:
        raise UnsupportedError("the Responses API doesn't support stop: use ops.stop_on", "stop")
    messages = messages_for(Target(provider.name, model), request.messages)
    include = [
        *(["reasoning.encrypted_content"] if provider.reasoning else []),
        *(["message.output_text.logprobs"] if _wants_logprobs(request) else []),
    ]
    tools = _tools(request)
    body: dict[str, Any] = {
        "model": model,
        "input": _input_items(messages),
        "stream": True,
        "store": False,
        "include": include or None,
        "max_output_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_logprobs": request.top_logprobs,
        "text": _text(request),
        "reasoning": _reasoning(request, provider),
        "tool_choice": _tool_choice(request),
        "parallel_tool_calls": request.parallel_tool_calls if tools else None,
    }
    if provider.cache_key is not None and isinstance(request.cache, str):
        body[provider.cache_key] = request.cache
    sent = {name: value for name, value in body.items() if value is not None} | request.extra
    return sent | ({"tools": tools} if tools else {})


def _wants_logprobs(request: Request) -> bool:
    return request.confidence or request.top_logprobs is not None


def _input_items(messages: list[Message]) -> list[dict[str, Any]]:
    calls = [call for message in messages for call in message.calls]
    custom = {call.id for call in calls if _is_custom(call)}
    return [item for message in messages for item in _items(message, custom)]


def _is_custom(call: ToolCall) -> bool:
    return call.state is not None and as_object(call.state.data).get("type") == CUSTOM_CALL


def _items(message: Message, custom: set[str]) -> list[dict[str, Any]]:
    if message.name is not None:
        raise UnsupportedError("the Responses API doesn't support the name of a message")
    if message.role == "tool":
        if message.tool_call_id is None:
            raise BadRequestError("a tool message must have a tool_call_id")
        kind = CUSTOM_CALL if message.tool_call_id in custom else FUNCTION_CALL
        output = {"type": f"{kind}_output", "call_id": message.tool_call_id}
        return [output | {"output": _content(message)}]
    if message.role == "assistant":
        items = [item for part in message.parts if (item := _said(part)) is not None]
        while items and items[-1].get("type") == "reasoning":  # of an answer that was cut off
            items.pop()
        return items
    return [{"role": message.role, "content": _content(message)}]


def _said(part: Part) -> dict[str, Any] | None:
    """Return the item for a part of an answer."""
    if isinstance(part, ToolCall):
        given = input_of(part)
        call = {"call_id": part.id, "name": part.name}
        if _is_custom(part):
            return {"type": CUSTOM_CALL, **call, "input": as_text(as_object(given).get("input"))}
        return {"type": FUNCTION_CALL, **call, "arguments": part.arguments or "{}"}
    if isinstance(part, ReasoningPart):
        item = as_object(part.state.data.get("item") if part.state else None)
        kind = str(item.get("type"))
        return item if kind == "reasoning" or kind.endswith("_call") else None
    if not isinstance(part, TextPart):
        raise BadRequestError("an assistant message can't have images or files")
    if not part.text.strip():
        return None
    known = as_object(part.state.data.get("message") if part.state is not None else None)
    phase = {"phase": known["phase"]} if "phase" in known else {}
    return {"role": "assistant", "content": part.text, **phase}


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [_input(part) for part in message.content]


def _input(part: Part) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        return {"type": "input_image", "image_url": data_url(part), "detail": "auto"}
    if isinstance(part, FilePart):
        if part.data is None:
            return {"type": "input_file", "file_url": part.url}
        if part.media_type != "application/pdf":
            raise UnsupportedError(f"the Responses API doesn't support {part.media_type} files")
        name = part.name or "file.pdf"
        return {"type": "input_file", "filename": name, "file_data": data_url(part)}
    assert isinstance(part, TextPart)  # noqa: S101 - checked by `as_request`
    return {"type": "input_text", "text": part.text}


def _text(request: Request) -> dict[str, Any] | None:
    text: dict[str, Any] = {}
    asked = request.response_format
    if asked == "json":
        text["format"] = {"type": "json_object"}
    elif asked is not None:
        text["format"] = {
            "type": "json_schema",
            "name": "answer",
            "schema": sent_schema(asked, REFUSED),
            "strict": is_closed(asked),
        }
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    return text or None


def _reasoning(request: Request, provider: Provider) -> dict[str, Any] | None:
    if request.reasoning is None or (request.reasoning == "none" and not provider.reasoning):
        return None
    if request.reasoning == "none":
        return {"effort": "none"}
    return {"effort": request.reasoning, "summary": "auto"}


def _tools(request: Request) -> list[Any]:
    """Return the tools of the request, followed by those in `extra`."""
    given = request.extra.get("tools") or []
    added = given if isinstance(given, list | tuple) else [given]
    return [*map(_tool, request.tools), *added]


def _tool(tool: Tool) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    written = {"type": "function", "name": tool.name, "parameters": parameters, "strict": False}
    return written | ({"description": tool.description} if tool.description else {})


def _tool_choice(request: Request) -> Any:
    choice = request.tool_choice
    if choice is None or choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "name": choice}
