"""A rate limit for the messages of a client."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

__all__ = ["Rate"]

_BURST_SECONDS: Final = 2.0
_BURST_MESSAGES: Final = 10.0


class Rate:
    """A token bucket for messages.

    Refused messages count as well: a client that keeps sending goes further into debt until the
    connection is closed; one that waits is soon served again.

    Args:
        per_second: average rate of messages. A burst may have two seconds' worth, or 10.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._burst = self._left = max(per_second * _BURST_SECONDS, _BURST_MESSAGES)
        self._clock = asyncio.get_running_loop().time
        self._counted_at = self._clock()

    def take(self) -> Literal["serve", "refuse", "close"]:
        """Count a message, and return what to do with it."""
        now = self._clock()
        filled = self._left + (now - self._counted_at) * self._per_second
        self._left = min(filled, self._burst) - 1
        self._counted_at = now
        if self._left >= 0:
            return "serve"
        return "refuse" if self._left >= -self._burst else "close"
