"""Measuring two ways of doing the same work, side by side in one run."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

ROUNDS = 7


@dataclass(frozen=True)
class Result:
    """Medians of `ROUNDS` rounds. `ratio` is ours to the baseline's, in the named quantity."""

    work: str
    ours: str
    baseline: str
    ratio: float
    budget: str
    is_within: bool


def cost_of(work: Callable[[], object], items: int) -> float:
    """CPU time in microseconds an item, of all threads."""
    started = time.process_time()
    work()
    return (time.process_time() - started) / items * 1e6


def alternate(
    ours: Callable[[], float], baseline: Callable[[], float], rounds: int = ROUNDS
) -> tuple[float, float]:
    """Medians of both, measured in turn so that whatever else goes on strikes both alike."""
    gc.collect()
    gc.freeze()  # nobody has to look through what other benchmarks have left in memory
    ours(), baseline()  # what is loaded or compiled once is not measured
    pairs = [(ours(), baseline()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def compare(
    work: str,
    ours: Callable[[], float],
    baseline: Callable[[], float],
    *,
    unit: str,
    limit: float,
    kind: Literal["at most", "at least"],
    rounds: int = ROUNDS,
) -> Result:
    """Measure and judge: is ours `kind` `limit` times the baseline?"""
    one, other = alternate(ours, baseline, rounds)
    ratio = one / other
    is_within = ratio <= limit if kind == "at most" else ratio >= limit
    return Result(
        work, f"{one:.2f} {unit}", f"{other:.2f} {unit}", ratio, f"{kind} {limit:g} x", is_within
    )
