"""A Prometheus histogram that takes the counts of a stream at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["GapHistogram", "Gaps"]


class Gaps:
    """The counts of one stream.

    Args:
        bounds: upper bounds of the buckets, rising.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value, in seconds."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def merge(self, other: Gaps) -> None:
        """Add the counts of another stream."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class GapHistogram:
    """A histogram as `prometheus_client.Histogram`, which costs a call for each value.

    Args:
        name, text: of the metric.
        labels: the names of the labels.
        bounds: upper bounds of the buckets, rising.
    """

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self._name = name
        self._text = text
        self._labels = tuple(labels)
        self._bounds = list(bounds)
        self._lock = Lock()
        self._gaps: dict[tuple[str, ...], Gaps] = {}

    def start(self) -> Gaps:
        """Return empty counts for a stream."""
        return Gaps(self._bounds)

    def add(self, labels: tuple[str, ...], gaps: Gaps) -> None:
        """Add the counts of a stream."""
        with self._lock:
            self._gaps.setdefault(labels, self.start()).merge(gaps)

    def describe(self) -> Iterator[Metric]:
        """Yield the metric without values: the registry checks its name."""
        from prometheus_client.core import HistogramMetricFamily

        yield HistogramMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        from prometheus_client.core import HistogramMetricFamily

        metric = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        with self._lock:
            found = [(labels, gaps.counts, gaps.total) for labels, gaps in self._gaps.items()]
        for labels, counts, total in found:
            bounds = [*map(str, self._bounds), "+Inf"]
            buckets = list(zip(bounds, map(float, accumulate(counts)), strict=True))
            metric.add_metric(labels, buckets=buckets, sum_value=total)
        yield metric
