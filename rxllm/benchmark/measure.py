"""Benchmark models on a set of cases: speed, variation and consistency of the answers.

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
    """A prompt that is sent to every model.

    Args:
        name: of the case, in reports.
        prompt: the prompt.
        options: fields of `Request`, for this case only.
        expect: a regular expression to search for in the text of the answer.
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
    """Run each case on each model several times, sequentially, and measure the answers.

    A failed run, whatever the reason, is counted and does not end the benchmark. Times are those of
    the event loop, from the subscription to the sink; nothing else runs meanwhile.

    Args:
        models: the models, by their name in the report.
        cases: the prompts.
        runs: number of runs of each case, 1 or more.
        warm_up: first request one token of the first case from each model, so that loading the
            model or connecting to it isn't measured. A failure of the warm-up is ignored.
        total: maximum seconds per run, after which it fails; also limits the warm-up.
        on_run: called after each run; `BenchmarkReport.of` makes a report of the runs so far.
        options: fields of `Request` for all cases, such as `max_tokens` and `seed`.

    Raises:
        TypeError: an argument has the wrong type, such as a name instead of a model.
        ValueError: `runs` is below 1, `total` is not above 0, there is no model or no case, two
            cases have the same name, an option is invalid (`BadRequestError`), or an `expect` is
            not a valid regular expression.
    """
    check_int("runs", runs, "the number of times to run each case on each model")
    check_number("total", total, "the maximum time of a run, in seconds", above=0)
    if on_run is not None:
        check_callable(
            "on_run",
            on_run,
            "a function of the run",
            instead="start a task from a plain function",
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
    """Validate the arguments, and return the expected pattern of each case."""
    if not isinstance(models, Mapping):
        raise TypeError(f"models must be a mapping of names to models, got {models!r}")
    for name, model in models.items():
        if isinstance(model, type) or not callable(getattr(model, "stream", None)):
            raise TypeError(
                f"{name!r} must be a model, got {model!r}: look one up with rxllm.model(name)"
            )
    if not isinstance(cases, Sequence) or not all(isinstance(case, Case) for case in cases):
        raise TypeError(f"cases must be a sequence of `Case(name, prompt)`, got {cases!r}")
    if not models or not cases:
        raise ValueError("a benchmark needs at least one model and one case")
    if len({case.name for case in cases}) < len(cases):
        raise ValueError(f"names of cases must be unique: {sorted(case.name for case in cases)}")
    for case in cases:
        as_request(case.prompt, **{**options, **case.options})
        if case.expect == "":
            raise ValueError(f"expect of {case.name!r} is empty and would match every answer")
    try:
        return {each.name: re.compile(each.expect) if each.expect else None for each in cases}
    except re.error as error:
        raise ValueError(f"expect must be a valid regular expression: {error}") from error


async def _ask(model: Model, case: Case, options: dict[str, Any], total: float) -> dict[str, Any]:
    """Run one case on one model, and return its figures."""
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
    except Exception as error:  # any failure of a model is a result of the benchmark
        figures["error"] = ErrorInfo.of(error)
        figures["answer"] = getattr(error, "partial", "")
    else:
        figures["answer"] = result.text
        figures["finish_reason"] = result.finish_reason
    figures["tool_calls"] = tuple(calls)
    if not measured:  # rejected before there was a stream
        return {**figures, "elapsed": 0.0, "intervals": Intervals(), "tokens": 0}
    return {
        **figures,
        "elapsed": measured[0].elapsed,
        "intervals": measured[0].intervals,
        "tokens": measured[0].tokens,
        "time_to_first_token": measured[0].time_to_first_token,
        "tokens_per_second": measured[0].tokens_per_second,
    }
