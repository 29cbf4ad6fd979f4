"""Strategies that order the models of a router: functions from candidates to candidates.

A strategy receives all candidates, in the order in which the router was given them, and returns
those to try, first choice first. Candidates that it omits are not tried. Write your own:

>>> def local_first(candidates):
...     return sorted(candidates, key=lambda candidate: candidate.info.provider not in LOCAL)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from rxllm.models.registry import LOCAL_PROVIDERS
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

LOCAL: Final = (*LOCAL_PROVIDERS, "scripted")
"""The framework's providers that run on this machine; their models are free."""

_NEVER: Final = float("inf")
_USUAL: Final = 200
"""Length in tokens of the answer whose time is compared."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A model of a router with its measured figures, which are `None` until measured.

    The averages are exponential: each stream contributes 30 % of the updated value.

    Attributes:
        info: the model.
        position: index in the list that the router was given, from 0, best first.
        price: USD per million output tokens; `None` if not in the price table, as for local models.
        first_token: seconds to the first token, or the seconds that the subscriber waited for it.
        tokens_per_second: measured from the first token; for an answer that arrived all at once,
            over its whole duration.
        error_rate: share of its streams that failed because of the model, 0..1.
        streams: number of its streams that have ended, including cancelled ones.
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
        """The expected duration of an answer of 200 tokens, in seconds.

        0.0 before anything was measured, so that the model gets measured; infinity if it has failed
        and never answered.
        """
        if self.first_token is None:
            return _NEVER if self.error_rate else 0.0
        generating = _USUAL / self.tokens_per_second if self.tokens_per_second else 0.0
        return self.first_token + generating


Strategy: TypeAlias = Callable[[Sequence[Candidate]], Sequence[Candidate]]
"""Takes all candidates, in the order given; returns those to try, first choice first."""


def quality_first(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Keep the order given, which is that of quality."""
    return sorted(candidates, key=_position)


def fastest_first(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Order by expected time, adjusted for failures: failing half the time doubles it.

    A model without measurements comes first, so that it gets measured; one that has failed and
    never answered comes last.
    """
    return sorted(candidates, key=_time)


def cheapest_first(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Order by price. A model without a price is free if its provider is one of `LOCAL`.

    Other models without a price come last, including your own engine or a server on this machine.
    Give those a price of 0 in the table.
    """
    return sorted(candidates, key=_price)


def balanced(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Order by the sum of the ranks in quality, speed and price, plus a penalty for failures.

    A rank is the share of the other models that are better (Borda count), which makes seconds and
    dollars comparable; an error rate of one half weighs as much as a whole rank.
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
