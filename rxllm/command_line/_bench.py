"""`rxllm bench`: measure models."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rxllm.command_line._arguments import (
    check_writable,
    find_model,
    model_table_option,
    read_prompt,
)
from rxllm.command_line._outcomes import play, say
from rxllm.sinks.printable import count, encodable

if TYPE_CHECKING:
    from rxllm.benchmark.report import BenchmarkReport

__all__ = ["bench"]

_BENCHMARK = ("Tell me a story about a robot who learns to paint", "Hello! Who are you?")


@click.command()
@click.option(
    "--model", "-m", "names", multiple=True, default=["tiny"], show_default=True, help="Repeatable."
)
@click.option("--prompt", "-p", "prompts", multiple=True, help="Prompt to send; repeatable.")
@click.option(
    "--runs", type=click.IntRange(1), default=3, show_default=True, help="Runs of each prompt."
)
@click.option("--max-tokens", type=click.IntRange(1), default=64, show_default=True)
@click.option("--temperature", type=float, help="0 (always the likeliest token) to 2.")
@click.option("--seed", type=int, help="Makes sampling reproducible.")
@click.option(
    *("--timeout", "total"),
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    show_default=True,
    help="Maximum seconds for an answer, after which it fails.",
)
@click.option("--svg", type=click.Path(path_type=Path), help="Also draw the bars to an SVG file.")
@click.option("--json", "as_json", is_flag=True, help="Print rows and runs as JSON.")
@model_table_option
def bench(
    names: Sequence[str],
    prompts: Sequence[str],
    runs: int,
    svg: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure models: time to first token, intervals, speed, and consistency of the answers.

    The exit code is 1 if an answer failed. Ctrl-C stops and prints the results so far.
    """
    from rxllm.benchmark.measure import BenchmarkReport, BenchmarkRun, Case, benchmark

    done: list[BenchmarkRun] = []

    def report_run(run: BenchmarkRun) -> None:
        done.append(run)
        result = count(run.tokens)
        if run.error is not None:
            result = "failed: " + " ".join(run.error.message.split())
        say(f"{run.model}, {run.case!r}, run {run.number} of {runs}: {result}")

    cases = [Case(prompt, prompt) for prompt in dict.fromkeys(map(read_prompt, prompts))]
    models = {name: find_model(name) for name in names}
    if svg is not None:
        check_writable(svg)
    given = {name: value for name, value in options.items() if value is not None}
    asked = cases or [Case(prompt, prompt) for prompt in _BENCHMARK]
    try:
        play(benchmark(models, asked, runs=runs, on_run=report_run, **given))
    finally:  # even if stopped by Ctrl-C
        report = BenchmarkReport.of(done)
        if report.rows:
            _show(report, as_json, svg)
    if report.failed:
        raise click.exceptions.Exit(1)


def _show(report: BenchmarkReport, as_json: bool, svg: Path | None) -> None:
    from rxllm.benchmark import charts

    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        width = shutil.get_terminal_size().columns
        block = "\u2588" if encodable("\u2588", sys.stdout) == "\u2588" else "#"
        bars = charts.as_bars(report, width=width, block=block)
        for line in (*charts.as_table(report, width=width), "", *bars):
            say(line, err=False)
    if svg is not None:
        svg.write_text(charts.as_svg(report), "utf-8")
