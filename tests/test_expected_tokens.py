"""How long an answer may become, after an attempt that has already sent a part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import reactivex
from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Chunk, Notice, Progress, Start, Token
from rxllm.models.scripted import Script, ScriptedModel
from rxllm.sinks import callbacks
from rxllm.testing import Marbles, run_virtual

TEN = [f" {number}" for number in range(10)]
LOST = ConnectionResetError("lost")


def by_progress(stream: Observable[Any]) -> int | None:
    reports = [each for _, each in Marbles().run(stream.pipe(ops.progress(1)))]
    return next(each.max_tokens for each in reversed(reports) if isinstance(each, Progress))


def by_stages(stream: Observable[Any]) -> int | None:
    reports = [each for _, each in Marbles().run(stream.pipe(ops.track_stages(every=1)))]
    return next(each.max_tokens for each in reversed(reports) if isinstance(each, Progress))


def by_figures(stream: Observable[Any]) -> int | None:
    last: ops.Accumulated = Marbles().run(stream.pipe(ops.accumulate()))[-2][1]
    return None if last.percentage is None else round(100 * last.tokens / last.percentage)


def by_callbacks(stream: Observable[Any]) -> int | None:
    reports: list[Progress] = []

    async def main() -> None:
        await callbacks(stream, on_progress=reports.append)

    run_virtual(main())
    return reports[-1].max_tokens


each_way = pytest.mark.parametrize("most", [by_progress, by_stages, by_figures, by_callbacks])


@each_way
def test_an_answer_that_is_replayed_has_the_maximum_of_its_request(
    most: Callable[[Observable[Any]], int | None],
) -> None:
    model = ScriptedModel([*TEN[:3], LOST], TEN)
    retry = ops.retry_with_backoff(initial=0, after_output="replay")
    assert most(model.stream("Count", max_tokens=10).pipe(retry)) == 10


@each_way
def test_an_answer_that_is_continued_may_become_longer_by_the_maximum(
    most: Callable[[Observable[Any]], int | None],
) -> None:
    scripts: list[Script] = [[*TEN[:3], LOST], TEN[3:]]
    model = ScriptedModel(*scripts * 4, capabilities=["text", "prefill"])

    def rest(partial: str) -> Observable[Chunk]:
        return model.stream("Go on", max_tokens=10)

    for again in (
        ops.complete_partial(model, "Count", max_tokens=10),
        ops.resume(model, "Count", max_tokens=10, initial=0),
        ops.retry_with_backoff(initial=0, after_output=rest),
        ops.fallback_to(model.stream("Count"), after_output=rest),
    ):
        assert most(model.stream("Count", max_tokens=10).pipe(again)) == 13


CHUNKS: dict[str, Chunk] = {
    "S": Start("1", "model", max_tokens=10),
    "a": Token("a"),
    "t": Notice("retry", attempt=2),
    "d": Notice("degraded"),  # the answer came as a whole; nothing begins again
}


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [("SaatSa", 10), ("SaaSa", 12), ("SaaSatSa", 12), ("SaaStSa", 12), ("SaadSa", 12)],
)
def test_a_retry_keeps_what_came_before_the_answer(chunks: str, expected: int) -> None:
    stream = reactivex.of(*map(CHUNKS.__getitem__, chunks))
    assert [most(stream) for most in (by_progress, by_stages, by_figures)] == [expected] * 3


def test_a_retry_without_a_source_is_that_of_all_sources() -> None:
    start, token = Start("1", "model", max_tokens=10, source="a"), Token("x", source="a")
    stream = reactivex.of(start, token, Notice("retry", attempt=2), start, token)
    assert by_progress(stream) == 10
