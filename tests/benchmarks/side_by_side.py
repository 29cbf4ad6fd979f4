"""Measures several implementations of the same work alternately, in one run."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

ROUNDS = 7

Measure: TypeAlias = Callable[[], float]
"""Does the work once and returns its cost per item."""

Kind: TypeAlias = Literal["at most", "at least"]


@dataclass(frozen=True)
class Row:
    """An implementation of the work, and the limit of its cost relative to the baseline."""

    work: str
    measure: Measure
    limit: float
    kind: Kind = "at most"


@dataclass(frozen=True)
class Result:
    """Medians of the rounds; `ratio` is `ours` divided by `baseline`."""

    work: str
    ours: str
    baseline: str
    ratio: float
    budget: str
    is_within: bool


def cost_of(work: Callable[[], object], items: int) -> float:
    """Return the CPU time of all threads in microseconds per item."""
    started = time.process_time()
    work()
    return (time.process_time() - started) / items * 1e6


def alternate(measures: Sequence[Measure], rounds: int = ROUNDS) -> list[float]:
    """Return the median of each measure, alternating so that other load affects all alike."""
    gc.collect()
    gc.freeze()  # objects left over by other benchmarks are never traversed
    for measure in measures:
        measure()  # warm up: imports, compiled code and open connections
    turns = [[measure() for measure in measures] for _ in range(rounds)]
    return [statistics.median(costs) for costs in zip(*turns, strict=True)]


def compare_all(
    rows: Sequence[Row], baseline: Measure, *, unit: str, rounds: int = ROUNDS
) -> Iterator[Result]:
    """Measure several rows against one baseline, and check their limits."""
    *costs, base = alternate([*(row.measure for row in rows), baseline], rounds)
    for row, cost in zip(rows, costs, strict=True):
        ratio = cost / base
        is_within = ratio <= row.limit if row.kind == "at most" else ratio >= row.limit
        yield Result(
            row.work,
            f"{cost:.2f} {unit}",
            f"{base:.2f} {unit}",
            ratio,
            f"{row.kind} {row.limit:g} x",
            is_within,
        )


def compare(
    work: str,
    ours: Measure,
    baseline: Measure,
    *,
    unit: str,
    limit: float,
    kind: Kind,
    rounds: int = ROUNDS,
) -> Result:
    """Measure one row against a baseline: its cost must be `kind` `limit` times the baseline's."""
    return next(compare_all([Row(work, ours, limit, kind)], baseline, unit=unit, rounds=rounds))
