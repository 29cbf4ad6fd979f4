"""Requests of Anthropic's Messages API.

Sources: https://docs.anthropic.com/en/api/messages,
https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs.
"""

from __future__ import annotations

import base64
from itertools import groupby
from typing import Any, Final

import msgspec

from rxllm.chunks import ToolCall
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import ImagePart, Message, Part, ReasoningPart, TextPart, Tool
from rxllm.models.remote.history import Target, input_of, messages_for
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.sent_schema import sent_schema
from rxllm.models.remote.wire import check_options
from rxllm.requests import Request

__all__ = ["COUNTED_FIELDS", "MAX_TOKENS", "anthropic_body", "trailing_space"]

COUNTED_FIELDS: Final[tuple[str, ...]] = (
    *("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"),
)
"""The fields of a request that counts tokens; https://docs.anthropic.com/en/api/messages-count-tokens."""

MAX_TOKENS: Final = 4096
"""Used if the request has no `max_tokens`, since this API requires one."""

_LEAST_BUDGET: Final = 1024
_BUDGETS: Final = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 24_576,
    "max": 24_576,  # with MAX_TOKENS, as much as every model has
}
"""Thinking tokens, for models that take a budget."""

_EFFORTS: Final = {"minimal": "low"}
_THINKING: Final = ("thinking", "redacted_thinking")
_CACHED: Final = {"type": "ephemeral"}
_REFUSED: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
)
"""The keywords of a JSON Schema that this API refuses; `minItems` it takes only as 0 or 1."""

_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}


def anthropic_body(request: Request, model: str, provider: Provider) -> dict[str, Any]:
    """Return the body of a streamed message. Fields in `extra` override the others.

    System messages at the beginning become `system`, and consecutive tool results become one user
    message. White space at the end of a partial answer is left out, since the API rejects it. With
    `cache`, the prompt is cached up to the system messages, and up to its end.

    Raises:
        BadRequestError: the request asks for something that this API doesn't support.
    """
    check_options(request, model, provider)
    messages = messages_for(Target(provider.name, model), request.messages)
    system: list[dict[str, Any]] = []
    while messages and messages[0].role == "system":
        system += _blocks(messages.pop(0))
    if request.cache and system:
        system[-1] |= {"cache_control": _CACHED}
    if not messages:
        raise BadRequestError("anthropic requires a message besides the system messages")
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": MAX_TOKENS if request.max_tokens is None else request.max_tokens,
        "messages": _turns(messages),
        "stream": True,
        **provider.body,
    }
    options = {
        "system": system or None,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop_sequences": request.stop or None,
        "output_config": _output_config(request, provider),
        **_thinking_options(request, provider),
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request),
        "cache_control": _CACHED if request.cache else None,
    }
    body |= {name: value for name, value in options.items() if value is not None}
    return body | request.extra


def trailing_space(request: Request) -> str:
    """Return the white space at the end of the partial answer that a request continues."""
    last = request.messages[-1]
    if last.role != "assistant" or last.calls or not last.text.strip():
        return ""
    return last.text[len(last.text.rstrip()) :]


def _turns(messages: list[Message]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    if messages[-1].role == "assistant":
        messages = [*messages[:-1], _stripped(messages[-1])]
    for is_tool, group in groupby(messages, lambda message: message.role == "tool"):
        if is_tool:
            turns.append({"role": "user", "content": [_tool_result(each) for each in group]})
        else:
            turns += [_turn(message) for message in group]
    return [turn for turn in turns if turn["content"]]


def _turn(message: Message) -> dict[str, Any]:
    if message.role == "system":
        raise UnsupportedError("anthropic supports system messages only at the beginning")
    if message.name is not None:
        raise UnsupportedError("anthropic doesn't support the name of a message")
    if isinstance(message.content, str) and not message.tool_calls:
        return {"role": message.role, "content": message.content}
    blocks = _blocks(message)
    while blocks and blocks[-1]["type"] in _THINKING:  # of an answer that was cut off
        blocks.pop()
    return {"role": message.role, "content": blocks}


def _stripped(message: Message) -> Message:
    """Return a partial answer without the white space, and the thinking, at its end."""
    if isinstance(message.content, str):
        return msgspec.structs.replace(message, content=message.content.rstrip())
    parts = list(message.content)
    while not message.tool_calls and parts:
        match parts.pop():
            case TextPart(text=text) if text.strip():
                parts.append(TextPart(text.rstrip()))
                break
            case TextPart() | ReasoningPart():
                continue
            case other:
                parts.append(other)
                break
    return msgspec.structs.replace(message, content=tuple(parts))


def _blocks(message: Message) -> list[dict[str, Any]]:
    """Return the blocks of a message; thinking without a state of this API is left out."""
    blocks = [
        _block(part)
        for part in message.parts
        if not isinstance(part, TextPart) or part.text.strip()
    ]
    return [block for block in blocks if block is not None]


def _block(part: Part) -> dict[str, Any] | None:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, ToolCall):
        return _tool_use(part)
    if isinstance(part, ReasoningPart):
        return _thinking(part)
    kind = "image" if isinstance(part, ImagePart) else "document"
    if part.data is None:
        return {"type": kind, "source": {"type": "url", "url": part.url}}
    if kind == "document" and part.media_type != "application/pdf":
        raise UnsupportedError(f"anthropic doesn't support files of type {part.media_type}")
    data = base64.b64encode(part.data).decode()
    return {"type": kind, "source": {"type": "base64", "media_type": part.media_type, "data": data}}


def _thinking(part: ReasoningPart) -> dict[str, Any] | None:
    fields: dict[str, Any] = part.state.data if part.state is not None else {}
    data, signature = fields.get("data"), fields.get("signature")
    if fields.get("type") == "redacted_thinking":
        return {"type": "redacted_thinking", "data": data} if _is_filled(data) else None
    if not _is_filled(signature):
        return None
    return {"type": "thinking", "thinking": part.text, "signature": signature}


def _is_filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _tool_use(call: ToolCall) -> dict[str, Any]:
    given = input_of(call)
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given}


def _tool_result(message: Message) -> dict[str, Any]:
    if message.tool_call_id is None:
        raise BadRequestError("a tool message must have a tool_call_id")
    result = {"type": "tool_result", "tool_use_id": message.tool_call_id}
    return result | {"content": _blocks(message)} | ({"is_error": True} if message.is_error else {})


def _tool(tool: Tool) -> dict[str, Any]:
    schema = tool.parameters or {"type": "object", "properties": {}}
    written: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if tool.description:
        written["description"] = tool.description
    return written


def _tool_choice(request: Request) -> dict[str, Any] | None:
    choice = request.tool_choice
    if not request.tools or (choice is None and request.parallel_tool_calls is None):
        return None
    written: dict[str, Any] = {"type": _CHOICES.get(choice or "auto", "tool")}
    if written["type"] == "tool":
        written["name"] = choice
    if request.parallel_tool_calls is not None and choice != "none":
        written["disable_parallel_tool_use"] = not request.parallel_tool_calls
    return written


def _output_config(request: Request, provider: Provider) -> dict[str, Any] | None:
    asked = request.response_format
    if asked == "json":
        raise UnsupportedError(
            "anthropic supports JSON only with a schema: pass one as response_format",
            "response_format",
        )
    config: dict[str, Any] = {}
    if asked is not None:
        config["format"] = {"type": "json_schema", "schema": sent_schema(asked, _REFUSED)}
    if request.reasoning not in (None, "none") and not provider.prefill:
        config["effort"] = _EFFORTS.get(request.reasoning or "", request.reasoning)
    return config or None


def _check_thinking(request: Request) -> None:
    """Check what the API refuses while the model thinks.

    Source: https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking.
    """
    refused = {
        "temperature": request.temperature is not None,
        "top_k": request.top_k is not None,
        "tool_choice": request.tool_choice not in (None, "auto", "none"),
        "messages": request.messages[-1].role == "assistant",
    }
    for field, is_refused in refused.items():
        if is_refused:
            what = "a partial answer" if field == "messages" else field
            raise UnsupportedError(f"anthropic doesn't support {what} with reasoning", field)


def _thinking_options(request: Request, provider: Provider) -> dict[str, Any]:
    """Return the options of thinking: models that think by effort are those without prefill."""
    effort = request.reasoning
    if effort is None or (effort == "none" and not provider.reasoning):
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    _check_thinking(request)
    if not provider.prefill:
        return {"thinking": {"type": "adaptive"}}
    limit = request.max_tokens or MAX_TOKENS + _BUDGETS[effort]
    if limit <= _LEAST_BUDGET:
        raise UnsupportedError(
            f"reasoning requires max_tokens above {_LEAST_BUDGET}, got {limit}", "max_tokens"
        )
    budget = max(_LEAST_BUDGET, min(_BUDGETS[effort], limit // 2))
    return {"thinking": {"type": "enabled", "budget_tokens": budget}, "max_tokens": limit}
