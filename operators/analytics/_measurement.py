"""`Measurement` and `Intervals`: the results of `measure`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import sub
from typing import Final, Literal

import msgspec

from rxllm.answer_counts import AnswerCounts
from rxllm.chunks import Chunk, ErrorInfo, Outcome
from rxllm.operators.analytics._loading import LoadingTime
from rxllm.operators.analytics._quantiles import Quantiles
from rxllm.operators.analytics._run import Run

__all__ = ["BLOCK", "Intervals", "Measurement"]

BLOCK: Final = 512
"""How many token times are folded into the figures at once."""


class Intervals(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Statistics of the times between tokens. All but `count` are `None` before the second token.

    Args:
        count: number of intervals.
        mean: in seconds.
        deviation: population standard deviation, in seconds.
        variation: coefficient of variation, deviation / mean, in percent; also `None` if all
            tokens were simultaneous.
        p50, p95, p99: percentiles, in seconds; exact up to 1,024 intervals, and within about 1 %
            of the rank beyond that.
    """

    count: int = 0
    mean: float | None = None
    deviation: float | None = None
    variation: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Measurement:
    """The figures of one stream, readable while it runs.

    Attributes:
        outcome: `"running"`, then `"completed"`, `"failed"` or `"cancelled"`.
        counts: number of tokens by source; written by `measure`.
        run: the answers and tool calls; written by `measure`.
        model: from the last `Start`; `None` before it.
        error: why the stream failed; `None` if it has not.
        moments: times of the latest tokens, in seconds; written by `measure` and folded into the
            figures block by block.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.outcome: Outcome | Literal["running"] = "running"
        self.counts: AnswerCounts = AnswerCounts()
        self._pieces: int | None = None  # once `counts` are those of `Usage`
        self.run: Run = Run(clock)
        self.model: str | None = None
        self.error: ErrorInfo | None = None
        self._clock = clock
        self._begun = clock()
        self._ended: float | None = None
        self._first: float | None = None
        self._loading = LoadingTime(clock)
        self.moments: list[float] = []
        self._intervals = 0
        self._mean = 0.0
        self._squares = 0.0  # the sum of the squared distances from the mean
        self._quantiles = Quantiles()

    def __repr__(self) -> str:
        first, rate = self.time_to_first_token, self.tokens_per_second
        return (
            f"Measurement(outcome={self.outcome!r}, model={self.model!r}, tokens={self.tokens}, "
            f"time_to_first_token={first}, elapsed={self.elapsed}, tokens_per_second={rate})"
        )

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from the subscription to the first token; `None` before it.

        The time in which a local model was loaded isn't counted.
        """
        self.fold()
        return None if self._first is None else self._first - self._begun - self.loading

    @property
    def loading(self) -> float:
        """Seconds in which a local model was loaded for this stream, before its first token."""
        return self._loading.seconds

    def note_loading(self, chunk: Chunk) -> None:
        """Called by `measure` at each `Start` and `Notice`."""
        if self._first is None and not self.moments:  # only a load before the first token delays it
            self._loading.add(chunk)

    @property
    def tokens(self) -> int:
        """The number of tokens, over all sources."""
        return sum(self.counts.values())

    @property
    def pieces(self) -> int:
        """The number of pieces in which text and reasoning came, over all sources."""
        return self.tokens if self._pieces is None else self._pieces

    @property
    def steps(self) -> int:
        """The number of answers: several in a run of an agent, without those of nested runs."""
        return self.run.steps

    @property
    def tool_calls(self) -> int:
        """The number of tool calls with a result, without those of nested runs."""
        return self.run.tool_calls

    @property
    def elapsed(self) -> float:
        """Seconds from the subscription until now, or until the end."""
        return (self._clock() if self._ended is None else self._ended) - self._begun

    @property
    def tokens_per_second(self) -> float | None:
        """`tokens / elapsed`; `None` until time has passed."""
        elapsed = self.elapsed
        return self.tokens / elapsed if elapsed > 0 else None

    @property
    def intervals(self) -> Intervals:
        """The times between tokens, over all sources in order of arrival."""
        self.fold()
        count = self._intervals
        if not count:
            return Intervals()
        deviation = math.sqrt(self._squares / count)
        p50, p95, p99 = self._quantiles(0.5, 0.95, 0.99)
        return Intervals(
            count=count,
            mean=self._mean,
            deviation=deviation,
            variation=100 * deviation / self._mean if self._mean > 0 else None,
            p50=p50,
            p95=p95,
            p99=p99,
        )

    def pause(self) -> None:
        """Called by `measure` between two answers of a run: the time between them isn't counted."""
        self.fold()
        self.moments.clear()

    def finish(self, outcome: Outcome, counts: Mapping[str | None, int]) -> None:
        """End the measurement now; `counts` override the counted tokens."""
        self._ended = self._clock()
        self._pieces = self.tokens
        self.outcome = outcome
        self.counts.update(counts)

    def fold(self) -> None:
        """Fold the token times into the figures (Chan's method for combining variances)."""
        moments = self.moments
        if self._first is None and moments:
            self._first = moments[0]
        block = list(map(sub, moments[1:], moments))
        if not block:
            return
        del moments[:-1]
        mean = math.fsum(block) / len(block)
        squares = math.dist(block, [mean] * len(block)) ** 2
        count = self._intervals + len(block)
        distance = mean - self._mean
        self._squares += squares + distance**2 * self._intervals * len(block) / count
        self._mean += distance * len(block) / count
        self._intervals = count
        self._quantiles.add(block)
