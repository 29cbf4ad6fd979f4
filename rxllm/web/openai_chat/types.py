"""Answers in the form of OpenAI's chat completions, as `/v1` gives them.

Source: https://platform.openai.com/docs/api-reference/chat/object and .../chat-streaming.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from rxllm.chunks import FinishReason

__all__ = [
    "CalledFunction",
    "Completion",
    "CompletionCall",
    "CompletionDelta",
    "CompletionEvent",
    "CompletionMessage",
    "ListedModel",
    "ListedModels",
    "OpenAIError",
    "OpenAIErrorBody",
    "OpenAIUsage",
]


class OpenAIErrorBody(TypedDict):
    """What is wrong. `param` is the field that is, `code` one of those of `Failed`."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(TypedDict):
    """The answer of `/v1` to what it can't do, and the last event of a stream that has failed."""

    error: OpenAIErrorBody


class ListedModel(TypedDict):
    """A model, in `GET /v1/models/{id}`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ListedModels(TypedDict):
    """The answer of `GET /v1/models`."""

    object: Literal["list"]
    data: list[ListedModel]


class CalledFunction(TypedDict):
    """A function, and its arguments: JSON text, in a stream a piece of it."""

    name: NotRequired[str]
    arguments: str


class CompletionCall(TypedDict):
    """A call of a tool. In a stream only its first event has `id`, `type` and the name."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: CalledFunction


class _PromptDetails(TypedDict):
    cached_tokens: int


class _CompletionDetails(TypedDict):
    reasoning_tokens: int


class OpenAIUsage(TypedDict):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: NotRequired[_PromptDetails]
    completion_tokens_details: NotRequired[_CompletionDetails]


class CompletionMessage(TypedDict):
    """What the model has said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: NotRequired[list[CompletionCall]]
    reasoning_content: NotRequired[str]


class _CompletionChoice(TypedDict):
    index: int
    message: CompletionMessage
    logprobs: None
    finish_reason: FinishReason | None


class Completion(TypedDict):
    """A whole answer. `created` is in Unix seconds."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[_CompletionChoice]
    usage: OpenAIUsage


class CompletionDelta(TypedDict, total=False):
    """What an event adds to the answer."""

    role: Literal["assistant"]
    content: str
    reasoning_content: str
    tool_calls: list[CompletionCall]


class _EventChoice(TypedDict):
    index: int
    delta: CompletionDelta
    logprobs: None
    finish_reason: FinishReason | None


class CompletionEvent(TypedDict):
    """An event of a streamed answer. The usage comes in the last one, if it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[_EventChoice]
    usage: NotRequired[OpenAIUsage | None]
