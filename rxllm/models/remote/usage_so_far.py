"""The usage of a stream that is still running, as far as the provider doesn't say it."""

from __future__ import annotations

import math
from typing import Final

from msgspec.structs import replace

from rxllm.chunks import Chunk, End, Reasoning, Start, Token, ToolCall, Usage
from rxllm.requests import Request
from rxllm.token_count import CHARACTERS_PER_TOKEN, estimated_tokens

__all__ = ["UsageSoFar"]

_INTERVAL: Final = 16
"""Tokens between two estimates, at least; after a count of the provider, twice as many."""

_PART: Final = 4
"""An estimate is at most a quarter behind, so that a long answer gets few of them."""


class UsageSoFar:
    """Adds estimates of the usage to the chunks of one answer.

    Most providers report the usage at the end, so a stream that is left early, or fails, would have
    none although it is billed. The first estimate, of the prompt, comes with the `Start`. A count
    of the provider replaces it, and what is written after the count is estimated on top of it. An
    answer that ends without any count gets an estimate before its `End`.

    A piece of the answer counts as one token, or as one for each four characters if those are more.

    Args:
        request: the request.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._usage = Usage(estimated=True)  # the last one, counted or estimated
        self._counted = 0  # tokens of the answer in the last count
        self._pieces = 0  # since then
        self._characters = 0
        self._told = 0  # tokens since then in the last estimate
        self._next = math.inf  # tokens since then at which an estimate is due

    def add_to(self, chunks: list[Chunk], *, fails: bool = False) -> None:
        """Add the estimates that are due to the chunks of one read, in place.

        Their places don't depend on how the answer is cut into reads.

        Args:
            chunks: those of whole events.
            fails: the answer fails after them, so an estimate is due if anything is new.
        """
        estimates: list[tuple[int, Usage]] = []
        for place, chunk in enumerate(chunks):
            if type(chunk) is Token or type(chunk) is Reasoning:
                self._pieces += 1
                self._characters += len(chunk.text)
            elif type(chunk) is ToolCall:
                self._pieces += 1
            elif type(chunk) is Usage:
                self._count(chunk)
            elif type(chunk) is Start:
                following = chunks[place + 1 : place + 2]
                self._begin(is_counted=any(type(each) is Usage for each in following))
            elif type(chunk) is End:
                if self._usage.estimated:
                    estimates.append((place, self._estimate()))
                break
            if self._written >= self._next:
                estimates.append((place + 1, self._estimate()))
        if fails and self._written > self._told:
            estimates.append((len(chunks), self._estimate()))
        for place, estimate in reversed(estimates):
            chunks.insert(place, estimate)

    @property
    def _written(self) -> int:
        return max(self._pieces, self._characters // CHARACTERS_PER_TOKEN)

    def _begin(self, *, is_counted: bool) -> None:
        """Estimate the prompt; that is due at once, unless the provider's count comes next."""
        self._usage = Usage(estimated_tokens(self._request).tokens, estimated=True)
        self._next = _INTERVAL if is_counted else 0

    def _count(self, usage: Usage) -> None:
        self._usage = usage
        self._counted = usage.output_tokens
        self._pieces = self._characters = self._told = 0
        self._next = 2 * _INTERVAL + self._counted // _PART

    def _estimate(self) -> Usage:
        self._told = self._written
        total = self._counted + self._told
        self._next = self._told + max(_INTERVAL, total // _PART)
        self._usage = replace(self._usage, output_tokens=total, estimated=True)
        return self._usage
