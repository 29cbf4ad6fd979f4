"""The decision of a recovery operator at each failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from reactivex import Observable

from rxllm.chunks import Chunk, Notice

__all__ = ["Attempt", "Plan", "StreamOrFactory"]

StreamOrFactory: TypeAlias = Observable[Chunk] | Callable[[], Observable[Chunk]]
"""A stream, or a function that returns one when it is needed and may raise."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The next attempt.

    Args:
        stream: the stream to subscribe to, or `None` if only `after_output` provides one.
        notice: sent immediately.
        delay: seconds between the notice and the subscription.
        otherwise: for a stream that can't continue an answer, such as an apology: the error to end
            with if part of an answer was passed on and there is no restart.
    """

    stream: StreamOrFactory | None
    notice: Notice
    delay: float = 0.0
    otherwise: Exception | None = None


Plan: TypeAlias = Callable[[Exception], Attempt | Exception]
"""Called at each failure: returns the next attempt, or the error to end with."""
