"""How long to wait before asking again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, TypeAlias

from rxllm.errors import ProviderError

__all__ = ["LONGEST_RETRY_AFTER", "Backoff", "Jitter", "check_attempts"]

Jitter: TypeAlias = bool | Callable[[float], float]
"""True: "full jitter". False: none. A function: from the delay in seconds to the one to wait."""

LONGEST_RETRY_AFTER: Final = 120.0
"""Seconds: who is told to wait longer than this does not wait."""


def check_attempts(attempts: int) -> None:
    """Check how often a model may be asked.

    Raises:
        ValueError: it is below 1.
    """
    if attempts < 1:
        raise ValueError(f"attempts is how often the model is asked in all, 1 or more: {attempts}")


class Backoff:
    """Exponential delays with jitter, and those that a provider asks for.

    Full jitter takes a random delay between 0 and the exponential one, so that clients that failed
    at one time don't come back at one time; of the ways to spread them it needs the fewest calls
    (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Args:
        initial: seconds before the second attempt, 0 or more.
        factor: by which each delay is longer than the one before, 1 or more.
        max_delay: seconds at most, 0 or more.
        jitter: see `Jitter`.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: `jitter` is neither a bool nor a function.

    >>> backoff = Backoff(1.0, 2.0, 60.0, jitter=False)
    >>> [backoff.delay(failures) for failures in (1, 2, 3, 7, 5000)]
    [1.0, 2.0, 4.0, 60.0, 60.0]
    """

    def __init__(self, initial: float, factor: float, max_delay: float, jitter: Jitter) -> None:
        infinity = float("inf")
        if not 0 <= initial < infinity:
            raise ValueError(f"initial is the first delay in seconds, 0 or more: {initial}")
        if not 1 <= factor < infinity:
            raise ValueError(f"factor is how much longer each delay is, 1 or more: {factor}")
        if not 0 <= max_delay < infinity:
            raise ValueError(f"max_delay is the longest delay in seconds, 0 or more: {max_delay}")
        if not (isinstance(jitter, bool) or callable(jitter)):
            raise TypeError(f"jitter is True, False or a function of the delay, not {jitter!r}")
        self._initial, self._factor, self._max_delay = initial, factor, max_delay
        self._jitter: Callable[[float], float] | None = _full_jitter if jitter is True else None
        if callable(jitter):
            self._jitter = jitter

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures, 1 or more."""
        try:
            delay = min(self._max_delay, self._initial * float(self._factor) ** (failures - 1))
        except OverflowError:
            delay = self._max_delay if self._initial else 0.0
        return delay if self._jitter is None else self._jitter(delay)

    def delay_after(self, error: Exception, failures: int) -> float | None:
        """The same, and not less than the provider asks for; None if it asks for too much."""
        asked = error.retry_after if isinstance(error, ProviderError) else None
        if asked is not None and asked > LONGEST_RETRY_AFTER:
            return None
        return max(asked or 0.0, self.delay(failures))


def _full_jitter(delay: float) -> float:
    return random.uniform(0, delay)  # noqa: S311 - nobody is to be kept from guessing it
