"""Requests of Gemini's own API.

Sources: https://ai.google.dev/api/generate-content,
https://ai.google.dev/gemini-api/docs/function-calling, https://ai.google.dev/gemini-api/docs/thinking.
"""

from __future__ import annotations

import base64
from itertools import groupby
from typing import Any, Final

import msgspec

from rxllm.chunks import ToolCall
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import FilePart, ImagePart, Message, Part, ReasoningPart, Tool
from rxllm.models.remote.coercion import as_object
from rxllm.models.remote.history import Target, input_of, messages_for
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.wire import check_options
from rxllm.requests import ReasoningEffort, Request

__all__ = ["gemini_body"]

_BUDGETS: Final = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576}
"""Thinking tokens, for the models before Gemini 3, which take a budget."""

_RAN: Final = ("executableCode", "codeExecutionResult", "thoughtSignature")
"""The fields of parts that come from tools of the provider."""

_MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def gemini_body(request: Request, model: str, provider: Provider) -> dict[str, Any]:
    """Return the body of a streamed answer. Fields in `extra` override the others.

    System messages at the beginning become `systemInstruction`, and consecutive results of tools
    one message. Models that can't stop thinking think as little as they can with
    `reasoning="none"`.

    Raises:
        BadRequestError: the request asks for something that this API doesn't support.
    """
    check_options(request, model, provider)
    messages = messages_for(Target(provider.name, model), request.messages)
    system: list[dict[str, Any]] = []
    while messages and messages[0].role == "system":
        system += _parts(messages.pop(0))
    if not messages:
        raise BadRequestError("gemini requires a message besides the system messages")
    body = {
        "contents": _contents(messages),
        "systemInstruction": {"parts": system} if system else None,
        "generationConfig": _config(request, model) or None,
        "tools": _tools(request.tools),
        "toolConfig": _tool_config(request),
    }
    return {name: value for name, value in body.items() if value is not None} | request.extra


def _contents(messages: list[Message]) -> list[dict[str, Any]]:
    calls = {call.id: call for message in messages for call in message.calls}
    contents: list[dict[str, Any]] = []
    for is_tool, group in groupby(messages, lambda message: message.role == "tool"):
        if is_tool:
            parts = [_result(message, calls) for message in group]
            contents.append({"role": "user", "parts": parts})
            continue
        for message in group:
            if message.role == "system":
                raise UnsupportedError("gemini supports system messages only at the beginning")
            if message.name is not None:
                raise UnsupportedError("gemini doesn't support the name of a message")
            role = "model" if message.role == "assistant" else "user"
            contents.append({"role": role, "parts": _parts(message)})
    return [content for content in contents if content["parts"]]


def _parts(message: Message) -> list[dict[str, Any]]:
    return [written for part in message.parts if (written := _part(part)) is not None]


def _part(part: Part) -> dict[str, Any] | None:
    if isinstance(part, ImagePart | FilePart):
        return _media(part)
    data: dict[str, Any] = part.state.data if part.state is not None else {}
    signature = {"thoughtSignature": data["signature"]} if "signature" in data else {}
    if isinstance(part, ToolCall):
        return {"functionCall": _call(part, data), **signature}
    if isinstance(part, ReasoningPart):
        ran = {name: value for name, value in as_object(data.get("part")).items() if name in _RAN}
        thought = {"text": part.text, "thought": True, **signature}
        return ran or (thought if signature else None)
    return {"text": part.text, **signature} if part.text or signature else None


def _media(part: ImagePart | FilePart) -> dict[str, Any]:
    if part.data is None:
        kind = {"mimeType": part.media_type} if part.media_type else {}
        return {"fileData": {"fileUri": part.url, **kind}}
    data = base64.b64encode(part.data).decode()
    return {"inlineData": {"mimeType": part.media_type, "data": data}}


def _call(call: ToolCall, data: dict[str, Any]) -> dict[str, Any]:
    given = input_of(call)
    return {"name": call.name, "args": given, **({"id": data["id"]} if "id" in data else {})}


def _result(message: Message, calls: dict[str, ToolCall]) -> dict[str, Any]:
    call = calls.get(message.tool_call_id or "")
    if call is None:
        raise BadRequestError(
            "a tool message must have the tool_call_id of a call in an earlier message"
        )
    if any(isinstance(part, ImagePart | FilePart) for part in message.parts):
        raise UnsupportedError("gemini takes only text as the result of a tool", "messages")
    text = message.text
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    is_object = isinstance(value, dict) and not message.is_error
    response = value if is_object else {"error" if message.is_error else "result": value}
    data = call.state.data if call.state is not None else {}
    given_id = {"id": data["id"]} if "id" in data else {}
    return {"functionResponse": {"name": call.name, "response": response, **given_id}}


def _config(request: Request, model: str) -> dict[str, Any]:
    asked = request.response_format
    config = {
        "maxOutputTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "seed": request.seed,
        "frequencyPenalty": request.frequency_penalty,
        "presencePenalty": request.presence_penalty,
        "stopSequences": request.stop or None,
        "responseMimeType": None if asked is None else "application/json",
        "responseJsonSchema": asked if isinstance(asked, dict) else None,
        "responseLogprobs": request.confidence or request.top_logprobs is not None or None,
        "logprobs": request.top_logprobs or None,
        "thinkingConfig": None
        if request.reasoning is None
        else _thinking(request.reasoning, model),
    }
    return {name: value for name, value in config.items() if value is not None}


def _thinking(effort: ReasoningEffort, model: str) -> dict[str, Any]:
    if model.startswith(("gemini-2", "gemini-1")):
        return {"includeThoughts": effort != "none", "thinkingBudget": _BUDGETS[effort]}
    level = "minimal" if effort == "none" else effort
    return {"includeThoughts": effort != "none", "thinkingLevel": level}


def _tools(tools: tuple[Tool, ...]) -> list[dict[str, Any]] | None:
    if not tools:
        return None
    declared = [
        {
            "name": tool.name,
            **({"description": tool.description} if tool.description else {}),
            **({"parametersJsonSchema": tool.parameters} if tool.parameters else {}),
        }
        for tool in tools
    ]
    return [{"functionDeclarations": declared}]


def _tool_config(request: Request) -> dict[str, Any] | None:
    choice = request.tool_choice
    if choice is None:
        return None
    if choice in _MODES:
        return {"functionCallingConfig": {"mode": _MODES[choice]}}
    return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [choice]}}
