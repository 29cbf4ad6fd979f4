"""Delays between attempts."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from rxllm.arguments import check_int, check_number
from rxllm.errors import ProviderError

__all__ = ["LONGEST_DELAY", "LONGEST_RETRY_AFTER", "Backoff", "Growth", "Jitter", "check_attempts"]

Growth: TypeAlias = Literal["exponential", "linear"]

Jitter: TypeAlias = bool | Callable[[float], float]
"""`True` for full jitter, `False` for none, or a function of the delay that returns the wait."""

LONGEST_RETRY_AFTER: Final = 120.0
"""In seconds. A longer Retry-After fails immediately."""

LONGEST_DELAY: Final = 365 * 86_400.0
"""In seconds. An upper bound for every wait that any clock can handle."""


def check_attempts(attempts: int) -> None:
    """Check the maximum number of attempts.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is below 1.
    """
    check_int("attempts", attempts, "the maximum number of attempts")


class Backoff:
    """Growing delays with jitter that honour a provider's Retry-After.

    Full jitter takes a random delay between 0 and the exponential one, so that clients that failed
    at the same time don't all retry at the same time. Of the common strategies it needs the fewest
    calls (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Args:
        initial: seconds before the second attempt, 0 or more.
        factor: multiplies the delay after each failure, 1 or more.
        max_delay: the longest delay in seconds, 0 or more.
        jitter: see `Jitter`.
        growth: `"exponential"`, or `"linear"`: `initial` times the number of failures.

    Raises:
        ValueError: an argument is out of range.
        TypeError: an argument is not a number, or `jitter` is neither a bool nor a function.

    >>> backoff = Backoff(1.0, 2.0, 60.0, jitter=False)
    >>> [backoff.delay(failures) for failures in (1, 2, 3, 7, 5000)]
    [1.0, 2.0, 4.0, 60.0, 60.0]
    """

    def __init__(
        self,
        initial: float,
        factor: float,
        max_delay: float,
        jitter: Jitter,
        growth: Growth = "exponential",
    ) -> None:
        if growth not in ("exponential", "linear"):
            raise ValueError(f"growth must be 'exponential' or 'linear', got {growth!r}")
        self._is_linear = growth == "linear"
        self._initial = check_number("initial", initial, "the first delay in seconds", minimum=0)
        self._factor = check_number("factor", factor, "the growth of the delay", minimum=1)
        self._max_delay = check_number(
            "max_delay", max_delay, "the longest delay in seconds", minimum=0
        )
        if not (isinstance(jitter, bool) or callable(jitter)):
            raise TypeError(
                f"jitter must be True, False or a function of the delay, got {jitter!r}"
            )
        self._jitter: Callable[[float], float] | None = _full_jitter if jitter is True else None
        if callable(jitter):
            self._jitter = jitter

    def delay(self, failures: int) -> float:
        """The seconds to wait after this many failures, 1 or more.

        Raises:
            TypeError, ValueError: a jitter function returned something other than a finite number.
        """
        try:
            growth = failures if self._is_linear else self._factor ** (failures - 1)
            delay = min(self._max_delay, self._initial * growth)
        except OverflowError:
            delay = self._max_delay if self._initial else 0.0
        if self._jitter is not None:
            delay = check_number("the result of jitter", self._jitter(delay), "seconds to wait")
        return min(delay, LONGEST_DELAY)

    def delay_after(self, error: Exception, failures: int) -> float | None:
        """The same, but at least the provider's Retry-After, or `None` if that is too long."""
        asked = (error.retry_after if isinstance(error, ProviderError) else None) or 0.0
        if asked > LONGEST_RETRY_AFTER:
            return None
        return max(0.0 if math.isnan(asked) else asked, self.delay(failures))


def _full_jitter(delay: float) -> float:
    return random.uniform(0, delay)  # noqa: S311 - it needn't be unpredictable
