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
from rxllm.models.remote.sent_schema import sent_schema
from rxllm.models.remote.wire import check_options
from rxllm.requests import ReasoningEffort, Request

__all__ = ["gemini_body"]

_BUDGETS: Final = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576}
"""Thinking tokens, for the models before Gemini 3, which take a budget."""

_MOST: Final = ("xhigh", "max")

_LEAST_OF_PRO: Final = 128
"""The Pro models can't stop thinking; https://ai.google.dev/gemini-api/docs/thinking."""

_UNSIGNED: Final = "skip_thought_signature_validator"
"""In place of the signature of a call that another model has made, which Gemini 3 would refuse.

Source: https://ai.google.dev/gemini-api/docs/thought-signatures.
"""

_RAN: Final = ("executableCode", "codeExecutionResult", "thoughtSignature")
"""The fields of parts that come from tools of the provider."""

_MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def gemini_body(request: Request, model: str, provider: Provider) -> dict[str, Any]:
    """Return the body of a streamed answer. Fields in `extra` override the others.

    System messages at the beginning become `systemInstruction`, and consecutive messages of one
    role, or results of tools, one message. Models that can't stop thinking think as little as they
    can with `reasoning="none"`.

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
        "contents": _contents(messages, model),
        "systemInstruction": {"parts": system} if system else None,
        "generationConfig": _config(request, model, provider) or None,
        "tools": _tools(request.tools),
        "toolConfig": _tool_config(request),
    }
    return {name: value for name, value in body.items() if value is not None} | request.extra


def _contents(messages: list[Message], model: str) -> list[dict[str, Any]]:
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
    merged = _merged([content for content in contents if content["parts"]])
    if model.startswith("gemini-3"):
        _sign(merged)
    return merged


def _merged(contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join consecutive contents of one role: two turns of the model in a row may be refused."""
    merged: list[dict[str, Any]] = []
    for (role, _), group in groupby(contents, lambda each: (each["role"], _is_result(each))):
        merged.append({"role": role, "parts": [part for each in group for part in each["parts"]]})
    return merged


def _is_result(content: dict[str, Any]) -> bool:
    return any("functionResponse" in part for part in content["parts"])


def _sign(contents: list[dict[str, Any]]) -> None:
    """Sign the first call of each step since the last question, if it isn't signed."""
    for content in reversed(contents):
        if content["role"] == "user" and not _is_result(content):
            break
        call = next((part for part in content["parts"] if "functionCall" in part), None)
        if call is not None:
            call.setdefault("thoughtSignature", _UNSIGNED)


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


def _config(request: Request, model: str, provider: Provider) -> dict[str, Any]:
    asked, effort = request.response_format, request.reasoning
    if effort == "none" and not provider.reasoning:  # it needn't be told
        effort = None
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
        "responseJsonSchema": sent_schema(asked) if isinstance(asked, dict) else None,
        "responseLogprobs": request.confidence or request.top_logprobs is not None or None,
        "logprobs": request.top_logprobs or None,
        "thinkingConfig": None if effort is None else _thinking(effort, model),
    }
    return {name: value for name, value in config.items() if value is not None}


def _thinking(effort: ReasoningEffort, model: str) -> dict[str, Any]:
    is_pro = "-pro" in model
    effort = "high" if effort in _MOST else effort
    if model.startswith(("gemini-2", "gemini-1")):
        budget = max(_BUDGETS[effort], _LEAST_OF_PRO if is_pro else 0)
        return {"includeThoughts": effort != "none", "thinkingBudget": budget}
    level = ("low" if is_pro else "minimal") if effort in ("none", "minimal") else effort
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
