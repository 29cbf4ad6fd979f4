"""The protocol between a loaded model and the thread that runs it.

An engine knows one model: its template, tokenizer, weights, and the key-value cache of each live
sequence. It knows no thread, no event loop and no demand: those are the `EngineRunner`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from rxllm.errors import ContextLengthError, ModelLoadError
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
    """How many tokens of the prompt were found in the cache of an earlier sequence."""


_Sequence = TypeVar("_Sequence", bound=EngineSequence)


class Sampled(NamedTuple):
    """What one decode step gave to one sequence.

    `text` holds whole characters; it is empty while a character still lacks bytes. `confidence` is
    the probability (0..1) of the token, if it was asked for. `is_end` marks the model's own end.
    """

    text: str
    confidence: float | None
    is_end: bool


class Engine(Protocol[_Sequence]):
    """One loaded model. All methods are called on its engine thread, one at a time."""

    slots: int
    """How many sequences may be open at once."""

    context_length: int
    """How many tokens a sequence may have, prompt and answer together."""

    def prompt(self, request: Request) -> list[int]:
        """The request as tokens, in the model's chat template.

        Raises:
            BadRequestError: the request asks for what this engine can't do.
        """
        ...

    def open(self, tokens: list[int], request: Request) -> _Sequence:
        """Take a slot for a new sequence that begins with `tokens`. Computes nothing yet."""
        ...

    def step(self, sequences: list[_Sequence]) -> Sequence[Sampled | Exception | None]:
        """Advance all `sequences` by one decode step: one result each, in their order.

        None: the sequence is still reading its prompt. An exception: this one has failed, and the
        others have not.
        """
        ...

    def close(self, sequence: _Sequence) -> None:
        """Give the slot back. What was computed may be kept for a later prompt."""
        ...

    def unload(self) -> None:
        """Free the model's memory. Nothing may be called afterwards."""
        ...


def check_context_length(path: Path, own: int, asked: int | None) -> None:
    """Check that the context that was asked for is no longer than the model's own.

    Raises:
        ModelLoadError: it is.
    """
    if asked is not None and asked > own:
        raise ModelLoadError(f"{path} has a context of {own} tokens, not {asked}")


def answer_limit(tokens: int, request: Request, context_length: int) -> int:
    """How many tokens the answer to a prompt of so many may have.

    Raises:
        ContextLengthError: the prompt, or with it the asked output, doesn't fit into the context.
    """
    room = context_length - tokens
    if room < 1:
        raise ContextLengthError(
            f"the prompt has {tokens} tokens, and the context of the model only {context_length}: "
            "shorten the prompt"
        )
    if request.max_tokens is None:
        return room
    if request.max_tokens > room:
        raise ContextLengthError(
            f"the prompt has {tokens} tokens, so that {room} of the {context_length} of the "
            f"context are left, and max_tokens asks for {request.max_tokens}"
        )
    return request.max_tokens


def common_prefix(left: list[int], right: list[int]) -> int:
    """The length of the longest beginning that both lists share."""
    length = min(len(left), len(right))
    if left[:length] == right[:length]:
        return length
    return next(index for index in range(length) if left[index] != right[index])
