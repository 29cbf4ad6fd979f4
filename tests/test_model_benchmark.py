"""Cases put to models: first token, intervals, consistency, errors (row I8)."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest
from reactivex import Observable

from rxllm.benchmark_charts import as_bars, as_svg, as_table
from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError, RateLimitError
from rxllm.model_benchmark import BenchmarkReport, Case, benchmark
from rxllm.models.scripted import ScriptedModel
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


def test_what_a_case_expects_is_looked_for() -> None:
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


def test_a_model_that_refuses_at_the_call_is_a_failure() -> None:
    class Refusing:
        info = ModelInfo("refusing", "test")

        def stream(self, prompt: Any, **options: Any) -> Observable[Chunk]:
            raise BadRequestError("no such option here")

    (row,) = report_of(Refusing(), runs=2).rows
    assert (row.failed, row.errors, row.time_to_first_token) == (2, {"BadRequestError": 2}, None)


def test_an_answer_without_tokens_has_no_figures_of_tokens() -> None:
    (row,) = report_of(ScriptedModel([])).rows
    assert (row.failed, row.time_to_first_token, row.interval, row.variation) == (0, *[None] * 3)


def test_each_model_is_warmed_up_once_with_one_token() -> None:
    model = ScriptedModel("Once upon a time", by="word")
    report_of(model, runs=1, max_tokens=2, cases=[CASE, Case("other", "Hello", {"max_tokens": 3})])
    assert [request.max_tokens for request in model.requests] == [1, 2, 3]
    cold = ScriptedModel("Once")
    report_of(cold, runs=1, warm_up=False)
    assert len(cold.requests) == 1


def test_a_model_that_fails_while_it_is_warmed_up_is_asked_all_the_same() -> None:
    (row,) = report_of(ScriptedModel([ConnectionResetError()], "fine"), runs=2).rows
    assert (row.failed, row.runs) == (0, 2)


def test_runs_are_told_of_as_they_end() -> None:
    told: list[tuple[str, str, int]] = []
    cases = [CASE, Case("other", "Hello")]
    report_of(
        ScriptedModel("a"),
        ScriptedModel("b"),
        cases=cases,
        runs=2,
        on_run=lambda run: told.append((run.model, run.case, run.number)),
    )
    assert told[:5] == [
        ("model 1", "story", 1),
        ("model 1", "story", 2),
        ("model 1", "other", 1),
        ("model 1", "other", 2),
        ("model 2", "story", 1),
    ]


def test_runs_come_one_after_the_other() -> None:
    model = ScriptedModel("Once upon a time", by="word", delay=1)
    active: list[int] = []
    report_of(model, on_run=lambda _: active.append(model.active))
    assert active == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runs": 0}, "runs"),
        ({"cases": [CASE, CASE]}, "one name"),
        ({"cases": [Case("a", "b", expect="(")]}, "regular expression"),
        ({"temperature": 9}, "temperature"),
        ({"temprature": 1}, "did you mean"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], words: str) -> None:
    model = ScriptedModel("a")
    with pytest.raises(ValueError, match=words):
        report_of(model, **options)
    assert model.requests == []


def test_without_a_model_there_is_nothing_to_do() -> None:
    with pytest.raises(ValueError, match="needs a model"):
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


def test_the_table_tells_of_failures_and_leaves_out_what_nobody_knows() -> None:
    header, row = as_table(report_of(ScriptedModel([RateLimitError("slow")])))
    assert header.split() == ["failed"]
    assert row.endswith("3 RateLimitError of 3")


def test_the_longest_bar_fills_the_width() -> None:
    lines = list(as_bars(report_of(SLOW, FAST), width=8, block="#"))
    assert lines == [
        "time to first token",
        "  model 1: story  ######## 2000 ms",
        "  model 2: story  ## 500 ms",
        "tokens a second",
        "  model 1: story  ### 1.14",
        "  model 2: story  ######## 3.20",
    ]


def test_without_any_answer_there_are_no_bars() -> None:
    report = report_of(ScriptedModel([RateLimitError("slow")]))
    assert list(as_bars(report))[1] == "  model 1: story  -"
    assert "<rect" in as_svg(report)


def test_the_svg_is_well_formed_whatever_the_names() -> None:
    name = "<a & \x1b[2J> " + "x" * 100
    report = run_virtual(benchmark({name: FAST}, [Case("c", "Hi")]))
    root = ET.fromstring(as_svg(report))  # noqa: S314 - our own text
    words = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words[1] == "<a & \u241b[2J> xxxxxxxxxxxxxxxxxx..."
    rectangles = root.findall("{http://www.w3.org/2000/svg}rect")
    assert [each.get("width") for each in rectangles] == ["100%", "390.0", "390.0"]
