"""The events of OpenAI's chat completions, as far as they are read. Other fields are ignored.

Source: https://platform.openai.com/docs/api-reference/chat-streaming.
"""

from __future__ import annotations

import msgspec

from rxllm.chunks import Usage
from rxllm.models.remote.failures import ErrorObject

__all__ = ["Choice", "Completion", "Delta", "LogProbs", "TokenCounts", "ToolCallDelta"]


class FunctionDelta(msgspec.Struct, gc=False):
    """More of the function that a call names."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, gc=False):
    """More of one call of a tool."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None


class Delta(msgspec.Struct, gc=False):
    """More of the answer. Servers differ in what they call the reasoning."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class LogProb(msgspec.Struct, gc=False):
    """How likely a token was."""

    logprob: float


class LogProbs(msgspec.Struct, gc=False):
    """Of the tokens of one delta."""

    content: list[LogProb] | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers: the first, as no more are asked for."""

    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None
    logprobs: LogProbs | None = None


class InputDetails(msgspec.Struct, gc=False):
    """Of the tokens read."""

    cached_tokens: int | None = None


class OutputDetails(msgspec.Struct, gc=False):
    """Of the tokens written."""

    reasoning_tokens: int | None = None


class TokenCounts(msgspec.Struct, gc=False):
    """The usage; `cost`, in USD, is OpenRouter's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    cost: float | None = None

    def as_chunk(self) -> Usage:
        """As a chunk of ours."""
        read, written = self.prompt_tokens_details, self.completion_tokens_details
        return Usage(
            self.prompt_tokens,
            self.completion_tokens,
            cached_tokens=read.cached_tokens if read else None,
            reasoning_tokens=written.reasoning_tokens if written else None,
            cost=self.cost,
        )


class GroqBlock(msgspec.Struct, gc=False):
    """What Groq adds of its own."""

    usage: TokenCounts | None = None
    error: str | None = None


class Completion(msgspec.Struct, gc=False):
    """One event."""

    id: str | None = None
    model: str | None = None
    created: float | None = None
    choices: list[Choice] | None = None
    usage: TokenCounts | None = None
    x_groq: GroqBlock | None = None
    error: ErrorObject | str | None = None
    # vLLM's older form of an error: all of it on the top.
    object: str | None = None
    message: str | None = None
    type: str | None = None
    code: str | int | None = None
