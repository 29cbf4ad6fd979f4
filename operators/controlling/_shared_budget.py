"""`Budget`: what streams may spend together."""

from __future__ import annotations

from threading import Lock
from typing import Final

from rxllm.arguments import check_int, check_number
from rxllm.operators.controlling._after_fork import clear_after_fork

__all__ = ["PICODOLLARS", "Budget"]

PICODOLLARS: Final = 10**12
"""In a dollar. Spending is counted in whole ones, so that its sum is exact in any order."""

_NO_LIMIT: Final = 1 << 100


class Budget:
    """Dollars and tokens for all streams that have `budget(this)` in their pipe.

    One budget may serve streams of any number of models, on any number of event loops, but of one
    process: in a forked child, what was spent before the fork counts, and nothing that the others
    spend after it.

    What was spent may decrease, when a provider counts fewer tokens than were estimated.

    Args:
        usd: dollars, above 0; `None` for no limit.
        tokens: tokens read and written, 1 or more; `None` for no limit.

    Raises:
        TypeError: `usd` is not a number, or `tokens` not an integer.
        ValueError: a number is out of range, or neither is given.

    >>> Budget(usd=5, tokens=100_000)
    Budget(usd=5.0, tokens=100000): 0 USD, 0 tokens spent
    """

    def __init__(self, usd: float | None = None, tokens: int | None = None) -> None:
        if usd is None and tokens is None:
            raise ValueError("a budget needs usd, tokens or both")
        self.usd: float | None = None
        self.tokens: int | None = None
        if usd is not None:
            self.usd = check_number("usd", usd, "the dollars that may be spent", above=0)
        if tokens is not None:
            self.tokens = check_int("tokens", tokens, "the tokens read and written")
        dollars = _NO_LIMIT if self.usd is None else max(1, round(self.usd * PICODOLLARS))
        self._most_dollars = dollars
        self._most_tokens = _NO_LIMIT if self.tokens is None else self.tokens
        self._spent = _Spent()

    def __repr__(self) -> str:
        return (
            f"Budget(usd={self.usd}, tokens={self.tokens}): "
            f"{self.spent_usd:g} USD, {self.spent_tokens} tokens spent"
        )

    @property
    def spent_usd(self) -> float:
        """The dollars spent, on models whose price is known."""
        return self._spent.picodollars / PICODOLLARS

    @property
    def spent_tokens(self) -> int:
        """The tokens read and written."""
        return self._spent.tokens

    @property
    def remaining_usd(self) -> float | None:
        """The dollars that are left, 0 or more; `None` if they aren't limited."""
        return None if self.usd is None else max(0.0, self.usd - self.spent_usd)

    @property
    def remaining_tokens(self) -> int | None:
        """The tokens that are left, 0 or more; `None` if they aren't limited."""
        return None if self.tokens is None else max(0, self.tokens - self.spent_tokens)

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left of the dollars, or of the tokens."""
        spent = self._spent
        return spent.tokens >= self._most_tokens or spent.picodollars >= self._most_dollars

    def spend(self, tokens: int, picodollars: int) -> bool:
        """Add what a stream has spent, and return `is_spent`. Called by `budget`."""
        spent = self._spent
        with spent.lock:
            spent.tokens += tokens
            spent.picodollars += picodollars
        return spent.tokens >= self._most_tokens or spent.picodollars >= self._most_dollars


class _Spent:
    """What was spent; streams of several event loops add to it."""

    def __init__(self) -> None:
        self.tokens = 0
        self.picodollars = 0
        self.clear()
        clear_after_fork(self)

    def clear(self) -> None:
        """Replace the lock: another thread may have held it when the process forked."""
        self.lock = Lock()
