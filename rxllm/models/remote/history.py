"""Which parts of a conversation are sent to a model."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from rxllm.chunks import ProviderState, ToolCall
from rxllm.errors import BadRequestError
from rxllm.messages import FilePart, ImagePart, Message, Part, ReasoningPart, TextPart
from rxllm.models.remote.coercion import as_optional_text, is_json

__all__ = ["Target", "input_of", "messages_for"]

_Part = TypeVar("_Part", bound=Part)


class Target(msgspec.Struct, frozen=True):
    """The model that a request is sent to: the provider's name, and its name for the model."""

    provider: str
    model: str

    def state(self, data: object) -> ProviderState:
        """Return a state that only this model is sent."""
        return ProviderState(self.provider, self.model, data)

    def made(self, state: ProviderState) -> bool:
        """Return whether a state comes from this model: its data is an object then."""
        origin = (state.provider, state.model)
        return origin == (self.provider, self.model) and isinstance(state.data, dict)


def input_of(call: ToolCall) -> dict[str, Any]:
    """Return the arguments of a call, decoded.

    Raises:
        BadRequestError: they aren't a JSON object.
    """
    text = call.arguments.strip() or "{}"
    try:
        given = msgspec.json.decode(text)
    except msgspec.DecodeError:
        if not is_json(text):
            what = f"the arguments of tool call {call.id} aren't valid JSON"
            raise BadRequestError(what) from None
        given = _without_surrogates(json.loads(text))
    if not isinstance(given, dict):
        raise BadRequestError(f"the arguments of tool call {call.id} aren't a JSON object")
    return given


def _without_surrogates(value: Any) -> Any:
    """Replace lone surrogates, which a model may have written as escapes."""
    return json.loads(as_optional_text(json.dumps(value, ensure_ascii=False)) or "null")


def messages_for(target: Target, messages: tuple[Message, ...]) -> list[Message]:
    """Return the messages to send: without blank ones, and without the states of other models.

    Reasoning is sent only to the model that made it, with its state. Blank texts, and messages that
    have nothing else, are left out, since APIs reject them; a result of a tool may be blank.

    Raises:
        BadRequestError: nothing is left.
    """
    kept = [_cleaned(target, message) for message in messages]
    sent = [message for message in kept if message.parts or message.role == "tool"]
    if not sent:
        raise BadRequestError("every message is blank", "messages")
    return sent


def _cleaned(target: Target, message: Message) -> Message:
    if isinstance(message.content, str):
        content: str | tuple[Part, ...] = message.content if message.content.strip() else ""
    else:
        parts = [_own(target, part) for part in message.content]
        content = tuple([part for part in parts if _says_something(part)])
    calls = tuple([_own(target, call) for call in message.tool_calls])
    return msgspec.structs.replace(message, content=content, tool_calls=calls)


def _own(target: Target, part: _Part) -> _Part:
    if isinstance(part, ImagePart | FilePart) or part.state is None or target.made(part.state):
        return part
    return msgspec.structs.replace(part, state=None)


def _says_something(part: Part) -> bool:
    if isinstance(part, ReasoningPart):
        return part.state is not None
    return not isinstance(part, TextPart) or bool(part.text.strip()) or part.state is not None
