"""Messages and tools as chat templates read them, which is as OpenAI's chat completions have them.

See https://huggingface.co/docs/transformers/chat_templating.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeAlias

from rxllm.chunks import ToolCall
from rxllm.messages import Message, Tool

__all__ = ["ArgumentsAs", "Change", "as_mapping", "as_tool"]

Change: TypeAlias = Callable[[str], str]
"""Applied to each text before the template gets it."""

ArgumentsAs: TypeAlias = Literal["object", "text"]
"""Whether a template reads the arguments of a call as an object or as JSON text."""

_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")


def as_tool(tool: Tool, change: Change) -> dict[str, Any]:
    """Return the definition of a tool."""
    parameters = tool.parameters or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    changed: dict[str, Any] = _changed({"type": "function", "function": function}, change)
    return changed


def as_mapping(
    message: Message, earlier: Iterable[Message], arguments: ArgumentsAs, change: Change
) -> dict[str, Any]:
    """Return a message.

    Args:
        message: the message.
        earlier: the messages before it, with the calls that a result belongs to.
        arguments: the form of the arguments of calls.
        change: changes each text.
    """
    fields: dict[str, Any] = {"role": message.role, "content": change(message.text)}
    if (name := _name_of(message, earlier)) is not None:
        fields["name"] = change(name)
    if message.tool_call_id is not None:
        fields["tool_call_id"] = _short_id(message.tool_call_id)
    if message.calls:
        fields["tool_calls"] = [_as_call(call, arguments, change) for call in message.calls]
    return fields


def _name_of(message: Message, earlier: Iterable[Message]) -> str | None:
    if message.name is not None or message.role != "tool":
        return message.name
    calls = [call for each in earlier for call in each.calls if call.id == message.tool_call_id]
    return calls[-1].name if calls else None


def _as_call(call: ToolCall, arguments: ArgumentsAs, change: Change) -> dict[str, Any]:
    given: Any = _changed(_parsed(call.arguments), change)
    if arguments == "text":
        given = json.dumps(given, ensure_ascii=False)
    function = {"name": change(call.name), "arguments": given}
    return {"type": "function", "id": _short_id(call.id), "function": function}


def _parsed(arguments: str) -> dict[str, Any]:
    try:
        parsed = json.loads(arguments or "{}", strict=False)
    except (ValueError, RecursionError):
        parsed = arguments
    return parsed if isinstance(parsed, dict) else {"arguments": parsed}


def _short_id(given: str) -> str:
    """An id of nine letters and digits, as Mistral's templates demand."""
    if _ID.fullmatch(given):
        return given
    return hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()[:9]


def _changed(value: Any, change: Change) -> Any:
    """Return a JSON value with all of its texts changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(str(key)): _changed(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(each, change) for each in value]
    return value
