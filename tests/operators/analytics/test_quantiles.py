"""The sketch behind p50, p95 and p99: exact for few values, approximate for many, and small."""

import random
from bisect import bisect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.operators.analytics._quantiles import Quantiles


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.floats(0.01, 1))
def test_few_values_are_exact(values: list[float], fraction: float) -> None:
    quantiles = Quantiles()
    quantiles.add(values)
    (found,) = quantiles(fraction)
    ordered = sorted(values)
    below = sum(value < found for value in ordered)
    assert below < fraction * len(ordered) + 1e-9
    assert bisect(ordered, found) >= fraction * len(ordered) - 1e-9


@pytest.mark.parametrize("order", ["random", "rising", "falling"])
def test_many_values_are_approximate(order: str) -> None:
    values = _many(order)
    quantiles = Quantiles()
    for start in range(0, len(values), 500):
        quantiles.add(values[start : start + 500])
    ordered = sorted(values)
    for fraction, found in zip((0.5, 0.95, 0.99), quantiles(0.5, 0.95, 0.99), strict=True):
        assert bisect(ordered, found) / len(ordered) == pytest.approx(fraction, abs=0.002)


def test_memory_stays_small() -> None:
    quantiles = Quantiles()
    for _ in range(400):
        quantiles.add([random.Random(7).random() for _ in range(500)])
    assert sum(map(len, quantiles._levels)) < 12_000


def test_without_values_there_is_no_quantile() -> None:
    with pytest.raises(ValueError, match="no values"):
        Quantiles()(0.5)


def _many(order: str) -> list[float]:
    generator = random.Random(7)
    values = [generator.expovariate(50) for _ in range(50_000)]
    if order == "random":
        return values
    return sorted(values, reverse=order == "falling")
