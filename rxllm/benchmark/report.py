"""The results of a benchmark: its runs, and a row of figures for each model and case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median

import msgspec

from rxllm.chunks import ErrorInfo, FinishReason, ToolCall
from rxllm.operators.analytics import Intervals

__all__ = ["BenchmarkReport", "BenchmarkRow", "BenchmarkRun"]


class BenchmarkRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One answer, or one failure.

    Attributes:
        model, case: their names.
        number: of this run of the case on the model, from 1.
        elapsed: seconds from the subscription to the end.
        time_to_first_token: seconds; `None` if there was no token.
        intervals: the times between tokens.
        tokens: number of tokens in the answer, as reported by `Usage` or counted.
        tokens_per_second: `None` if no time has passed.
        answer: the text, or the part received before a failure.
        tool_calls: the complete tool calls of the model.
        as_expected: whether the answer matches what the case expects; `None` if it expects nothing.
        error: why the run failed.
    """

    model: str
    case: str
    number: int
    elapsed: float
    intervals: Intervals
    tokens: int
    time_to_first_token: float | None = None
    tokens_per_second: float | None = None
    answer: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    as_expected: bool | None = None
    error: ErrorInfo | None = None


class BenchmarkRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All runs of one case on one model. Failed runs count only in `runs`, `failed` and `errors`.

    Attributes:
        time_to_first_token, tokens_per_second: median over the runs.
        interval: mean time between tokens in seconds, over all runs.
        variation: coefficient of variation of these times in percent, mean over the runs.
        p95: 95th percentile of these times in seconds, median over the runs.
        consistency: share of the runs with the most frequent answer, 0..1: the same text and the
            same tool calls, ignoring their ids; `None` with fewer than two answers.
        as_expected: share of the runs whose answer matches what the case expects, 0..1.
        errors: number of failed runs, by error class.
    """

    model: str
    case: str
    runs: int
    failed: int
    time_to_first_token: float | None
    interval: float | None
    variation: float | None
    p95: float | None
    tokens_per_second: float | None
    consistency: float | None
    as_expected: float | None
    errors: dict[str, int]


class BenchmarkReport(msgspec.Struct, frozen=True):
    """A row of figures for each model and case, and the runs that they are computed from."""

    rows: tuple[BenchmarkRow, ...]
    runs: tuple[BenchmarkRun, ...]

    @classmethod
    def of(cls, runs: Iterable[BenchmarkRun]) -> BenchmarkReport:
        """Return the report on `runs`, such as those done before a benchmark was stopped."""
        rows: dict[tuple[str, str], list[BenchmarkRun]] = {}
        done = tuple(runs)
        for run in done:
            rows.setdefault((run.model, run.case), []).append(run)
        return cls(tuple(map(_row, rows.values())), done)

    @property
    def failed(self) -> int:
        """The number of failed runs."""
        return sum(row.failed for row in self.rows)


def _row(runs: Sequence[BenchmarkRun]) -> BenchmarkRow:
    answered = [run for run in runs if run.error is None]
    intervals = [run.intervals for run in answered if run.intervals.count]
    total = sum(each.count for each in intervals)
    answers = Counter(map(_answer_key, answered))
    expected = [run.as_expected for run in answered if run.as_expected is not None]
    return BenchmarkRow(
        model=runs[0].model,
        case=runs[0].case,
        runs=len(runs),
        failed=len(runs) - len(answered),
        time_to_first_token=_of(median, (run.time_to_first_token for run in answered)),
        interval=sum((each.mean or 0.0) * each.count for each in intervals) / total
        if total
        else None,
        variation=_of(fmean, (each.variation for each in intervals)),
        p95=_of(median, (each.p95 for each in intervals)),
        tokens_per_second=_of(median, (run.tokens_per_second for run in answered)),
        consistency=max(answers.values()) / len(answered) if len(answered) > 1 else None,
        as_expected=sum(expected) / len(expected) if expected else None,
        errors=dict(Counter(run.error.type for run in runs if run.error is not None)),
    )


def _answer_key(run: BenchmarkRun) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return a key that is equal for identical answers."""
    return run.answer, tuple((call.name, call.arguments) for call in run.tool_calls)


def _of(
    statistic: Callable[[Iterable[float]], float], values: Iterable[float | None]
) -> float | None:
    known = [value for value in values if value is not None]
    return statistic(known) if known else None
