"""Requests in the format of Anthropic's messages.

Source: https://docs.anthropic.com/en/api/messages. Fields that aren't declared here are ignored
(`metadata`, `service_tier`, `cache_control`, ...); unsupported ones that would change the answer
are refused.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from rxllm.chunks import ToolCall
from rxllm.messages import FilePart, ImagePart, Message, Part, ReasoningPart, TextPart, Tool
from rxllm.requests import ReasoningEffort
from rxllm.server.data_urls import decoded_base64
from rxllm.server.messages import Options
from rxllm.web.carried_states import CarriedState, carried_state
from rxllm.web.encoding import to_json
from rxllm.web.failures import InvalidMessageError

__all__ = ["MessagesRequest"]


class _Source(msgspec.Struct):
    type: str
    data: str | None = None
    media_type: str | None = None
    url: str | None = None


class _Block(msgspec.Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    tool_use_id: str | None = None
    content: str | list[_Block] | None = None
    is_error: bool | None = None
    source: _Source | None = None
    title: str | None = None


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(msgspec.Struct):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class _ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct):
    type: str
    budget_tokens: int | None = None


class _Format(msgspec.Struct):
    type: str
    schema: dict[str, Any] | None = None


class _OutputConfig(msgspec.Struct):
    effort: ReasoningEffort | None = None
    format: _Format | None = None


_BUDGETS: Final[tuple[tuple[int, ReasoningEffort], ...]] = (
    (1024, "minimal"),
    (2048, "low"),
    (8192, "medium"),
)
_NAMES: Final[dict[str | None, str]] = {
    "prompt": "messages",
    "maxTokens": "max_tokens",
    "topP": "top_p",
    "topK": "top_k",
    "stop": "stop_sequences",
    "toolChoice": "tool_choice",
    "parallelToolCalls": "tool_choice",
    "responseFormat": "output_config",
    "reasoning": "thinking",
}
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}


class MessagesRequest(msgspec.Struct):
    """The body of `POST /v1/messages`, and of `POST /v1/messages/count_tokens`."""

    messages: list[_Message]
    model: str | None = None
    max_tokens: int | None = None
    system: str | list[_Block] | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    container: Any = None
    mcp_servers: list[Any] | None = None

    def check(self) -> None:
        """Raise an `InvalidMessageError` for what is missing or unsupported."""
        if self.max_tokens is None:
            raise InvalidMessageError("max_tokens is required", "max_tokens")
        for name in ("container", "mcp_servers"):
            if getattr(self, name):
                raise InvalidMessageError(f"{name} is not supported", name)

    def name_of(self, field: str | None) -> str | None:
        """Return the name in this request of a field of ours."""
        return _NAMES.get(field, field)

    def as_messages(self) -> tuple[Message, ...]:
        """Return the conversation."""
        system = _system(self.system)
        messages = [Message("system", system)] if system else []
        for place, message in enumerate(self.messages):
            messages += _messages(message, f"messages[{place}]")
        return tuple(messages)

    def as_options(self) -> Options:
        """Return the options of a stream."""
        config = self.output_config
        form = None if config is None else config.format
        if form is not None and (form.type != "json_schema" or form.schema is None):
            raise InvalidMessageError(
                f"output_config.format must be json_schema with a schema, got {form.type!r}",
                "output_config",
            )
        return Options(
            model=self.model,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=tuple(self.stop_sequences or ()),
            response_format=None if form is None else form.schema,
        )

    def further(self) -> dict[str, Any]:
        """Return the options that other requests don't have, as fields of a `Request`."""
        tools = tuple(map(_tool, self.tools or ()))
        choice, several = self.tool_choice, None
        name: str | None = None
        if choice is not None and (tools or choice.type in ("any", "tool")):
            name = _chosen(choice)
            several = False if choice.disable_parallel_tool_use else None
        given = {
            "tools": tools,
            "tool_choice": name,
            "parallel_tool_calls": several,
            "top_k": self.top_k,
            "reasoning": self._reasoning(),
        }
        return {name: value for name, value in given.items() if value is not None}

    def _reasoning(self) -> ReasoningEffort | None:
        thinking, config = self.thinking, self.output_config
        if thinking is not None and thinking.type == "disabled":
            return "none"
        if config is not None and config.effort is not None:
            return config.effort
        if thinking is None:
            return None
        budget = thinking.budget_tokens
        if budget is None:
            return None if thinking.type == "adaptive" else "medium"
        return next((effort for most, effort in _BUDGETS if budget <= most), "high")


def _chosen(choice: _ToolChoice) -> str:
    if choice.type != "tool":
        return _CHOICES[choice.type]
    if choice.name is None or choice.name in _CHOICES.values():
        raise InvalidMessageError(
            f"tool_choice can't name the tool {choice.name!r}", "tool_choice.name"
        )
    return choice.name


def _system(given: str | list[_Block] | None) -> str:
    if given is None or isinstance(given, str):
        return given or ""
    for place, block in enumerate(given):
        if block.type != "text" or block.text is None:
            raise InvalidMessageError("a block of system must be text", f"system[{place}]")
    return "\n\n".join([block.text for block in given if block.text])


def _tool(tool: _Tool) -> Tool:
    if tool.type not in (None, "custom"):
        raise InvalidMessageError(f"the tool {tool.type!r} of Anthropic isn't available", "tools")
    return Tool(tool.name, tool.description or "", tool.input_schema or {})


def _messages(message: _Message, field: str) -> list[Message]:
    """Return one message, preceded by those with the results of tools."""
    if isinstance(message.content, str):
        return [Message(message.role, message.content)]
    try:
        carried = [carried_state(block.data) for block in message.content]
    except ValueError as error:
        raise InvalidMessageError(str(error), field) from None
    results: list[Message] = []
    parts: list[Part] = []
    for block, state in zip(message.content, carried, strict=True):
        if block.type == "tool_result":
            results.append(_result(block, field))
        elif block.type == "redacted_thinking":
            _attach(state, parts)
        else:
            parts.append(_part(block, field))
    if results and not parts:
        return results
    return [*results, Message(message.role, _content(parts))]


def _content(parts: list[Part]) -> str | tuple[Part, ...]:
    plain = all(isinstance(part, TextPart) and part.state is None for part in parts)
    if plain and len(parts) == 1:
        return parts[0].text  # type: ignore[union-attr]
    return tuple(parts)


def _attach(carried: CarriedState | None, parts: list[Part]) -> None:
    """Give a state that was in a block of its own to the part that it belongs to."""
    if carried is None:
        return  # of another server
    for place in reversed(range(len(parts))):
        part = parts[place]
        is_text = carried.owner == "text" and isinstance(part, TextPart)
        is_call = isinstance(part, ToolCall) and part.id == carried.call
        if (is_text or is_call) and not isinstance(part, ImagePart | FilePart):
            parts[place] = msgspec.structs.replace(part, state=carried.state)
            return
    if carried.owner == "text":
        parts.append(TextPart("", carried.state))


def _result(block: _Block, field: str) -> Message:
    content: str | tuple[Part, ...] = ""
    if isinstance(block.content, str):
        content = block.content
    elif block.content is not None:
        content = _content([_part(each, field) for each in block.content]) or ""
    return Message("tool", content, tool_call_id=block.tool_use_id, is_error=bool(block.is_error))


def _part(block: _Block, field: str) -> Part:
    if block.type == "text" and block.text is not None:
        return TextPart(block.text)
    if block.type == "thinking":
        try:
            carried = carried_state(block.signature)
        except ValueError as error:
            raise InvalidMessageError(str(error), field) from None
        return ReasoningPart(block.thinking or "", None if carried is None else carried.state)
    if block.type == "tool_use" and block.id is not None and block.name is not None:
        arguments = to_json(block.input if block.input is not None else {}).decode()
        return ToolCall(block.id, block.name, arguments, complete=True)
    if block.type in ("image", "document") and block.source is not None:
        return _file(block.type, block.source, block.title, field)
    raise InvalidMessageError(f"a block of the type {block.type!r} isn't supported", field)


def _file(kind: str, source: _Source, title: str | None, field: str) -> Part:
    if source.type == "text":
        return TextPart(source.data or "")
    if source.type not in ("base64", "url"):
        raise InvalidMessageError(f"a source of the type {source.type!r} isn't supported", field)
    data = None if source.type == "url" else decoded_base64(source.data or "", field)
    url = source.url if source.type == "url" else None
    if kind == "image":
        return ImagePart(url=url, data=data, media_type=source.media_type)
    return FilePart(url=url, data=data, media_type=source.media_type, name=title)
