"""Quantiles of any number of values, in little memory."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Quantiles"]

_CAPACITY = 1024


class Quantiles:
    """A sketch of values: exact up to 1,024 of them, and near beyond.

    It keeps levels of at most 1,024 values. A full one is sorted, and every second value of it
    goes up to the next level, where it stands for twice as many (Karnin, Lang and Liberty, 2016,
    with the odd and the even values taken in turn, so that it is repeatable). So memory grows by
    one level when the number of values doubles, and a value costs little more than a sort.
    """

    def __init__(self) -> None:
        self._levels: list[list[float]] = [[]]
        self._odd = 0

    def add(self, values: Iterable[float]) -> None:
        """Take in more values; cheapest in blocks."""
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
        """The values below or at which these fractions (0..1) of all values lie.

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
