"""The fields that are read from the events of OpenAI's chat completions; others are ignored.

Source: https://platform.openai.com/docs/api-reference/chat-streaming.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rxllm.chunks import TokenLogprob, Usage

__all__ = [
    "Choice",
    "Completion",
    "Delta",
    "FunctionDelta",
    "GroqBlock",
    "InputDetails",
    "LogProb",
    "LogProbs",
    "OutputDetails",
    "TokenCounts",
    "ToolCallDelta",
]


class FunctionDelta(msgspec.Struct, gc=False):
    """A part of the function that a call names."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, gc=False):
    """A part of one tool call. Some servers put the function's fields beside the index."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None
    name: str | None = None
    arguments: str | None = None
    extra_content: Any = None  # of Gemini: its signature


class Delta(msgspec.Struct):
    """A part of the answer. Servers use different names for the reasoning."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_text: str | None = None
    thinking: str | None = None  # of Mistral: a part of the content
    reasoning_details: Any = None  # of OpenRouter, which wants them back
    extra_content: Any = None  # of Gemini: its signature
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: FunctionDelta | None = None  # the predecessor of `tool_calls`
    annotations: Any = None
    citations: Any = None
    context: Any = None  # of Azure: its citations
    images: Any = None
    image: Any = None
    video: Any = None
    audio: Any = None
    parts: Any = None  # of the content, where it isn't text and isn't a file
    error: Any = None

    @property
    def says_something(self) -> bool:
        """Whether the delta carries a part of the answer."""
        return bool(self.content) or any(getattr(self, name) for name in _SAID)

    @property
    def has_output(self) -> bool:
        """Whether the delta carries output that isn't text or a call."""
        return bool(
            self.annotations
            or self.citations
            or self.context
            or self.images
            or self.image
            or self.video
            or self.audio
            or self.parts
        )


_SAID: Final = tuple([name for name in Delta.__struct_fields__ if name != "error"])


class LogProb(msgspec.Struct, gc=False):
    """The log probability of one token."""

    logprob: float
    token: str = ""
    top_logprobs: list[LogProb] | None = None

    def as_value(self) -> TokenLogprob:
        """Return it as a value of a `Token`."""
        top = tuple([each.as_value() for each in self.top_logprobs or ()])
        return TokenLogprob(self.token, self.logprob, top)


class LogProbs(msgspec.Struct, gc=False):
    """The log probabilities of the tokens of one delta."""

    content: list[LogProb] | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers; only the first is requested and read."""

    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None  # of OpenRouter, and of a server of rxllm
    logprobs: LogProbs | None = None
    message: Delta | None = None  # in place of `delta`: the whole answer
    text: str | None = None  # of the completions before chat
    citations: Any = None
    error: Any = None

    @property
    def reported_error(self) -> Any:
        """The error in the choice, its delta or its message, if there is one."""
        delta, message = self.delta, self.message
        return (
            self.error
            or (delta is not None and delta.error)
            or (message is not None and message.error)
        )

    @property
    def says_something(self) -> bool:
        """Whether the choice carries a part of the answer."""
        return bool(
            (self.delta is not None and self.delta.says_something)
            or (self.message is not None and self.message.says_something)
            or self.text
        )


class InputDetails(msgspec.Struct, gc=False):
    """Details of the input tokens."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputDetails(msgspec.Struct, gc=False):
    """Details of the output tokens."""

    reasoning_tokens: int | None = None


class TokenCounts(msgspec.Struct, gc=False):
    """The usage; `cost` (USD) is sent by OpenRouter only."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    cost: float | None = None
    estimated: bool = False  # of a server of rxllm

    @property
    def is_empty(self) -> bool:
        """Whether it reports nothing."""
        return not (self.prompt_tokens or self.completion_tokens)

    def as_chunk(self, *, estimated: bool = False) -> Usage:
        """Return the usage as a chunk; `estimated` if the answer goes on."""
        read, written = self.prompt_tokens_details, self.completion_tokens_details
        return Usage(
            self.prompt_tokens,
            self.completion_tokens,
            cached_tokens=read.cached_tokens if read else None,
            reasoning_tokens=written.reasoning_tokens if written else None,
            cost=self.cost,
            cache_write_tokens=read.cache_write_tokens if read else None,
            estimated=estimated or self.estimated,
        )


class GroqBlock(msgspec.Struct, gc=False):
    """Groq's extension of the events."""

    usage: TokenCounts | None = None
    error: Any = None


class Completion(msgspec.Struct, gc=False):
    """One event."""

    id: str | None = None
    model: str | None = None
    created: float | None = None
    choices: list[Choice] | None = None
    usage: TokenCounts | None = None
    citations: Any = None  # of Perplexity, repeated in each event
    search_results: Any = None  # the same, with titles
    sources: Any = None
    images: Any = None
    x_groq: GroqBlock | None = None
    error: Any = None  # one of many forms; see `reported_error`

    @property
    def may_be_error(self) -> bool:
        """Whether the event may report an error."""
        return bool(self.error) or self.error == {} or not self.has_answer

    @property
    def is_known(self) -> bool:
        """Whether anything in the event is known."""
        return any(getattr(self, name) for name in ("id", "model", "choices", "usage", "x_groq"))

    @property
    def has_answer(self) -> bool:
        """Whether the event carries a part of an answer."""
        for choice in self.choices or ():
            if choice.says_something:
                return True
        return self.usage is not None and not self.usage.is_empty
