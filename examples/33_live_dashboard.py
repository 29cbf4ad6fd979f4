"""Show several streams on a live terminal dashboard."""

import asyncio
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.table import Table

import rxllm
from rxllm import Progress
from rxllm import operators as ops
from rxllm.models.scripted import Script, ScriptedModel
from rxllm.sinks import dispatch

STORY = "Once upon a time a robot found a box of paint and did not know what to do. " * 4
TOKENS = 73
STYLES = {"running": "yellow", "completed": "green", "failed": "red", "cancelled": "dim"}
console = Console(width=90)
analytics = ops.StreamAnalytics()
progress: dict[str, Progress] = {}


def dashboard() -> Table:
    report = analytics.report()
    rate = "-" if report.success_rate is None else f"{report.success_rate:.0%}"
    title = f"{report.active} active, {report.completed} completed, {report.failed} failed, {rate}"
    table = Table("stream", "outcome", "%", "tokens", "tokens/s", "left", title=title)
    for stream in (*analytics.streams, *analytics.history):
        latest = progress.get(stream.id)
        table.add_row(stream.id, stream.outcome, *cells(latest), style=STYLES[stream.outcome])
    return table


def cells(latest: Progress | None) -> Iterator[str]:
    if latest is None:
        return
    yield f"{latest.percentage or 0:.0f}"
    yield str(latest.tokens)
    yield f"{latest.tokens_per_second or 0:.0f}"
    yield "" if latest.remaining is None else f"{latest.remaining:.1f} s"


async def ask(name: str, script: Script, delay: float) -> None:
    model = ScriptedModel(script, by="word", delay=delay, name=name)
    stream = model.stream("Tell me a story", max_tokens=TOKENS).pipe(
        ops.progress(every=5),
        ops.analyze(analytics, name),
    )
    try:
        await dispatch(stream, {Progress: lambda latest, _: progress.update({name: latest})})
    except rxllm.RxLLMError as error:
        progress.pop(name, None)
        print(f"{name}: {type(error).__name__}")


async def main() -> None:
    with Live(get_renderable=dashboard, refresh_per_second=10, console=console):
        await asyncio.gather(
            ask("quick", STORY, 0.005),
            ask("steady", STORY, 0.012),
            ask("slow", STORY, 0.02),
            ask("broken", ["Once upon", rxllm.errors.ServerError("the model is down")], 0.3),
        )
    if not console.is_terminal:
        console.line()
    report = analytics.report()
    if report.fastest is not None and report.slowest is not None:
        print(f"fastest: {report.fastest.id}, slowest: {report.slowest.id}, {report.errors}")


rxllm.run(main())
