"""Responses in the format of OpenAI's chat completions, as `/v1` returns them.

Source: https://platform.openai.com/docs/api-reference/chat/object and .../chat-streaming.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from rxllm.chunks import FinishReason

__all__ = [
    "Annotation",
    "CalledFunction",
    "Completion",
    "CompletionCall",
    "CompletionDelta",
    "CompletionEvent",
    "CompletionMessage",
    "ImageURL",
    "ListedModel",
    "ListedModels",
    "Logprob",
    "Logprobs",
    "OpenAIError",
    "OpenAIErrorBody",
    "OpenAIUsage",
    "OutputImage",
    "ReasoningDetail",
    "TopLogprob",
    "URLCitation",
]


class OpenAIErrorBody(TypedDict):
    """Details of an error. `param` is the invalid field, `code` as in `StreamFailed`."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(TypedDict):
    """The response of `/v1` to a request that failed, and the last event of a failed stream."""

    error: OpenAIErrorBody


class ListedModel(TypedDict):
    """The response of `GET /v1/models/{id}`: a model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ListedModels(TypedDict):
    """The response of `GET /v1/models`."""

    object: Literal["list"]
    data: list[ListedModel]


class CalledFunction(TypedDict):
    """A function and its arguments: JSON text, or a piece of it in a stream."""

    name: NotRequired[str]
    arguments: str


class CompletionCall(TypedDict):
    """A tool call. In a stream, only its first event has `id`, `type` and the name."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: CalledFunction
    extra_content: NotRequired[dict[str, Any]]


class PromptDetails(TypedDict, total=False):
    """Details of the input tokens."""

    cached_tokens: int
    cache_write_tokens: int


class _CompletionDetails(TypedDict):
    reasoning_tokens: int


class OpenAIUsage(TypedDict):
    """The number of input and output tokens; `cost` is in USD, as OpenRouter's."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: NotRequired[PromptDetails]
    completion_tokens_details: NotRequired[_CompletionDetails]
    cost: NotRequired[float]
    estimated: NotRequired[bool]


class URLCitation(TypedDict):
    """A cited source; its place is in characters of the content."""

    url: str
    content: NotRequired[str]
    title: str
    start_index: int
    end_index: int


class Annotation(TypedDict):
    """A citation in the message."""

    type: Literal["url_citation"]
    url_citation: URLCitation


class ImageURL(TypedDict):
    """The address of an image: of a server, or `data:` with the image in it."""

    url: str


class OutputImage(TypedDict):
    """An image or another file in the message, as OpenRouter sends them."""

    type: Literal["image_url"]
    image_url: ImageURL


class ReasoningDetail(TypedDict):
    """The state of a thinking block or of a text, to be sent back with the next request."""

    type: str
    format: str
    index: int
    data: str


class CompletionMessage(TypedDict):
    """The message of the model."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: NotRequired[list[CompletionCall]]
    reasoning_content: NotRequired[str]
    reasoning_details: NotRequired[list[ReasoningDetail]]
    annotations: NotRequired[list[Annotation]]
    images: NotRequired[list[OutputImage]]


class TopLogprob(TypedDict):
    """A token that was likely in the place of another, and its UTF-8."""

    token: str
    logprob: float
    bytes: list[int]


class Logprob(TopLogprob):
    """The log probability of a token, and of the likeliest ones in its place."""

    top_logprobs: list[TopLogprob]


class Logprobs(TypedDict):
    """The log probabilities of the tokens of a text, in order."""

    content: list[Logprob]
    refusal: None


class _CompletionChoice(TypedDict):
    index: int
    message: CompletionMessage
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class Completion(TypedDict):
    """A complete response. `created` is in Unix seconds."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[_CompletionChoice]
    usage: OpenAIUsage


class CompletionDelta(TypedDict, total=False):
    """The part of the message that an event adds."""

    role: Literal["assistant"]
    content: str
    reasoning_content: str
    reasoning_details: list[ReasoningDetail]
    tool_calls: list[CompletionCall]
    annotations: list[Annotation]
    images: list[OutputImage]


class _EventChoice(TypedDict):
    index: int
    delta: CompletionDelta
    logprobs: Logprobs | None
    finish_reason: FinishReason | None
    native_finish_reason: NotRequired[str]  # OpenRouter's


class CompletionEvent(TypedDict):
    """An event of a streamed response. The usage, if requested, comes in the last one."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[_EventChoice]
    usage: NotRequired[OpenAIUsage | None]
