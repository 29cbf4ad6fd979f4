"""Cases put to models: how fast they answer, how evenly, and whether always the same.

>>> from rxllm import run
>>> from rxllm.models.scripted import ScriptedModel
>>> report = run(benchmark({"scripted": ScriptedModel("Once upon a time")}, [Case("Hi", "Hi")]))
>>> row = report.rows[0]
>>> row.model, row.case, row.runs, row.failed, row.consistency
('scripted', 'Hi', 3, 0, 1.0)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

import msgspec

from rxllm.chunks import ErrorInfo, FinishReason
from rxllm.operators.analytics import Intervals, Measurement, measure
from rxllm.requests import Model, as_request
from rxllm.sinks import collect

__all__ = ["BenchmarkReport", "BenchmarkRow", "BenchmarkRun", "Case", "benchmark"]


class Case(msgspec.Struct, frozen=True):
    """What every model is asked.

    Args:
        name: of the case, in reports.
        prompt: the question.
        options: fields of `Request`, for this case alone.
        expect: a regular expression that is to be found in the answer.
    """

    name: str
    prompt: str
    options: dict[str, Any] = {}
    expect: str | None = None


class BenchmarkRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One answer, or one failure.

    Attributes:
        model, case: their names.
        number: of this run of the case with the model, from 1.
        elapsed: seconds from the subscription to the end.
        time_to_first_token: seconds; None if no token came.
        intervals: the times between tokens.
        tokens: those of the answer, as `Usage` told, or counted.
        tokens_per_second: None if no time has passed.
        as_expected: whether what the case expects was found; None if it expects nothing.
        error: why it failed.
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
    finish_reason: FinishReason | None = None
    as_expected: bool | None = None
    error: ErrorInfo | None = None


class BenchmarkRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All runs of one case with one model. Failed runs are in `runs`, `failed` and `errors` only.

    Attributes:
        time_to_first_token, tokens_per_second: the median over the runs.
        interval: the mean time between tokens in seconds, over all of the runs.
        variation: the coefficient of variation of these times in percent, the mean over the runs.
        p95: 95 % of these times are no longer, in seconds; the median over the runs.
        consistency: the share of the runs that gave the most frequent answer, 0..1; None with
            fewer than two answers.
        as_expected: the share of the runs in whose answer was what the case expects, 0..1.
        errors: how many runs failed, by class of error.
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
    """The figures, a row for each model and case, and the runs that they are made of."""

    rows: tuple[BenchmarkRow, ...]
    runs: tuple[BenchmarkRun, ...]

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return sum(row.failed for row in self.rows)


async def benchmark(
    models: Mapping[str, Model],
    cases: Sequence[Case],
    *,
    runs: int = 3,
    warm_up: bool = True,
    on_run: Callable[[BenchmarkRun], object] | None = None,
    **options: Any,
) -> BenchmarkReport:
    """Put each case to each model a few times, one run after the other, and measure the answers.

    A run that fails, whatever the reason, is counted and does not end the benchmark. Times are
    those of the event loop, from the subscription to what a sink sees; nothing else runs meanwhile.

    Args:
        models: by the name that they have in the report.
        cases: what to ask.
        runs: how many times each, 1 or more.
        warm_up: ask each model once before, with the first case and for one token, so that loading
            the model or making a connection is not measured. Its failure is ignored.
        on_run: called after each run.
        options: fields of `Request` for all cases, such as `max_tokens` and `seed`.

    Raises:
        ValueError: `runs` is below 1, there is no model or no case, two cases have one name, an
            option can't be right (`BadRequestError`), or an `expect` is no regular expression.
    """
    patterns = _check(models, cases, runs, options)
    done: list[BenchmarkRun] = []
    for name, model in models.items():
        if warm_up:
            first = cases[0]
            await _ask(model, first, {**options, **first.options, "max_tokens": 1})
        for case in cases:
            for number in range(1, runs + 1):
                figures = await _ask(model, case, {**options, **case.options}, patterns[case.name])
                run = BenchmarkRun(model=name, case=case.name, number=number, **figures)
                done.append(run)
                if on_run is not None:
                    on_run(run)
    rows = [
        _row([run for run in done if (run.model, run.case) == (name, case.name)])
        for name in models
        for case in cases
    ]
    return BenchmarkReport(tuple(rows), tuple(done))


def _check(
    models: Mapping[str, Model], cases: Sequence[Case], runs: int, options: dict[str, Any]
) -> dict[str, re.Pattern[str] | None]:
    """Raise what the arguments deserve; return what is expected, by case."""
    if runs < 1:
        raise ValueError(f"runs is the number of times to ask, 1 or more: {runs}")
    if not models or not cases:
        raise ValueError("a benchmark needs a model and a case, at least")
    if len({case.name for case in cases}) < len(cases):
        raise ValueError(f"two cases have one name: {sorted(case.name for case in cases)}")
    for case in cases:
        as_request(case.prompt, **{**options, **case.options})
    try:
        return {each.name: re.compile(each.expect) if each.expect else None for each in cases}
    except re.error as error:
        raise ValueError(f"expect is a regular expression: {error}") from error


async def _ask(
    model: Model, case: Case, options: dict[str, Any], expected: re.Pattern[str] | None = None
) -> dict[str, Any]:
    """The figures of one run."""
    measured: list[Measurement] = []
    figures: dict[str, Any] = {}
    try:
        stream = model.stream(case.prompt, **options).pipe(measure(measured.append))
        result = await collect(stream)
    except Exception as error:  # whatever a model does wrong is what is to be found out
        figures["error"] = ErrorInfo.of(error)
    else:
        figures["answer"] = result.text
        figures["finish_reason"] = result.finish_reason
        figures["as_expected"] = None if expected is None else bool(expected.search(result.text))
    if not measured:  # refused before there was a stream
        return {**figures, "elapsed": 0.0, "intervals": Intervals(), "tokens": 0}
    return {
        **figures,
        "elapsed": measured[0].elapsed,
        "intervals": measured[0].intervals,
        "tokens": measured[0].tokens,
        "time_to_first_token": measured[0].time_to_first_token,
        "tokens_per_second": measured[0].tokens_per_second,
    }


def _row(runs: Sequence[BenchmarkRun]) -> BenchmarkRow:
    answered = [run for run in runs if run.error is None]
    intervals = [run.intervals for run in answered if run.intervals.count]
    total = sum(each.count for each in intervals)
    answers = Counter(run.answer for run in answered)
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


def _of(
    statistic: Callable[[Iterable[float]], float], values: Iterable[float | None]
) -> float | None:
    known = [value for value in values if value is not None]
    return statistic(known) if known else None
