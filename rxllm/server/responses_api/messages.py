"""Requests of OpenAI's Responses API.

Source: https://platform.openai.com/docs/api-reference/responses/create. Fields that aren't declared
here are ignored (`store`, `metadata`, `user`, `include`, ...); unsupported ones that would change
the answer are refused. Responses are kept for as long as other streams: a conversation comes with
each request, in its `input`.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from rxllm.chunks import ToolCall
from rxllm.messages import FilePart, ImagePart, Message, Part, ReasoningPart, TextPart, Tool
from rxllm.requests import ReasoningEffort, Verbosity
from rxllm.server.data_urls import source_of
from rxllm.server.messages import Options
from rxllm.web.carried_states import CarriedState, carried_state
from rxllm.web.failures import InvalidMessageError

__all__ = ["ResponsesRequest"]


class _Summary(msgspec.Struct):
    text: str = ""


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class _Item(msgspec.Struct):
    type: str = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[_Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[_Part] | None = None
    summary: list[_Summary] | None = None
    encrypted_content: str | None = None


class _Tool(msgspec.Struct):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _ToolChoice(msgspec.Struct):
    type: str
    name: str | None = None


class _Reasoning(msgspec.Struct):
    effort: ReasoningEffort | None = None


class _Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    schema: dict[str, Any] | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None
    verbosity: Verbosity | None = None


_SAID: Final = ("reasoning", "function_call", "image_generation_call")
_UNSUPPORTED: Final = (
    *("conversation", "max_tool_calls", "previous_response_id", "prompt", "stop"),
)
_NAMES: Final[dict[str | None, str]] = {
    "messages": "input",
    "prompt": "input",
    "maxTokens": "max_output_tokens",
    "topP": "top_p",
    "toolChoice": "tool_choice",
    "parallelToolCalls": "parallel_tool_calls",
    "responseFormat": "text.format",
    "reasoning": "reasoning",
    "verbosity": "text.verbosity",
    "topLogprobs": "top_logprobs",
}
_ECHOED: Final = (
    *("instructions", "temperature", "top_p", "tool_choice", "parallel_tool_calls", "tools"),
    *("metadata", "text", "reasoning", "max_output_tokens"),
)


class ResponsesRequest(msgspec.Struct):
    """The body of `POST /v1/responses`."""

    input: str | list[_Item] = ""
    model: str | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    background: bool | None = None
    conversation: Any = None
    previous_response_id: str | None = None
    prompt: Any = None
    max_tool_calls: int | None = None
    stop: Any = None

    def check(self) -> None:
        """Raise an `InvalidMessageError` for unsupported options."""
        for name in _UNSUPPORTED:
            if getattr(self, name):
                hint = ": send the conversation in `input`" if name.endswith("_id") else ""
                raise InvalidMessageError(f"{name} is not supported{hint}", name)
        if self.top_logprobs:
            raise InvalidMessageError("top_logprobs is not supported here", "top_logprobs")

    def name_of(self, field: str | None) -> str | None:
        """Return the name in this request of a field of ours."""
        return _NAMES.get(field, field)

    def as_messages(self) -> tuple[Message, ...]:
        """Return the conversation."""
        messages = [Message("system", self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return (*messages, *([Message("user", self.input)] if self.input else []))
        return (*messages, *_messages(self.input))

    def as_options(self) -> Options:
        """Return the options of a stream."""
        return Options(
            model=self.model,
            max_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            response_format=_format(None if self.text is None else self.text.format),
        )

    def further(self) -> dict[str, Any]:
        """Return the options that other requests don't have, as fields of a `Request`."""
        tools = tuple(map(_tool, self.tools or ()))
        choice = self.tool_choice
        if choice is not None and not isinstance(choice, str):
            if choice.type != "function" or choice.name is None:
                raise InvalidMessageError(
                    f"a tool_choice of the type {choice.type!r} isn't supported", "tool_choice"
                )
            choice = choice.name
        if not tools and choice in ("none", "auto"):
            choice = None  # some clients send it without any tools
        given = {
            "tools": tools,
            "tool_choice": choice,
            "parallel_tool_calls": self.parallel_tool_calls if tools else None,
            "reasoning": None if self.reasoning is None else self.reasoning.effort,
            "verbosity": None if self.text is None else self.text.verbosity,
        }
        return {name: value for name, value in given.items() if value is not None}

    @staticmethod
    def echoed(fields: dict[str, Any]) -> dict[str, Any]:
        """Return those fields of the body that are part of the response."""
        return {name: fields[name] for name in _ECHOED if fields.get(name) is not None}


def _format(form: _Format | None) -> Literal["json"] | dict[str, Any] | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return "json"
    if form.schema is None:
        raise InvalidMessageError(
            "a text.format of type json_schema requires schema", "text.format"
        )
    return form.schema


def _tool(tool: _Tool) -> Tool:
    if tool.type != "function" or tool.name is None:
        raise InvalidMessageError(f"a tool of the type {tool.type!r} isn't available", "tools")
    return Tool(tool.name, tool.description or "", tool.parameters or {})


def _messages(items: list[_Item]) -> list[Message]:
    """Return the messages of items; what the model has said since the last one is one message."""
    messages: list[Message] = []
    said: list[Part] = []
    for place, item in enumerate(items):
        field = f"input[{place}]"
        if item.type in _SAID or item.role == "assistant":
            _said(item, said, field)
            continue
        if said:
            messages.append(Message("assistant", _content(said)))
            said = []
        if item.type == "function_call_output":
            content = _content(_parts(item.output, field))
            messages.append(Message("tool", content, tool_call_id=item.call_id))
        elif item.type == "message" and item.role is not None:
            role = "system" if item.role in ("system", "developer") else "user"
            messages.append(Message(role, _content(_parts(item.content, field))))  # type: ignore[arg-type]
        else:
            raise InvalidMessageError(f"an item of the type {item.type!r} isn't supported", field)
    return [*messages, *([Message("assistant", _content(said))] if said else [])]


def _said(item: _Item, said: list[Part], field: str) -> None:
    """Add an item of an answer to its parts."""
    if item.type == "function_call":
        if item.call_id is None or item.name is None:
            raise InvalidMessageError("a function_call requires call_id and name", field)
        said.append(ToolCall(item.call_id, item.name, item.arguments or "{}", complete=True))
    elif item.type == "reasoning":
        try:
            carried = carried_state(item.encrypted_content)
        except ValueError as error:
            raise InvalidMessageError(str(error), field) from None
        if carried is not None and carried.owner != "reasoning":
            _attach(carried, said)
            return
        text = "".join([part.text for part in item.summary or ()])
        if not text and isinstance(item.content, list):
            text = "".join([part.text or "" for part in item.content])
        said.append(ReasoningPart(text, None if carried is None else carried.state))
    elif item.type == "message":
        said.extend(_parts(item.content, field))
    elif item.type != "image_generation_call":  # images aren't sent back to the model
        raise InvalidMessageError(f"an item of the type {item.type!r} isn't supported", field)


def _attach(carried: CarriedState, said: list[Part]) -> None:
    """Give a state that was in an item of its own to the part that it belongs to."""
    for place in reversed(range(len(said))):
        part = said[place]
        if isinstance(part, ToolCall) and carried.owner == "call" and part.id == carried.call:
            said[place] = msgspec.structs.replace(part, state=carried.state)
            return
        if isinstance(part, TextPart) and carried.owner == "text":
            said[place] = msgspec.structs.replace(part, state=carried.state)
            return
    if carried.owner == "text":
        said.append(TextPart("", carried.state))


def _content(parts: list[Part]) -> str | tuple[Part, ...]:
    (first, *others) = parts or [TextPart("")]
    if isinstance(first, TextPart) and first.state is None and not others:
        return first.text
    return tuple(parts)


def _parts(content: str | list[_Part] | None, field: str) -> list[Part]:
    if content is None or isinstance(content, str):
        return [TextPart(content or "")]
    return [_part(part, field) for part in content]


def _part(part: _Part, field: str) -> Part:
    if part.type in ("input_text", "output_text", "text") and part.text is not None:
        return TextPart(part.text)
    if part.type == "refusal":
        return TextPart(part.refusal or "")
    if part.type == "input_image" and part.image_url is not None:
        url, data, media_type = source_of(part.image_url, field)
        return ImagePart(url=url, data=data, media_type=media_type)
    given = part.file_data or part.file_url
    if part.type == "input_file" and given is not None:
        url, data, media_type = source_of(given, field)
        return FilePart(url=url, data=data, media_type=media_type, name=part.filename)
    raise InvalidMessageError(f"a part of the type {part.type!r} isn't supported", field)
