"""How a router orders its models: small functions from candidates to candidates.

A strategy gets all candidates, in the order in which the router was given them, and returns those
that are to be asked, the first choice first. What it leaves out is not asked. Write your own:

>>> def local_first(candidates):
...     return sorted(candidates, key=lambda candidate: candidate.info.provider not in LOCAL)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from rxllm.requests import ModelInfo
from rxllm.requests import Strategy as StrategyName

__all__ = [
    "LOCAL",
    "STRATEGIES",
    "Candidate",
    "Strategy",
    "balanced",
    "cheapest_first",
    "fastest_first",
    "quality_first",
]

LOCAL: Final = ("tiny", "llama", "onnx", "scripted")
"""The providers of this framework that run on this machine: their models cost nothing."""

_NEVER: Final = float("inf")
_USUAL: Final = 200
"""Tokens of an answer whose time and price are compared."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A model of a router, and how it has fared there. What has not been measured is None.

    The averages are exponential: each stream counts for 30 % of what is known after it.

    Attributes:
        info: the model.
        position: its place in the list that the router was given, from 0: the best one first.
        price: USD per million tokens of output; None if it is not in the table of prices, as it is
            for local models.
        first_token: seconds to the first token, or as many as were waited for it.
        tokens_per_second: from the first token on; of an answer that came in one piece, in all its
            time.
        error_rate: the share of its streams that failed through its fault, 0..1.
        streams: how many of its streams have ended, those that were cancelled included.
    """

    info: ModelInfo
    position: int
    price: float | None = None
    first_token: float | None = None
    tokens_per_second: float | None = None
    error_rate: float = 0.0
    streams: int = 0

    @property
    def seconds(self) -> float:
        """What an answer of 200 tokens takes.

        0.0 before anything is known, so that it will be; infinity if it has failed, and never
        answered.
        """
        if self.first_token is None:
            return _NEVER if self.error_rate else 0.0
        generating = _USUAL / self.tokens_per_second if self.tokens_per_second else 0.0
        return self.first_token + generating


Strategy: TypeAlias = Callable[[Sequence[Candidate]], Sequence[Candidate]]
"""All candidates, in the order given; returns those to be asked, the first choice first."""


def quality_first(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """The models in the order given, which is that of their quality."""
    return sorted(candidates, key=_position)


def fastest_first(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """By the time of an answer, lengthened by failures: one that fails half the time takes twice.

    A model of which nothing is known yet comes first, so that it is measured; one that has failed
    and never answered comes last.
    """
    return sorted(candidates, key=_time)


def cheapest_first(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """By price. A model without one costs nothing if its provider is one of `LOCAL`.

    Any other comes last: an engine of your own, or a server on this machine, too. Give it a price
    of 0 in the table.
    """
    return sorted(candidates, key=_price)


def balanced(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """By the sum of the ranks in quality, speed and price, and of failures.

    A rank is the share of the other models that are better (Borda's count), so that seconds and
    dollars can be added; a failure rate of one half weighs as much as a whole rank.
    """
    others = max(len(candidates) - 1, 1)

    def loss(candidate: Candidate) -> float:
        better = sum(
            key(other) < key(candidate)
            for key in (_position, _time, _price)
            for other in candidates
        )
        return better / others + 2 * candidate.error_rate

    return sorted(candidates, key=lambda each: (loss(each), each.position))


STRATEGIES: Final[Mapping[StrategyName, Strategy]] = {
    "quality": quality_first,
    "balanced": balanced,
    "speed": fastest_first,
    "cost": cheapest_first,
}


def _position(candidate: Candidate) -> float:
    return candidate.position


def _time(candidate: Candidate) -> float:
    succeeds = 1.0 - candidate.error_rate
    return candidate.seconds / succeeds if succeeds > 0 else _NEVER


def _price(candidate: Candidate) -> float:
    if candidate.price is not None:
        return candidate.price
    return 0.0 if candidate.info.provider in LOCAL else float("inf")
