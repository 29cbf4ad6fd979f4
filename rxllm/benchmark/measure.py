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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from rxllm.arguments import check_callable, check_int, check_number
from rxllm.benchmark.report import BenchmarkReport, BenchmarkRow, BenchmarkRun
from rxllm.chunks import Chunk, ErrorInfo, ToolCall, is_restart
from rxllm.consumer import consume
from rxllm.operators.analytics import Intervals, Measurement, measure
from rxllm.operators.recovery import keep_partial, timeouts
from rxllm.requests import Model, as_request

__all__ = ["BenchmarkReport", "BenchmarkRow", "BenchmarkRun", "Case", "benchmark"]


class Case(msgspec.Struct, frozen=True):
    """What every model is asked.

    Args:
        name: of the case, in reports.
        prompt: the question.
        options: fields of `Request`, for this case alone.
        expect: a regular expression that is to be found in the text of the answer.
    """

    name: str
    prompt: str
    options: dict[str, Any] = {}
    expect: str | None = None


async def benchmark(
    models: Mapping[str, Model],
    cases: Sequence[Case],
    *,
    runs: int = 3,
    warm_up: bool = True,
    total: float = 300.0,
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
        total: seconds for a run at most: then it has failed, and a warm-up is over.
        on_run: called after each run: `BenchmarkReport.of` makes a report of those done so far.
        options: fields of `Request` for all cases, such as `max_tokens` and `seed`.

    Raises:
        TypeError: an argument is not of its kind: a name in place of a model, say.
        ValueError: `runs` is below 1, `total` is not above 0, there is no model or no case, two
            cases have one name, an option can't be right (`BadRequestError`), or an `expect` is no
            regular expression.
    """
    check_int("runs", runs, "the number of times to ask each model each case")
    check_number("total", total, "the time of a run at most, in seconds", above=0)
    if on_run is not None:
        check_callable(
            "on_run", on_run, "a function of the run", instead="start a task in a plain one"
        )
    patterns = _check(models, cases, options)
    done: list[BenchmarkRun] = []
    for name, model in models.items():
        if warm_up:
            first = cases[0]
            await _ask(model, first, {**options, **first.options, "max_tokens": 1}, total)
        for case in cases:
            for attempt in range(1, runs + 1):
                figures = await _ask(model, case, {**options, **case.options}, total)
                expected = patterns[case.name]
                if expected is not None and "error" not in figures:
                    figures["as_expected"] = bool(expected.search(figures["answer"]))
                run = BenchmarkRun(model=name, case=case.name, number=attempt, **figures)
                done.append(run)
                if on_run is not None:
                    on_run(run)
    return BenchmarkReport.of(done)


def _check(
    models: Mapping[str, Model], cases: Sequence[Case], options: dict[str, Any]
) -> dict[str, re.Pattern[str] | None]:
    """Validate the arguments; return what is expected, by case."""
    if not isinstance(models, Mapping):
        raise TypeError(f"models is a mapping of names to models, not {models!r}")
    for name, model in models.items():
        if isinstance(model, type) or not callable(getattr(model, "stream", None)):
            raise TypeError(
                f"{name!r} is no model, but {model!r}: rxllm.model(name) finds one by its name"
            )
    if not isinstance(cases, Sequence) or not all(isinstance(case, Case) for case in cases):
        raise TypeError(f"cases is a sequence of `Case(name, prompt)`, not {cases!r}")
    if not models or not cases:
        raise ValueError("a benchmark needs a model and a case, at least")
    if len({case.name for case in cases}) < len(cases):
        raise ValueError(f"two cases have one name: {sorted(case.name for case in cases)}")
    for case in cases:
        as_request(case.prompt, **{**options, **case.options})
        if case.expect == "":
            raise ValueError(f"{case.name!r} expects an empty text, which is in every answer")
    try:
        return {each.name: re.compile(each.expect) if each.expect else None for each in cases}
    except re.error as error:
        raise ValueError(f"expect is a regular expression: {error}") from error


async def _ask(model: Model, case: Case, options: dict[str, Any], total: float) -> dict[str, Any]:
    """The figures of one run."""
    measured: list[Measurement] = []
    calls: list[ToolCall] = []
    figures: dict[str, Any] = {}

    def on_chunk(chunk: Chunk) -> None:
        if is_restart(chunk):
            calls.clear()
        elif type(chunk) is ToolCall and chunk.complete:
            calls.append(chunk)

    try:
        stream = model.stream(case.prompt, **options).pipe(
            timeouts(total=total), keep_partial(), measure(measured.append)
        )
        result = await consume(stream, on_chunk)
    except Exception as error:  # whatever a model does wrong is what is to be found out
        figures["error"] = ErrorInfo.of(error)
        figures["answer"] = getattr(error, "partial", "")
    else:
        figures["answer"] = result.text
        figures["finish_reason"] = result.finish_reason
    figures["tool_calls"] = tuple(calls)
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
