"""Requests of the AI SDK's `useChat`.

Source: the package `ai` 7.0, `ui-messages.ts` and `http-chat-transport.ts`. Fields that aren't
declared here are ignored; those of `Options` come from the `body` option of the client.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rxllm.chunks import ProviderState, ToolCall
from rxllm.messages import Message, Part, ReasoningPart, TextPart
from rxllm.server.data_urls import file_part
from rxllm.server.messages import Options
from rxllm.web.carried_states import carried_state
from rxllm.web.encoding import to_json
from rxllm.web.failures import InvalidMessageError
from rxllm.wire_names import EXTENSION

__all__ = ["ChatRequest"]


class _UIPart(msgspec.Struct, rename="camel"):
    type: str
    text: str | None = None
    url: str | None = None
    media_type: str | None = None
    filename: str | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    state: str | None = None
    input: Any = None
    output: Any = None
    error_text: str | None = None
    provider_metadata: dict[str, Any] | None = None
    call_provider_metadata: dict[str, Any] | None = None


class _UIMessage(msgspec.Struct):
    role: str
    parts: list[_UIPart]
    id: str | None = None


_UNANSWERED: Final = "it is not known whether this was done"
_ROLES: Final = ("system", "user", "assistant")
_OPTIONS: Final = Options.__struct_encode_fields__


class ChatRequest(msgspec.Struct, rename="camel"):
    """The body of `POST /api/chat`."""

    messages: list[_UIMessage]
    id: str | None = None
    trigger: str | None = None
    message_id: str | None = None

    @property
    def answer_id(self) -> str | None:
        """The id of the answer that the client already has: one that is generated again, or goes on
        after an approval. The `message_id` of a new message is that of the user's own."""
        if self.trigger == "regenerate-message":
            return self.message_id
        last = self.messages[-1] if self.messages else None
        return last.id if last is not None and last.role == "assistant" else None

    def as_messages(self) -> tuple[Message, ...]:
        """Return the conversation."""
        messages: list[Message] = []
        for place, message in enumerate(self.messages):
            field = f"messages[{place}]"
            if message.role not in _ROLES:
                raise InvalidMessageError(f"a role must be one of {', '.join(_ROLES)}", field)
            if message.role == "assistant":
                messages += _answers(message, field)
            else:
                parts = [part for each in message.parts if (part := _part(each, field)) is not None]
                messages.append(Message(message.role, _content(parts)))  # type: ignore[arg-type]
        return tuple(messages)

    @staticmethod
    def as_options(fields: dict[str, Any]) -> Options:
        """Return the options among the fields of the body."""
        given = {name: fields[name] for name in _OPTIONS if fields.get(name) is not None}
        try:
            return msgspec.convert(given, Options)
        except msgspec.ValidationError as error:
            raise InvalidMessageError(str(error)) from None


class _Answer:
    """A step of an answer: what was said, and the results of its calls."""

    def __init__(self) -> None:
        self.said: list[Part] = []
        self.results: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        if not self.said:
            return []
        return [Message("assistant", _content(self.said)), *self.results]


def _answers(message: _UIMessage, field: str) -> list[Message]:
    """Return the steps of an answer, each with the results of its calls."""
    answers = [_Answer()]
    for part in message.parts:
        answer = answers[-1]
        is_call = part.type.startswith("tool-") or part.type == "dynamic-tool"
        if part.type == "step-start" or (answer.results and not is_call):
            answer = _Answer()
            answers.append(answer)
        if is_call:
            _add_call(part, answer, field)
        elif (said := _part(part, field)) is not None:
            answer.said.append(said)
    return [each for answer in answers for each in answer.messages]


def _add_call(part: _UIPart, answer: _Answer, field: str) -> None:
    if part.state == "input-streaming":
        return  # it was cut off
    if part.tool_call_id is None:
        raise InvalidMessageError("a tool part requires toolCallId", field)
    name = part.tool_name or part.type.removeprefix("tool-")
    arguments = to_json({} if part.input is None else part.input).decode()
    state = _state(part.call_provider_metadata, field)
    call = ToolCall(part.tool_call_id, name, arguments, complete=True, state=state)
    answer.said.append(call)
    is_error = part.state != "output-available"
    text = part.error_text or ("denied" if part.state == "output-denied" else _UNANSWERED)
    if not is_error:
        text = part.output if isinstance(part.output, str) else to_json(part.output).decode()
    answer.results.append(Message("tool", text, tool_call_id=part.tool_call_id, is_error=is_error))


def _part(part: _UIPart, field: str) -> Part | None:
    """Return a part of a message; `None` for one that isn't for the model."""
    if part.type == "text":
        return TextPart(part.text or "", _state(part.provider_metadata, field))
    if part.type == "reasoning":
        return ReasoningPart(part.text or "", _state(part.provider_metadata, field))
    if part.type == "file" and part.url is not None:
        return file_part(part.url, field, part.media_type, part.filename)
    return None


def _state(metadata: dict[str, Any] | None, field: str) -> ProviderState | None:
    ours = (metadata or {}).get(EXTENSION)
    text = ours.get("state") if isinstance(ours, dict) else None
    try:
        carried = carried_state(text if isinstance(text, str) else None)
    except ValueError as error:
        raise InvalidMessageError(str(error), field) from None
    return None if carried is None else carried.state


def _content(parts: list[Part]) -> str | tuple[Part, ...]:
    if all(isinstance(part, TextPart) and part.state is None for part in parts):
        return "".join([part.text for part in parts])  # type: ignore[union-attr]
    return tuple(parts)
