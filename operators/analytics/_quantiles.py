"""Quantiles of any number of values, using little memory."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Quantiles"]

_CAPACITY = 1024


class Quantiles:
    """A quantile sketch: exact up to 1,024 values, approximate beyond.

    The sketch keeps levels of at most 1,024 values. A full level is sorted, and every second value
    moves up to the next level, where it represents twice as many (Karnin, Lang and Liberty, 2016,
    but alternating between odd and even values, so that results are deterministic). Memory grows
    by one level each time the number of values doubles, and adding a value costs little more than
    sorting it.
    """

    def __init__(self) -> None:
        self._levels: list[list[float]] = [[]]
        self._odd = 0

    def add(self, values: Iterable[float]) -> None:
        """Add values; cheapest in blocks."""
        self._levels[0].extend(values)
        for number, level in enumerate(self._levels):
            if len(level) <= _CAPACITY:
                break
            if number + 1 == len(self._levels):
                self._levels.append([])
            level.sort()
            even = len(level) - len(level) % 2
            self._levels[number + 1].extend(level[self._odd : even : 2])
            del level[:even]
            self._odd ^= 1

    def __call__(self, *fractions: float) -> list[float]:
        """Return the quantiles of all values at these fractions (0..1).

        Raises:
            ValueError: there are no values.
        """
        weighted = sorted(
            (value, 1 << number) for number, level in enumerate(self._levels) for value in level
        )
        if not weighted:
            raise ValueError("there are no values")
        total = sum(weight for _, weight in weighted)
        return [_at(weighted, fraction * total) for fraction in fractions]


def _at(weighted: list[tuple[float, int]], rank: float) -> float:
    passed = 0
    for value, weight in weighted:
        passed += weight
        if passed >= rank:
            return value
    return weighted[-1][0]
