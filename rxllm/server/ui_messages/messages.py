"""Requests of the AI SDK's `useChat`.

Source: the package `ai` 7.0, `ui-messages.ts` and `http-chat-transport.ts`. Fields that aren't
declared here are ignored; those of `Options` come from the `body` option of the client.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from rxllm.answer import assistant_message
from rxllm.chunks import ProviderState, ToolCall
from rxllm.messages import Message, Part, ReasoningPart, TextPart, Tool
from rxllm.server.data_urls import file_part
from rxllm.server.messages import Options
from rxllm.web.carried_states import carried_state
from rxllm.web.encoding import to_json
from rxllm.web.failures import InvalidMessageError
from rxllm.wire_names import EXTENSION

__all__ = ["ChatRequest"]


class _Approval(msgspec.Struct):
    id: str
    approved: bool | None = None
    reason: Annotated[str, msgspec.Meta(max_length=2000)] | None = None


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
    preliminary: bool | None = None
    approval: _Approval | None = None
    parts: list[_UIPart] | None = None

    @property
    def is_call(self) -> bool:
        return self.type.startswith("tool-") or self.type == "dynamic-tool"

    @property
    def waits(self) -> bool:
        """Whether this is a call that waits for an approval, or has one and didn't run yet."""
        return self.is_call and self.state in ("approval-requested", "approval-responded")


class _Tool(msgspec.Struct):
    description: str = ""
    parameters: dict[str, Any] = {}


class _UIMessage(msgspec.Struct):
    role: str
    parts: list[_UIPart]
    id: str | None = None


_UNANSWERED: Final = "it is not known whether this was done"
_UNDECIDED: Final = "this was not done: the user has not decided about it"
_DENIED: Final = "the user has not allowed this"
_ROLES: Final = ("system", "user", "assistant")
_OPTIONS: Final = Options.__struct_encode_fields__


class ChatRequest(msgspec.Struct, rename="camel"):
    """The body of `POST /api/chat`."""

    messages: list[_UIMessage]
    id: str | None = None
    trigger: str | None = None
    message_id: str | None = None
    tools: dict[str, _Tool] | None = None

    @property
    def approvals(self) -> dict[str, bool | str] | None:
        """The decisions about the calls that wait at the end; `None` if none waits."""
        waiting = [part for part in self._last_parts if part.waits]
        if not waiting:
            return None
        given = [each.approval for each in waiting if each.approval is not None]
        return {
            each.id: each.approved or each.reason or False
            for each in given
            if each.approved is not None
        }

    @property
    def call_ids(self) -> list[str]:
        """The ids of the calls of the answer that goes on."""
        return [part.tool_call_id for part in self._last_parts if part.tool_call_id is not None]

    @property
    def _last_parts(self) -> list[_UIPart]:
        last = self.messages[-1] if self.messages else None
        return last.parts if last is not None and last.role == "assistant" else []

    @property
    def answer_id(self) -> str | None:
        """The id of the answer that the client already has: one that is generated again, or goes on
        after an approval. The `message_id` of a new message is that of the user's own."""
        if self.trigger == "regenerate-message":
            return self.message_id
        last = self.messages[-1] if self.messages else None
        return last.id if last is not None and last.role == "assistant" else None

    def as_messages(self) -> tuple[Message, ...]:
        """Return the conversation. Calls at its end have no result if one of them waits."""
        messages: list[Message] = []
        stay_open = self.approvals is not None
        for place, message in enumerate(self.messages):
            field = f"messages[{place}]"
            if message.role not in _ROLES:
                raise InvalidMessageError(f"a role must be one of {', '.join(_ROLES)}", field)
            if message.role == "assistant":
                is_last = place == len(self.messages) - 1
                messages += _answers(message, field, stay_open=stay_open and is_last)
            else:
                parts = [part for each in message.parts if (part := _part(each, field)) is not None]
                messages.append(Message(message.role, _content(parts)))  # type: ignore[arg-type]
        return tuple(messages)

    def as_tools(self) -> tuple[Tool, ...]:
        """Return the tools of the client, as some of the clients send them: by their names."""
        return tuple(
            Tool(name, each.description, each.parameters)
            for name, each in (self.tools or {}).items()
        )

    @staticmethod
    def as_options(fields: dict[str, Any]) -> Options:
        """Return the options among the fields of the body."""
        given = {name: fields[name] for name in _OPTIONS if fields.get(name) is not None}
        try:
            return msgspec.convert(given, Options)
        except msgspec.ValidationError as error:
            raise InvalidMessageError(str(error)) from None


class _Answer:
    """A step of an answer: what was said, the results of its calls, and what the user then said."""

    def __init__(self) -> None:
        self.said: list[Part] = []
        self.results: list[Message] = []
        self.steering: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        said = [assistant_message(self.said), *self.results] if self.said else []
        return [*said, *self.steering]


def _answers(message: _UIMessage, field: str, *, stay_open: bool) -> list[Message]:
    """Return the steps of an answer, each with the results of its calls.

    Args:
        message: the answer.
        field: its place in the request.
        stay_open: whether a call without a result stays so.
    """
    answers = [_Answer()]
    for part in message.parts:
        answer = answers[-1]
        is_over = (answer.results and not part.is_call) or answer.steering
        if part.type == "steering-message":
            said = [each for given in part.parts or () if (each := _part(given, field)) is not None]
            answer.steering.append(Message("user", _content(said)))
            continue
        if part.type == "step-start" or is_over:
            answer = _Answer()
            answers.append(answer)
        if part.is_call:
            _add_call(part, answer, field, stay_open=stay_open)
        elif (piece := _part(part, field)) is not None:
            answer.said.append(piece)
    return [each for answer in answers for each in answer.messages]


def _add_call(part: _UIPart, answer: _Answer, field: str, *, stay_open: bool) -> None:
    if part.state == "input-streaming":
        return  # it was cut off
    if part.tool_call_id is None:
        raise InvalidMessageError("a tool part requires toolCallId", field)
    name = part.tool_name or part.type.removeprefix("tool-")
    arguments = to_json(part.input if isinstance(part.input, dict) else {}).decode()
    state = _state(part.call_provider_metadata, field)
    call = ToolCall(part.tool_call_id, name, arguments, complete=True, state=state)
    answer.said.append(call)
    if part.state == "output-available" and not part.preliminary:
        text = part.output if isinstance(part.output, str) else to_json(part.output).decode()
        answer.results.append(Message("tool", text, tool_call_id=part.tool_call_id))
    elif part.state in ("output-error", "output-denied") or not stay_open:
        answer.results.append(
            Message("tool", _failure(part), tool_call_id=part.tool_call_id, is_error=True)
        )


def _failure(part: _UIPart) -> str:
    """Return why a call has no output, in the words that a model was or will be told."""
    approval = part.approval
    if part.state == "approval-requested":
        return _UNDECIDED
    if part.state == "output-denied" or (approval is not None and approval.approved is False):
        reason = None if approval is None else approval.reason
        return f"{_DENIED}: {reason}" if reason else _DENIED
    return part.error_text or _UNANSWERED


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
