"""Requests of Ollama's own API.

Source: https://docs.ollama.com/api/chat and .../api/generate. Fields that aren't declared here are
ignored (`keep_alive`, and `num_ctx` and other options of the loader); unsupported ones that would
change the answer are refused.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from rxllm.chunks import ToolCall
from rxllm.messages import ImagePart, Message, Part, ReasoningPart, TextPart, Tool
from rxllm.server.data_urls import decoded_base64
from rxllm.server.messages import Options
from rxllm.web.encoding import to_json
from rxllm.web.failures import InvalidMessageError

__all__ = ["ChatRequest", "GenerateRequest", "ShowRequest"]


class _Function(msgspec.Struct):
    name: str
    arguments: Any = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _Tool(msgspec.Struct):
    function: _Function


class _Options(msgspec.Struct):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    num_predict: int | None = None
    seed: int | None = None
    stop: list[str] | str | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    mirostat: int | None = None
    typical_p: float | None = None
    tfs_z: float | None = None


class _Asked(msgspec.Struct):
    """What both requests have."""

    model: str | None = None
    stream: bool | None = None
    think: bool | Literal["low", "medium", "high"] | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: _Options | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def check(self) -> None:
        """Raise an `InvalidMessageError` for unsupported options."""
        for name in ("logprobs", "top_logprobs"):
            if getattr(self, name):
                raise InvalidMessageError(f"{name} is not supported", name)
        given = self.options or _Options()
        for name, neutral in (("mirostat", 0), ("typical_p", 1), ("tfs_z", 1)):
            if getattr(given, name) not in (None, neutral):
                raise InvalidMessageError(f"{name} is not supported", f"options.{name}")

    def as_options(self) -> Options:
        """Return the options of a stream."""
        given = self.options or _Options()
        length = given.num_predict
        return Options(
            model=self.model,
            max_tokens=length if length is not None and length >= 0 else None,  # -1: no limit
            temperature=given.temperature,
            top_p=given.top_p,
            seed=given.seed if given.seed is not None and given.seed >= 0 else None,
            stop=given.stop if isinstance(given.stop, str) else tuple(given.stop or ()),
            response_format=self.format or None,
        )

    def further(self) -> dict[str, Any]:
        """Return the options that other requests don't have, as fields of a `Request`."""
        given = self.options or _Options()
        more = {
            "top_k": given.top_k,
            "min_p": given.min_p,
            "repeat_penalty": given.repeat_penalty,
            "frequency_penalty": given.frequency_penalty or None,
            "presence_penalty": given.presence_penalty or None,
            "reasoning": self._reasoning(),
        }
        return {name: value for name, value in more.items() if value is not None}

    def _reasoning(self) -> str | None:
        if isinstance(self.think, str):
            return self.think
        return {True: "medium", False: "none", None: None}[self.think]

    def name_of(self, field: str | None) -> str | None:
        """Return the name in this request of a field of ours."""
        return _NAMES.get(field, field)


_NAMES: Final[dict[str | None, str]] = {
    "maxTokens": "options.num_predict",
    "temperature": "options.temperature",
    "topP": "options.top_p",
    "stop": "options.stop",
    "responseFormat": "format",
    "reasoning": "think",
}


class ChatRequest(_Asked):
    """The body of `POST /api/chat`."""

    messages: list[_Message] = []
    tools: list[_Tool] | None = None

    def as_messages(self) -> tuple[Message, ...]:
        """Return the conversation. Calls without ids get them, as do their results, in order."""
        messages: list[Message] = []
        waiting: list[tuple[str, str]] = []  # the ids and names of calls without a result
        for place, message in enumerate(self.messages):
            call_id = message.tool_call_id
            if message.role == "tool" and call_id is None:
                named = [each for each in waiting if each[1] == message.tool_name] or waiting
                call_id = named[0][0] if named else None
                waiting = [each for each in waiting if each[0] != call_id]
            made = _message(message, call_id, place)
            waiting += [(call.id, call.name) for call in made.calls]
            messages.append(made)
        return tuple(messages)

    def further(self) -> dict[str, Any]:
        """Return the options that other requests don't have, as fields of a `Request`."""
        tools = tuple(
            Tool(
                each.function.name, each.function.description or "", each.function.parameters or {}
            )
            for each in self.tools or ()
        )
        return {**super().further(), "tools": tools}


class GenerateRequest(_Asked):
    """The body of `POST /api/generate`."""

    prompt: str = ""
    system: str | None = None
    suffix: str | None = None
    images: list[str] | None = None
    raw: bool | None = None
    template: str | None = None
    context: list[int] | None = None

    def check(self) -> None:
        """Raise an `InvalidMessageError` for unsupported options."""
        super().check()
        for name in ("suffix", "raw", "template", "context"):
            if getattr(self, name):
                raise InvalidMessageError(f"{name} is not supported", name)

    def as_messages(self) -> tuple[Message, ...]:
        """Return the conversation."""
        system = [Message("system", self.system)] if self.system else []
        if not self.prompt and not self.images:
            return tuple(system)
        return (*system, Message("user", _content(self.prompt, self.images, "images")))


class ShowRequest(msgspec.Struct):
    """The body of `POST /api/show`. `name` is the older name of `model`."""

    model: str | None = None
    name: str | None = None


def _message(message: _Message, call_id: str | None, place: int) -> Message:
    field = f"messages[{place}]"
    content = _content(message.content or "", message.images, field)
    if message.role == "tool":
        return Message("tool", content, tool_call_id=call_id)
    if message.role != "assistant":
        return Message(message.role, content)
    if message.thinking:
        said = [TextPart(content)] if isinstance(content, str) and content else []
        content = (ReasoningPart(message.thinking), *said)
    calls = tuple(
        ToolCall(
            call.id or f"call-{place}-{index}",
            call.function.name,
            _arguments(call.function.arguments),
            index,
            complete=True,
        )
        for index, call in enumerate(message.tool_calls or ())
    )
    return Message("assistant", content, tool_calls=calls)


def _arguments(given: Any) -> str:
    if isinstance(given, str):
        return given or "{}"
    return to_json({} if given is None else given).decode()


def _content(text: str, images: list[str] | None, field: str) -> str | tuple[Part, ...]:
    if not images:
        return text
    shown = [ImagePart(data=decoded_base64(each, field)) for each in images]
    return (*([TextPart(text)] if text else []), *shown)
