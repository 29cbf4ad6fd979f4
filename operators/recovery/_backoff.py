"""How long to wait before asking again."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final, TypeAlias

from rxllm.arguments import check_int, check_number
from rxllm.errors import ProviderError

__all__ = ["LONGEST_DELAY", "LONGEST_RETRY_AFTER", "Backoff", "Jitter", "check_attempts"]

Jitter: TypeAlias = bool | Callable[[float], float]
"""True: "full jitter". False: none. A function: from the delay in seconds to the one to wait."""

LONGEST_RETRY_AFTER: Final = 120.0
"""Seconds: who is told to wait longer than this does not wait."""

LONGEST_DELAY: Final = 365 * 86_400.0
"""Seconds: no wait is longer, whatever is asked for. Any clock can take it."""


def check_attempts(attempts: int) -> None:
    """Check how often a model may be asked.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is below 1.
    """
    check_int("attempts", attempts, "how often the model is asked")


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
        TypeError: one is not a number, or `jitter` is neither a bool nor a function.

    >>> backoff = Backoff(1.0, 2.0, 60.0, jitter=False)
    >>> [backoff.delay(failures) for failures in (1, 2, 3, 7, 5000)]
    [1.0, 2.0, 4.0, 60.0, 60.0]
    """

    def __init__(self, initial: float, factor: float, max_delay: float, jitter: Jitter) -> None:
        self._initial = check_number("initial", initial, "the first delay in seconds", minimum=0)
        self._factor = check_number("factor", factor, "how much longer each delay is", minimum=1)
        self._max_delay = check_number(
            "max_delay", max_delay, "the longest delay in seconds", minimum=0
        )
        if not (isinstance(jitter, bool) or callable(jitter)):
            raise TypeError(f"jitter is True, False or a function of the delay, not {jitter!r}")
        self._jitter: Callable[[float], float] | None = _full_jitter if jitter is True else None
        if callable(jitter):
            self._jitter = jitter

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures, 1 or more.

        Raises:
            TypeError, ValueError: a jitter function gave something else than a finite number.
        """
        try:
            delay = min(self._max_delay, self._initial * self._factor ** (failures - 1))
        except OverflowError:
            delay = self._max_delay if self._initial else 0.0
        if self._jitter is not None:
            delay = check_number("what jitter gives", self._jitter(delay), "the seconds to wait")
        return min(delay, LONGEST_DELAY)

    def delay_after(self, error: Exception, failures: int) -> float | None:
        """The same, and not less than the provider asks for; None if it asks for too much."""
        asked = (error.retry_after if isinstance(error, ProviderError) else None) or 0.0
        if asked > LONGEST_RETRY_AFTER:
            return None
        return max(0.0 if math.isnan(asked) else asked, self.delay(failures))


def _full_jitter(delay: float) -> float:
    return random.uniform(0, delay)  # noqa: S311 - nobody is to be kept from guessing it
