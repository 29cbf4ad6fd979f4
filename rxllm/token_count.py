"""How many tokens a prompt has, where no tokenizer knows it."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from rxllm.chunks import ToolCall
from rxllm.messages import FilePart, ImagePart, Part
from rxllm.requests import Request

__all__ = ["CHARACTERS_PER_TOKEN", "TokenCount", "estimated_tokens"]

CHARACTERS_PER_TOKEN: Final = 4
"""ASCII characters of a token, on average in English; https://platform.openai.com/tokenizer."""

_OTHERS: Final = 1.5
"""Other characters of a token: scripts without spaces have one to two."""

_AROUND: Final = 4
"""Tokens around each message."""

_IMAGE: Final = 1_000
"""Tokens of an image of usual size, and of a short file: OpenAI counts about 800 for an image,
Anthropic about 1,300."""


class TokenCount(msgspec.Struct, frozen=True):
    """The number of tokens of a prompt, its tools included. `estimated` if nobody counted."""

    tokens: int
    estimated: bool = False


def estimated_tokens(request: Request) -> TokenCount:
    """Estimate the number of tokens of a prompt from its characters.

    >>> from rxllm.requests import as_request
    >>> estimated_tokens(as_request("How many tokens are these?"))
    TokenCount(tokens=11, estimated=True)
    """
    parts = [part for message in request.messages for part in message.parts]
    tokens = sum(map(_tokens_of, parts)) + _AROUND * len(request.messages)
    tokens += _of_text(msgspec.json.encode(request.tools).decode()) if request.tools else 0
    return TokenCount(math.ceil(tokens), estimated=True)


def _tokens_of(part: Part) -> float:
    if isinstance(part, ImagePart | FilePart):
        return _IMAGE
    if isinstance(part, ToolCall):
        return _of_text(part.name + part.arguments)
    return _of_text(part.text)


def _of_text(text: str) -> float:
    ascii_length = len(text.encode("ascii", "ignore"))
    return ascii_length / CHARACTERS_PER_TOKEN + (len(text) - ascii_length) / _OTHERS
