"""The protocol between a loaded model and the thread that runs it.

An engine owns one model: its template, tokenizer, weights, and the key-value cache of each live
sequence. Threads, event loops and demand are the business of the `EngineRunner`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from rxllm.errors import ContextLengthError, ModelLoadError
from rxllm.models.local.control_tokens import LocalPrompt
from rxllm.models.local.guidance import Mask, Vocabulary
from rxllm.requests import Request

__all__ = [
    "Engine",
    "EngineSequence",
    "Sampled",
    "answer_limit",
    "check_context_length",
    "common_prefix",
]


class EngineSequence(Protocol):
    """One live sequence of an engine."""

    cached: int
    """Number of prompt tokens reused from the cache of another sequence."""

    pending: list[int]
    """The tokens that are decoded next: the rest of the prompt, or the last one drawn."""


_Sequence = TypeVar("_Sequence", bound=EngineSequence)


class Sampled(NamedTuple):
    """The result of one decode step for one sequence.

    `text` holds complete characters; it is empty while a character is incomplete. `confidence` is
    the probability (0..1) of the token, if requested. `is_end` marks the model's end token.
    """

    text: str
    confidence: float | None
    is_end: bool


class Engine(Protocol[_Sequence]):
    """One loaded model. All methods are called on its engine thread, one at a time."""

    slots: int
    """Maximum number of open sequences."""

    context_length: int
    """Maximum number of tokens in a sequence, prompt and answer together."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens, for grammars."""
        ...

    def prompt(self, request: Request) -> LocalPrompt:
        """Return the prompt: the request rendered with the model's chat template.

        Raises:
            BadRequestError: the request asks for something that this engine doesn't support.
        """
        ...

    def open(self, tokens: list[int], request: Request, mask: Mask | None) -> _Sequence:
        """Take a slot for a new sequence that begins with `tokens`. Computes nothing yet.

        Args:
            tokens: the prompt.
            request: the options.
            mask: which tokens the answer may have, or `None` for all.
        """
        ...

    def step(self, sequences: list[_Sequence]) -> Sequence[Sampled | Exception | None]:
        """Advance all `sequences` by one decode step, and return one result each, in order.

        `None` means that the sequence is still processing its prompt; an exception, that this
        sequence alone has failed.
        """
        ...

    def park(self, sequence: _Sequence) -> None:
        """Free the slot of a sequence that is resumed later, and keep its cache while it can."""
        ...

    def resume(self, sequence: _Sequence) -> None:
        """Take a slot for a parked sequence; what its cache has lost is read again."""
        ...

    def close(self, sequence: _Sequence) -> None:
        """Free the slot, unless it is parked. The cache may be kept for a later prompt."""
        ...

    def unload(self) -> None:
        """Free the model's memory. No method may be called afterwards."""
        ...


def check_context_length(path: Path, own: int, asked: int | None) -> None:
    """Check that the requested context length doesn't exceed the model's own.

    Raises:
        ModelLoadError: it does.
    """
    if asked is not None and asked > own:
        raise ModelLoadError(
            f"context_length must be at most {own}, the context of {path}, got {asked}"
        )


def answer_limit(tokens: int, request: Request, context_length: int) -> int:
    """Return the maximum number of answer tokens for a prompt of `tokens` tokens.

    Raises:
        ContextLengthError: the prompt, or the prompt with `max_tokens`, exceeds the context.
    """
    room = context_length - tokens
    if room < 1:
        raise ContextLengthError(
            f"the prompt has {tokens} tokens, but the context of the model has only "
            f"{context_length}: shorten the prompt"
        )
    if request.max_tokens is None:
        return room
    if request.max_tokens > room:
        raise ContextLengthError(
            f"max_tokens must be at most {room}, since the prompt has {tokens} tokens and the "
            f"context {context_length}, got {request.max_tokens}"
        )
    return request.max_tokens


def common_prefix(left: list[int], right: list[int]) -> int:
    """Return the length of the longest common prefix of both lists."""
    length = min(len(left), len(right))
    if left[:length] == right[:length]:
        return length
    return next(index for index in range(length) if left[index] != right[index])
