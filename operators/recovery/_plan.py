"""What an operator that asks again decides at each failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from reactivex import Observable

from rxllm.chunks import Chunk, Notice

__all__ = ["Attempt", "Plan", "StreamOrFactory"]

StreamOrFactory: TypeAlias = Observable[Chunk] | Callable[[], Observable[Chunk]]
"""A stream, or a function that gives one when it is needed. What it raises is its failure."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What comes next.

    Args:
        stream: to be subscribed to; None where only `after_output` gives one.
        notice: sent at once.
        delay: seconds between the two.
        otherwise: if it can only begin an answer, and not go on with one: the error where the
            subscriber has heard a part of it, and there is no restart.
    """

    stream: StreamOrFactory | None
    notice: Notice
    delay: float = 0.0
    otherwise: Exception | None = None


Plan: TypeAlias = Callable[[Exception], Attempt | Exception]
"""Asked at each failure: what comes next, or the error to end with."""
