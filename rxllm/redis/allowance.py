"""The generic cell rate algorithm in memory, for a process that is alone."""

from __future__ import annotations

__all__ = ["Allowance"]


class Allowance:
    """What one event loop may use while it can't ask others.

    Args:
        rates: requests and tokens a minute; `None` for no limit.
        burst: seconds of the rates that may be used at once.

    >>> allowance = Allowance((60.0, None), 1.0)
    >>> allowance.take(100, now=5.0), allowance.take(100, now=5.25), allowance.take(100, now=6.0)
    (0.0, 0.75, 0.0)
    """

    def __init__(self, rates: tuple[float | None, float | None], burst: float) -> None:
        self._seconds = tuple(0.0 if rate is None else 60.0 / rate for rate in rates)
        self._burst = burst
        self._back_at = [0.0, 0.0]  # when all of what was used will have come back
        self._paused_until = 0.0

    def take(self, tokens: float, now: float) -> float:
        """Return the seconds to wait; 0.0 if a request is permitted, which is then counted."""
        wait = self._paused_until - now
        for back_at, each, amount in zip(self._back_at, self._seconds, (1, tokens), strict=True):
            needed = min(amount * each, self._burst)
            wait = max(wait, max(back_at, now) + needed - self._burst - now)
        if wait <= 0:
            self.use(tokens, now)
        return max(0.0, wait)

    def use(self, tokens: float, now: float) -> None:
        """Count a request that others have permitted."""
        self._back_at[0] = max(self._back_at[0], now) + self._seconds[0]
        self.correct(tokens, now)

    def correct(self, tokens: float, now: float) -> None:
        """Count tokens, or give some back."""
        self._back_at[1] = max(now, max(self._back_at[1], now) + tokens * self._seconds[1])

    def pause(self, seconds: float, now: float) -> None:
        """Permit nothing for `seconds`."""
        self._paused_until = max(self._paused_until, now + seconds)
