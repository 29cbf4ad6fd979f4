"""Benchmarks of models: first token, intervals, consistency, errors."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reactivex import Observable
from rich.cells import cell_len

from rxllm.benchmark.charts import as_bars, as_svg, as_table
from rxllm.benchmark.measure import BenchmarkReport, BenchmarkRun, Case, benchmark
from rxllm.chunks import Chunk, Token, ToolCall
from rxllm.errors import BadRequestError, RateLimitError
from rxllm.models.scripted import ScriptedModel
from rxllm.operators.analytics import Intervals
from rxllm.requests import ModelInfo
from rxllm.testing import run_virtual

CASE = Case("story", "Tell me a story")


def report_of(*models: Any, cases: list[Case] | None = None, **options: Any) -> BenchmarkReport:
    named = {f"model {number}": model for number, model in enumerate(models, 1)}
    return run_virtual(benchmark(named, cases or [CASE], **options))


def test_the_figures_of_an_even_stream() -> None:
    model = ScriptedModel("Once upon a time", by="word", delay=0.5, first_delay=2.0)
    (row,) = report_of(model).rows
    assert (row.model, row.case, row.runs, row.failed) == ("model 1", "story", 3, 0)
    assert (row.time_to_first_token, row.interval, row.variation) == (2.0, 0.5, 0.0)
    assert (row.p95, row.tokens_per_second) == (0.5, 4 / 3.5)
    assert (row.consistency, row.as_expected, row.errors) == (1.0, None, {})


def test_the_variation_of_an_uneven_stream() -> None:
    (row,) = report_of(ScriptedModel(["a", 1.0, "b", 3.0, "c"])).rows
    assert (row.interval, row.variation, row.p95) == (2.0, 50.0, 3.0)


def test_answers_that_differ_are_inconsistent() -> None:
    model = ScriptedModel("warm up", "yes", "no", "yes", "yes")
    report = report_of(model, runs=4)
    assert report.rows[0].consistency == 0.75
    assert [run.answer for run in report.runs] == ["yes", "no", "yes", "yes"]


def test_one_answer_is_neither_consistent_nor_inconsistent() -> None:
    assert report_of(ScriptedModel("yes"), runs=1).rows[0].consistency is None


def test_answers_are_checked_against_the_expected_pattern() -> None:
    model = ScriptedModel("Oslo, of course", "Bergen", "It is Oslo")
    cases = [Case("capital", "What is the capital of Norway?", expect=r"\bOslo\b")]
    report = report_of(model, cases=cases, runs=2, warm_up=False)
    assert [run.as_expected for run in report.runs] == [True, False]
    assert report.rows[0].as_expected == 0.5


def test_failures_are_counted_and_do_not_end_the_benchmark() -> None:
    broken = ScriptedModel("", ["half", RateLimitError("slow down")], "whole", ["", OSError("x")])
    report = report_of(broken, ScriptedModel("fine"))
    first, second = report.rows
    assert (first.runs, first.failed) == (3, 2)
    assert first.errors == {"RateLimitError": 1, "OSError": 1}
    assert report.runs[0].error is not None
    assert report.runs[0].error.message == "slow down"
    assert (second.failed, report.failed) == (0, 2)


def test_a_silent_model_fails_in_time_even_during_the_warm_up() -> None:
    reported: list[tuple[str, float]] = []
    silent, stalling = ScriptedModel([3600.0, "late"]), ScriptedModel("quick", ["a", 3600.0, "b"])
    report = report_of(
        silent,
        stalling,
        runs=1,
        total=60,
        on_run=lambda run: reported.append((run.model, run.elapsed)),
    )
    assert reported == [("model 1", 60.0), ("model 2", 60.0)]
    assert [row.errors for row in report.rows] == [{"TotalTimeoutError": 1}] * 2
    assert (silent.active, stalling.active) == (0, 0)


def test_a_failed_run_keeps_the_partial_answer() -> None:
    for error in (RateLimitError("slow down"), ConnectionResetError("gone")):
        report = report_of(ScriptedModel(["half", error]), runs=1, warm_up=False)
        assert [run.answer for run in report.runs] == ["half"]
        assert report.rows[0].consistency is None


def test_tool_calls_are_part_of_the_answer() -> None:
    def call(number: int, city: str, *, complete: bool = True) -> ToolCall:
        return ToolCall(f"id-{number}", "weather", city, complete=complete)

    model = ScriptedModel(
        [call(1, '{"city"', complete=False), call(1, '{"city": "Oslo"}')],
        [call(2, '{"city": "Oslo"}')],
        [call(3, '{"city": "Rome"}')],
        [Token("In Oslo"), call(4, '{"city": "Oslo"}')],
    )
    report = report_of(model, runs=4, warm_up=False)
    assert report.rows[0].consistency == 0.5
    assert [[each.id for each in run.tool_calls] for run in report.runs][:2] == [["id-1"], ["id-2"]]


def test_a_report_can_be_made_of_the_runs_so_far() -> None:
    done: list[BenchmarkRun] = []
    whole = report_of(FAST, SLOW, cases=[CASE, Case("other", "Hello")], on_run=done.append)
    assert BenchmarkReport.of(done) == whole
    part = BenchmarkReport.of(done[:4])
    assert [(row.case, row.runs) for row in part.rows] == [("story", 3), ("other", 1)]
    assert part.rows[0] == whole.rows[0]


def test_a_model_that_raises_at_the_call_is_a_failure() -> None:
    class Refusing:
        info = ModelInfo("refusing", "test")

        def stream(self, prompt: Any, **options: Any) -> Observable[Chunk]:
            raise BadRequestError("no such option here")

    (row,) = report_of(Refusing(), runs=2).rows
    assert (row.failed, row.errors, row.time_to_first_token) == (2, {"BadRequestError": 2}, None)


def test_an_answer_without_tokens_has_no_token_figures() -> None:
    (row,) = report_of(ScriptedModel([])).rows
    assert (row.failed, row.time_to_first_token, row.interval, row.variation) == (0, *[None] * 3)


def test_each_model_is_warmed_up_once_with_one_token() -> None:
    model = ScriptedModel("Once upon a time", by="word")
    report_of(model, runs=1, max_tokens=2, cases=[CASE, Case("other", "Hello", {"max_tokens": 3})])
    assert [request.max_tokens for request in model.requests] == [1, 2, 3]
    cold = ScriptedModel("Once")
    report_of(cold, runs=1, warm_up=False)
    assert len(cold.requests) == 1


def test_a_model_that_fails_during_the_warm_up_is_still_measured() -> None:
    (row,) = report_of(ScriptedModel([ConnectionResetError()], "fine"), runs=2).rows
    assert (row.failed, row.runs) == (0, 2)


def test_each_run_is_reported_when_it_ends() -> None:
    reported: list[tuple[str, str, int]] = []
    cases = [CASE, Case("other", "Hello")]
    report_of(
        ScriptedModel("a"),
        ScriptedModel("b"),
        cases=cases,
        runs=2,
        on_run=lambda run: reported.append((run.model, run.case, run.number)),
    )
    assert reported[:5] == [
        ("model 1", "story", 1),
        ("model 1", "story", 2),
        ("model 1", "other", 1),
        ("model 1", "other", 2),
        ("model 2", "story", 1),
    ]


def test_runs_are_sequential() -> None:
    model = ScriptedModel("Once upon a time", by="word", delay=1)
    active: list[int] = []
    report_of(model, on_run=lambda _: active.append(model.active))
    assert active == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runs": 0}, "runs"),
        ({"runs": 1.5}, "runs"),
        ({"runs": True}, "runs"),
        ({"total": 0}, "total"),
        ({"total": float("nan")}, "total"),
        ({"on_run": 3}, "on_run"),
        ({"cases": [CASE, CASE]}, "must be unique"),
        ({"cases": CASE}, "cases must be a sequence of `Case"),
        ({"cases": ["Hi"]}, "cases must be a sequence of `Case"),
        ({"cases": [Case("a", "b", expect="")]}, "expect of 'a' is empty"),
        ({"cases": [Case("a", "b", expect="(")]}, "regular expression"),
        ({"temperature": 9}, "temperature"),
        ({"temprature": 1}, "did you mean"),
    ],
)
def test_invalid_arguments_raise(options: dict[str, Any], words: str) -> None:
    model = ScriptedModel("a")
    with pytest.raises((ValueError, TypeError), match=words):
        report_of(model, **options)
    assert model.requests == []


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ({"m": "tiny"}, r"rxllm\.model\(name\)"),
        ({"m": ScriptedModel}, "must be a model"),
        ([ScriptedModel("a")], "models must be a mapping"),
    ],
)
def test_invalid_models_raise(models: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        run_virtual(benchmark(models, [CASE]))


def test_a_benchmark_without_a_model_raises() -> None:
    with pytest.raises(ValueError, match="at least one model"):
        report_of()


SLOW = ScriptedModel("Once upon a time", by="word", delay=0.5, first_delay=2.0)
FAST = ScriptedModel("Once upon a time", by="word", delay=0.25, first_delay=0.5)


def test_the_table_has_a_row_for_each_model_and_case() -> None:
    lines = list(as_table(report_of(SLOW, FAST)))
    assert [line.split() for line in lines] == [
        ["first/ms", "between/ms", "CV/%", "p95/ms", "tokens/s", "same/%"],
        ["model", "1:", "story", "2000", "500", "0.00", "500", "1.14", "100"],
        ["model", "2:", "story", "500", "250", "0.00", "250", "3.20", "100"],
    ]
    assert len({len(line) for line in lines}) == 1


def test_the_table_lists_failures_and_omits_empty_columns() -> None:
    model = ScriptedModel("", [RateLimitError("slow")], [OSError()], [OSError()])
    header, row, errors = as_table(report_of(model))
    assert header.split() == ["failed"]
    assert row == "model 1: story  3 of 3"
    assert errors == "model 1: story: 1 RateLimitError, 2 OSError"


def test_the_longest_bar_fills_the_width() -> None:
    lines = list(as_bars(report_of(SLOW, FAST), width=42, block="#"))
    assert lines == [
        "time to first token",
        "  model 1: story  ################ 2000 ms",
        "  model 2: story  #### 500 ms",
        "tokens per second",
        "  model 1: story  ####### 1.14",
        "  model 2: story  ################### 3.20",
    ]


LONG = "openrouter/meta-llama/llama-3.1-8b-instruct"
PROMPT = "Tell me a story about a robot who learns to "


def long_names(*, expect: str | None = None) -> BenchmarkReport:
    """Two models and three cases whose names begin or end with the same words."""
    cases = [Case(PROMPT + what, "Hi", expect=expect) for what in ("paint", "dance")]
    cases.append(Case("\u7269\u8a9e" * 20, "Hi", expect=expect))
    slow = ScriptedModel("Once upon", by="word", delay=12.0, first_delay=123.0)
    return run_virtual(benchmark({LONG: slow, f"{LONG}-turbo": slow}, cases))


@pytest.mark.parametrize("width", [80, 100, 200])
def test_lines_fit_into_the_terminal_and_rows_can_be_told_apart(width: int) -> None:
    report = long_names(expect="Once")
    table, bars = list(as_table(report, width=width)), list(as_bars(report, width=width))
    assert max(map(cell_len, [*table, *bars])) <= width
    assert len(table) == len(set(table)) == 7
    assert max(map(cell_len, bars)) == width


def test_columns_are_aligned_by_display_width() -> None:
    table = list(as_table(long_names()))
    assert len({cell_len(line) for line in table}) == 1
    bars = [line for line in as_bars(long_names(), block="#") if line.endswith(" ms")]
    assert len({cell_len(line.partition("#")[0]) for line in bars}) == 1


def test_rows_that_cannot_be_told_apart_are_numbered() -> None:
    cases = [Case(f"{PROMPT}{what} and to be happy ever after", "Hi") for what in ("jump", "swim")]
    lines = list(as_table(run_virtual(benchmark({"m": FAST}, cases)), width=60))
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]


def test_a_report_without_runs_is_empty() -> None:
    report = BenchmarkReport.of([])
    assert list(as_table(report)) == []
    assert list(as_bars(report)) == ["time to first token", "tokens per second"]
    assert "<rect" in as_svg(report)


@pytest.mark.parametrize("chart", [as_table, as_bars])
@pytest.mark.parametrize("width", [0, -5, 1.5, True])
def test_an_invalid_width_raises(chart: Any, width: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="width must be"):
        list(chart(report_of(FAST), width=width))


def test_without_any_answer_there_are_no_bars() -> None:
    report = report_of(ScriptedModel([RateLimitError("slow")]))
    assert list(as_bars(report))[1] == "  model 1: story  -"
    assert "<rect" in as_svg(report)


def texts_in(svg: str) -> list[str]:
    root = ET.fromstring(svg.encode())  # noqa: S314 - our own text
    return [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_svg_is_drawn_to_scale() -> None:
    root = ET.fromstring(as_svg(report_of(SLOW, FAST)))  # noqa: S314 - our own text
    rectangles = root.findall("{http://www.w3.org/2000/svg}rect")
    assert [each.get("width") for each in rectangles] == ["100%", "390.0", "97.5", "139.3", "390.0"]


def test_long_names_are_shortened_in_the_svg_and_wide_characters_count_twice() -> None:
    words = [each for each in texts_in(as_svg(long_names())) if ": " in each]
    assert len(set(words)) == 6
    assert {cell_len(each) for each in words} <= {31, 32}


@given(st.text(st.characters(exclude_categories=()), min_size=1))
@example("<a & b>\x1b[2J")
@example("\ufffe \uffff \ud800 \udc80 \x00 \x7f \x85")
def test_the_svg_is_well_formed_whatever_the_names(name: str) -> None:
    run = BenchmarkRun(model=name, case="c", number=1, elapsed=1.0, intervals=Intervals(), tokens=0)
    words = texts_in(as_svg(BenchmarkReport.of([run])))
    assert [each for each in words if each.endswith(": c")]
