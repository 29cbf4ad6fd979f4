"""A subscriber that raises: all streams are disposed at once, and none of them has failed."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pytest
import reactivex as rx

from rxllm import operators as ops
from rxllm.chunks import Chunk, Notice, Token
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import Pool
from rxllm.testing import Marbles
from tests.operators.combining.sources import at_once

Stream: TypeAlias = rx.Observable[Chunk]
Combine: TypeAlias = Callable[[Mapping[str, Stream]], Stream]

COMBINED: dict[str, Combine] = {
    "merge_streams": ops.merge_streams,
    "side_by_side": ops.side_by_side,
    "race": ops.race,
    "hedge": lambda streams: ops.hedge(streams["left"], streams["right"], 1),
    "best_of": ops.best_of,
    "quick_then_detailed": lambda streams: ops.quick_then_detailed(*streams.values()),
}
each_way = pytest.mark.parametrize("combine", COMBINED.values(), ids=COMBINED.keys())


def refusing(kind: type[Chunk]) -> tuple[list[Chunk], Callable[[Chunk], None]]:
    """The chunks received, and an `on_next` that raises at the first chunk of this kind."""
    got: list[Chunk] = []

    def on_next(chunk: Chunk) -> None:
        got.append(chunk)
        if type(chunk) is kind:
            raise ZeroDivisionError

    return got, on_next


@each_way
def test_all_streams_are_disposed_and_nothing_more_is_sent(
    marbles: Marbles, combine: Combine
) -> None:
    streams = {"left": marbles.cold("--a-b|"), "right": marbles.cold("--x-y|")}
    ended: list[Any] = []
    got, on_next = refusing(Token)
    combine(streams).subscribe(on_next, ended.append, scheduler=marbles.scheduler)
    with pytest.raises(ZeroDivisionError):
        marbles.advance_to(20)
    marbles.scheduler.stop()
    assert (len(got), ended, marbles.timers) == (1, [], [])
    assert all(times[-1][1] is not None for s in streams.values() if (times := s.subscriptions))
    marbles.advance_to(20)
    assert len(got) == 1


@each_way
def test_a_subscriber_that_raises_during_its_subscription(
    marbles: Marbles, combine: Combine
) -> None:
    ended: list[Any] = []
    got, on_next = refusing(Token)
    stream = combine({"left": at_once(Token("x"), Token("z")), "right": at_once(Token("y"))})
    with pytest.raises(ZeroDivisionError):
        stream.subscribe(on_next, ended.append, scheduler=marbles.scheduler)
        raise ended.pop()  # RxPY passes exceptions raised there to on_error
    marbles.advance_to(20)
    assert [type(chunk) for chunk in got] == [Token]
    assert (ended, marbles.timers) == ([], [])


@pytest.mark.parametrize("name", ["side_by_side", "race", "best_of", "quick_then_detailed"])
def test_a_subscriber_that_raises_at_the_notice_of_a_failure(marbles: Marbles, name: str) -> None:
    streams = {"left": marbles.cold("-#"), "right": marbles.cold("--x--y|")}
    ended: list[Any] = []
    got, on_next = refusing(Notice)
    COMBINED[name](streams).subscribe(on_next, ended.append, scheduler=marbles.scheduler)
    with pytest.raises(ZeroDivisionError):
        marbles.advance_to(20)
    marbles.scheduler.stop()
    marbles.advance_to(20)
    assert ([type(chunk) for chunk in got], ended, marbles.timers) == ([Notice], [], [])


def test_the_streams_are_reported_as_cancelled(marbles: Marbles) -> None:
    reports: list[Any] = []
    streams = {"left": marbles.cold("a-|"), "right": marbles.cold("--x|")}
    _, on_next = refusing(Token)
    stream = ops.side_by_side(streams, on_result=reports.append)
    stream.subscribe(on_next, scheduler=marbles.scheduler)
    with pytest.raises(ZeroDivisionError):
        marbles.advance_to(5)
    assert [(name, each.status) for name, each in reports[0].items()] == [
        ("left", "cancelled"),
        ("right", "cancelled"),
    ]


def test_an_exception_of_on_result_is_a_note(marbles: Marbles) -> None:
    def report(_: object) -> None:
        raise KeyError("report")

    _, on_next = refusing(Token)
    stream = ops.side_by_side({"left": marbles.cold("a|")}, on_result=report)
    stream.subscribe(on_next, scheduler=marbles.scheduler)
    with pytest.raises(ZeroDivisionError) as raised:
        marbles.advance_to(5)
    assert raised.value.__notes__ == ["disposing its streams failed too: KeyError('report')"]


def test_no_other_prompt_starts_and_the_slots_are_released(marbles: Marbles) -> None:
    model, pool = ScriptedModel([ConnectionResetError()], "b", "c", delay=1), Pool(1)
    reports: list[Any] = []
    _, on_next = refusing(Notice)
    stream = ops.parallel(["p", "q", "r"], model, pool, on_result=reports.append)
    stream.subscribe(on_next, scheduler=marbles.scheduler)
    with pytest.raises(ZeroDivisionError):
        marbles.advance_to(5)
    marbles.scheduler.stop()
    marbles.advance_to(20)
    assert (len(model.requests), pool.active, pool.waiting, len(reports)) == (1, 0, 0, 1)
