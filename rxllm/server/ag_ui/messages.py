"""Requests of AG-UI's clients.

Source: https://docs.ag-ui.com/sdk/js/core/types, `RunAgentInput`. Fields that aren't declared here
are ignored (`state`, `context` is added to the system prompt); options of the stream may be in
`forwardedProps`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from rxllm.answer import assistant_message
from rxllm.chunks import ProviderState, ToolCall
from rxllm.messages import FilePart, ImagePart, Message, Part, ReasoningPart, TextPart, Tool
from rxllm.server.data_urls import decoded_base64
from rxllm.server.messages import Options
from rxllm.web.carried_states import CarriedState, carried_state
from rxllm.web.failures import InvalidMessageError

__all__ = ["RunRequest"]


class _Source(msgspec.Struct, rename="camel"):
    type: str
    value: str | None = None
    mime_type: str | None = None
    url: str | None = None


class _Content(msgspec.Struct, rename="camel"):
    type: str
    text: str | None = None
    source: _Source | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""


class _Call(msgspec.Struct, rename="camel"):
    id: str
    function: _Function
    encrypted_value: str | None = None


class _Message(msgspec.Struct, rename="camel"):
    role: str
    id: str | None = None
    content: str | list[_Content] | dict[str, Any] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    error: str | None = None
    encrypted_value: str | None = None
    subagent_run_id: str | None = None


class _Tool(msgspec.Struct):
    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None


class _Resume(msgspec.Struct, rename="camel"):
    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Any = None


class _Payload(msgspec.Struct, forbid_unknown_fields=True):
    approved: bool
    reason: Annotated[str, msgspec.Meta(max_length=2000)] | None = None


class _Context(msgspec.Struct):
    description: str
    value: str


_OPTIONS: Final = Options.__struct_encode_fields__
_IGNORED: Final = ("activity",)


class RunRequest(msgspec.Struct, rename="camel"):
    """The body of `POST /agui`."""

    messages: list[_Message]
    thread_id: str = ""
    run_id: str = ""
    tools: list[_Tool] | None = None
    context: list[_Context] | None = None
    forwarded_props: Any = None
    resume: list[_Resume] | None = None

    def as_approvals(self) -> dict[str, bool | str] | None:
        """Return the decisions about the calls that wait; `None` if there are none.

        Raises:
            InvalidMessageError: an answer isn't what the interrupt has asked for.
        """
        if not self.resume:
            return None
        return {each.interrupt_id: _decision(each, place) for place, each in enumerate(self.resume)}

    def as_messages(self, instructions: str | None = None) -> tuple[Message, ...]:
        """Return the conversation; `instructions` go before the context."""
        messages: list[Message] = []
        if self.context:
            lines = [f"{each.description}: {each.value}" for each in self.context]
            before = [] if instructions is None else [instructions, ""]
            messages.append(Message("system", "\n".join([*before, *lines])))
        reasoning: list[Part] = []  # before the answer that it belongs to
        for place, message in enumerate(self.messages):
            field = f"messages[{place}]"
            if message.role in _IGNORED or message.subagent_run_id is not None:
                continue  # shown to the user, but not part of the conversation
            if message.role == "reasoning":
                state = _carried(message.encrypted_value, field)
                text = message.content if isinstance(message.content, str) else ""
                reasoning.append(ReasoningPart(text, None if state is None else state.state))
                continue
            messages.append(_message(message, reasoning, field))
            reasoning = []
        return tuple(messages)

    def as_options(self) -> Options:
        """Return the options among the forwarded properties."""
        props = self.forwarded_props if isinstance(self.forwarded_props, dict) else {}
        given = {name: props[name] for name in _OPTIONS if props.get(name) is not None}
        try:
            return msgspec.convert(given, Options)
        except msgspec.ValidationError as error:
            raise InvalidMessageError(str(error), "forwardedProps") from None

    def as_tools(self) -> tuple[Tool, ...]:
        """Return the tools of the frontend."""
        return tuple(
            Tool(each.name, each.description, each.parameters or {}) for each in self.tools or ()
        )


def _decision(answer: _Resume, place: int) -> bool | str:
    if answer.status == "cancelled":
        return False
    if isinstance(answer.payload, bool):
        return answer.payload
    try:
        payload = msgspec.convert(answer.payload, _Payload)
    except msgspec.ValidationError as error:
        raise InvalidMessageError(
            f"the answer to an interrupt is true, false or an object with `approved`: {error}",
            f"resume[{place}].payload",
        ) from None
    return payload.approved or payload.reason or False


def _carried(text: str | None, field: str) -> CarriedState | None:
    try:
        return carried_state(text)
    except ValueError as error:
        raise InvalidMessageError(str(error), field) from None


def _message(message: _Message, reasoning: list[Part], field: str) -> Message:
    if message.role == "tool":
        text = message.error or (message.content if isinstance(message.content, str) else "")
        return Message(
            "tool", text, tool_call_id=message.tool_call_id, is_error=message.error is not None
        )
    if message.role == "assistant":
        return _answer(message, reasoning, field)
    if message.role not in ("system", "developer", "user"):
        raise InvalidMessageError(f"unknown role {message.role!r}", field)
    role = "user" if message.role == "user" else "system"
    if isinstance(message.content, list):
        return Message(role, tuple(_part(each, field) for each in message.content))  # type: ignore[arg-type]
    return Message(role, message.content if isinstance(message.content, str) else "")  # type: ignore[arg-type]


def _answer(message: _Message, reasoning: list[Part], field: str) -> Message:
    carried = _carried(message.encrypted_value, field)
    text = message.content if isinstance(message.content, str) else ""
    state: ProviderState | None = None if carried is None else carried.state
    said: list[Part] = list(reasoning)
    if text or state is not None:
        said.append(TextPart(text, state))
    for index, call in enumerate(message.tool_calls or ()):
        of_call = _carried(call.encrypted_value, field)
        said.append(
            ToolCall(
                call.id,
                call.function.name,
                call.function.arguments or "{}",
                index,
                True,
                None if of_call is None else of_call.state,
            )
        )
    return assistant_message(said)


def _part(content: _Content, field: str) -> Part:
    if content.type == "text" and content.text is not None:
        return TextPart(content.text)
    source = content.source
    if source is None or (source.url if source.type == "url" else source.value) is None:
        raise InvalidMessageError(f"a part of the type {content.type!r} isn't supported", field)
    data = None if source.type == "url" else decoded_base64(source.value or "", field)
    given = {"url": source.url if data is None else None, "data": data}
    kind = ImagePart if content.type == "image" else FilePart
    return kind(**given, media_type=source.mime_type)  # type: ignore[arg-type]
