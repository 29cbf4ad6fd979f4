"""Requests in OpenAI's chat completions format.

Source: https://platform.openai.com/docs/api-reference/chat/create; for the fields of other servers,
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html and
https://github.com/ggml-org/llama.cpp/tree/master/tools/server. Fields that would change the answer
are used or refused; others are ignored (`user`, `store`, `metadata`, ..., and `strict` of a schema,
which the model follows as well as it can).
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec

from rxllm.chunks import ToolCall
from rxllm.messages import Message, Part, TextPart, Tool
from rxllm.requests import ReasoningEffort, Verbosity
from rxllm.server.data_urls import file_part
from rxllm.server.messages import Options
from rxllm.server.openai.unsupported import unsupported_field
from rxllm.web.failures import InvalidMessageError
from rxllm.web.openai_chat.states import call_state, parts_in

__all__ = ["CompletionRequest"]


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Call(msgspec.Struct):
    id: str
    function: _Function
    extra_content: dict[str, Any] | None = None


class _ImageUrl(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    image_url: _ImageUrl | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None


class _Tool(msgspec.Struct):
    function: _Function


class _JsonSchema(msgspec.Struct):
    schema: dict[str, Any]


class _Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None
    schema: dict[str, Any] | None = None  # llama.cpp's, with `json_object`


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _NamedFunction(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    function: _NamedFunction


_NAMES: Final[dict[str | None, str]] = {
    "prompt": "messages",
    "reasoning": "reasoning_effort",
    "confidence": "logprobs",
}


class CompletionRequest(msgspec.Struct):
    """The body of `POST /v1/chat/completions`."""

    messages: list[_Message]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    response_format: _Format | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Choice | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Verbosity | None = None
    modalities: list[str] | None = None
    # of servers of open models: llama.cpp, vLLM, SGLang
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    repetition_penalty: float | None = None
    grammar: str | None = None
    guided_grammar: str | None = None
    guided_json: dict[str, Any] | str | None = None
    json_schema: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def check(self, fields: dict[str, Any]) -> None:
        """Raise an `InvalidMessageError` for unsupported options.

        Args:
            fields: all fields of the body.
        """
        if self.n not in (None, 1):
            raise InvalidMessageError(f"n must be 1, got {self.n}", "n")
        if self.modalities not in (None, [], ["text"]):
            raise InvalidMessageError(
                f"modalities must be ['text'], got {self.modalities}", "modalities"
            )
        if self.top_logprobs and not self.logprobs:
            raise InvalidMessageError("top_logprobs requires logprobs", "top_logprobs")
        if (name := unsupported_field(fields)) is not None:
            raise InvalidMessageError(f"{name} is not supported", name)

    def name_of(self, field: str | None) -> str | None:
        """Return the name in this request of a field of ours."""
        if field == "maxTokens" and self.max_completion_tokens is not None:
            return "max_completion_tokens"
        name = (
            None if field is None else re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", field)
        )
        return _NAMES.get(name, name)

    def as_messages(self) -> tuple[Message, ...]:
        """Return the conversation."""
        return tuple(_message(message, place) for place, message in enumerate(self.messages))

    def as_options(self) -> Options:
        """Return the options of a stream."""
        length = self.max_completion_tokens
        return Options(
            model=self.model,
            max_tokens=self.max_tokens if length is None else length,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=() if self.stop is None else _stops(self.stop),
            seed=self.seed,
            response_format=self._format(),
        )

    def further(self) -> dict[str, Any]:
        """Return the options that other requests don't have, as fields of a `Request`."""
        tools = tuple(_tool(tool.function) for tool in self.tools or ())
        choice = self.tool_choice
        if choice is not None and not isinstance(choice, str):
            choice = choice.function.name
        if not tools and choice in ("none", "auto"):
            choice = None  # some clients send it without any tools
        penalty = self.repeat_penalty
        given = {
            "tools": tools,
            "tool_choice": choice,
            "parallel_tool_calls": self.parallel_tool_calls if tools else None,
            "confidence": self.logprobs or None,
            "top_logprobs": self.top_logprobs if self.logprobs else None,
            "frequency_penalty": self.frequency_penalty or None,  # 0 is none
            "presence_penalty": self.presence_penalty or None,
            "logit_bias": self.logit_bias or None,
            "reasoning": self.reasoning_effort,
            "verbosity": self.verbosity,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repeat_penalty": self.repetition_penalty if penalty is None else penalty,
            "extra": self._extra(),
        }
        return {name: value for name, value in given.items() if value is not None}

    def _extra(self) -> dict[str, Any] | None:
        structured = self.structured_outputs or {}
        grammar = self.grammar or self.guided_grammar or structured.get("grammar")
        return {"grammar": grammar} if grammar else None

    def _format(self) -> Literal["json"] | dict[str, Any] | None:
        """Return the format of the answer, from the one field that has it."""
        given: dict[str, Any] = {
            "response_format": _format(self.response_format),
            "guided_json": _schema(self.guided_json),
            "json_schema": self.json_schema,
            "structured_outputs": _structured(self.structured_outputs),
            "grammar": self.grammar or None,
            "guided_grammar": self.guided_grammar or None,
            "structured_outputs.grammar": (self.structured_outputs or {}).get("grammar"),
        }
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise InvalidMessageError(f"give only one of {' and '.join(named)}", named[1])
        is_grammar = named and named[0].endswith("grammar")
        return None if is_grammar else next(filter(None, given.values()), None)


def _stops(stop: str | list[str]) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _format(given: _Format | None) -> Literal["json"] | dict[str, Any] | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return given.schema or "json"
    if given.json_schema is None:
        raise InvalidMessageError(
            "a response_format of type json_schema requires json_schema",
            "response_format.json_schema",
        )
    return given.json_schema.schema


def _schema(given: dict[str, Any] | str | None) -> dict[str, Any] | None:
    if not isinstance(given, str):
        return given
    try:
        return msgspec.json.decode(given, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidMessageError(
            f"guided_json must be a JSON Schema: {error}", "guided_json"
        ) from None


def _structured(given: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the schema in vLLM's `structured_outputs`."""
    unknown = [name for name in given or {} if name not in ("json", "grammar")]
    if unknown and (given or {})[unknown[0]] is not None:
        field = f"structured_outputs.{unknown[0]}"
        raise InvalidMessageError(f"{field} is not supported", field)
    schema = (given or {}).get("json")
    if schema is not None and not isinstance(schema, dict | str):
        raise InvalidMessageError(
            f"structured_outputs.json must be a JSON Schema, got {schema!r}",
            "structured_outputs.json",
        )
    return _schema(schema)


def _tool(function: _Function) -> Tool:
    return Tool(function.name, function.description or "", function.parameters or {})


def _message(message: _Message, place: int) -> Message:
    content: str | tuple[Part, ...]
    if isinstance(message.content, list):
        content = tuple(_part(part, f"messages[{place}].content") for part in message.content)
    else:
        content = message.content or ""
    try:
        if message.reasoning_details:
            content = _with_states(content, message.reasoning_details)
        states = [call_state(call.extra_content) for call in message.tool_calls or ()]
    except ValueError as error:
        raise InvalidMessageError(str(error), f"messages[{place}]") from None
    return Message(
        "system" if message.role == "developer" else message.role,
        content,
        message.name,
        message.tool_call_id,
        tuple(
            ToolCall(call.id, call.function.name, call.function.arguments, index, True, state)
            for index, (call, state) in enumerate(
                zip(message.tool_calls or (), states, strict=True)
            )
        ),
    )


def _with_states(
    content: str | tuple[Part, ...], details: list[dict[str, Any]]
) -> str | tuple[Part, ...]:
    """Return the content with what its model wants back, which the client has from us."""
    is_text = isinstance(content, str)
    texts = [part.text for part in content if isinstance(part, TextPart)] if not is_text else []
    parts = parts_in(content if isinstance(content, str) else "".join(texts), details)
    return parts if any(not isinstance(part, TextPart) or part.state for part in parts) else content


def _part(part: _Part, field: str) -> Part:
    if part.type == "text" and part.text is not None:
        return TextPart(part.text)
    if part.type != "image_url" or part.image_url is None:
        raise InvalidMessageError("a content part must be `text` or `image_url`", field)
    return file_part(part.image_url.url, field)
