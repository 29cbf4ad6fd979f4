"""`timeouts`: limits enforced by the clock."""

import asyncio
from typing import Any

import pytest
import reactivex as rx
from reactivex.subject import Subject

from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Json,
    Notice,
    Progress,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
)
from rxllm.errors import FirstTokenTimeoutError, StallTimeoutError, TotalTimeoutError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, VirtualTimeLoop, no_leaks, run_virtual
from rxllm.valve import StreamScheduler

DAY = 86_400.0


def last(events: list[tuple[float, Any]]) -> tuple[float, type[Any], str | None]:
    time, event = events[-1]
    return time, type(event), getattr(event, "partial", None)


def test_a_stream_within_the_limits_is_unchanged(marbles: Marbles) -> None:
    stream = marbles.cold("S-a-b-(E,|)").pipe(ops.timeouts(3, 3, 9))
    assert marbles.run(stream) == marbles.expect("S-a-b-(E,|)")
    assert marbles.timers == []


@pytest.mark.parametrize("diagram", ["", "S", "S-n-P"])
def test_the_first_token_limit_fires_without_any_chunk(marbles: Marbles, diagram: str) -> None:
    lookup = {"n": Notice("malformed"), "P": Progress(0, 1.0)}
    source = marbles.cold(diagram, lookup=lookup)
    events = marbles.run(source.pipe(ops.timeouts(first=10)))
    assert last(events) == (10.0, FirstTokenTimeoutError, "")
    assert (source.subscriptions, marbles.timers) == ([(0.0, 10.0)], [])


def test_the_stall_limit_fires_without_any_chunk(marbles: Marbles) -> None:
    source = marbles.cold("S-a-b")
    events = marbles.run(source.pipe(ops.timeouts(between=5)))
    assert last(events) == (9.0, StallTimeoutError, "ab")
    assert (source.subscriptions, marbles.timers) == ([(0.0, 9.0)], [])


def test_the_total_limit_fires_while_tokens_arrive(marbles: Marbles) -> None:
    source = marbles.cold("a-" * 50)
    events = marbles.run(source.pipe(ops.timeouts(first=10, between=5, total=30)))
    assert last(events) == (30.0, TotalTimeoutError, "a" * 16)  # including the token at 30 s


def test_all_limits_together() -> None:
    limits = {"first": 10.0, "between": 5.0, "total": 30.0}
    cases: list[tuple[list[Any], tuple[float, type[Any]]]] = [
        ([11.0, "a"], (10.0, FirstTokenTimeoutError)),
        ([9.0, "a", 6.0, "b"], (14.0, StallTimeoutError)),
        ([9.0, "a", *[4.0, "b"] * 9], (30.0, TotalTimeoutError)),
    ]
    for script, expected in cases:
        stream = ScriptedModel(script).stream("Hi").pipe(ops.timeouts(**limits))
        assert last(Marbles().run(stream))[:2] == expected


@pytest.mark.parametrize(
    "content",
    [Token("x"), Reasoning("x"), ToolCall("1", "x"), Json([]), Batch((Token("x"),), "x")],
)
def test_content_resets_the_limit_between_tokens(marbles: Marbles, content: Any) -> None:
    stream = marbles.cold("x---x---x|", lookup={"x": content}).pipe(ops.timeouts(between=5))
    assert marbles.run(stream)[-1] == (9.0, COMPLETED)


@pytest.mark.parametrize("other", [Notice("malformed"), Progress(1, 1.0), Start("2", "other")])
def test_other_chunks_do_not_reset_the_limit(marbles: Marbles, other: Any) -> None:
    stream = marbles.cold("a---n---n---n", lookup={"n": other}).pipe(ops.timeouts(between=5))
    assert last(marbles.run(stream)) == (5.0, StallTimeoutError, "a")


def test_the_limit_between_tokens_does_not_run_before_the_first(marbles: Marbles) -> None:
    stream = marbles.cold("---------a|").pipe(ops.timeouts(between=5))
    assert marbles.run(stream)[-1] == (10.0, COMPLETED)


def test_a_shorter_limit_between_tokens_applies_from_the_first_token(
    marbles: Marbles,
) -> None:
    stream = marbles.cold("-a").pipe(ops.timeouts(first=100, between=5))
    assert last(marbles.run(stream)) == (6.0, StallTimeoutError, "a")


def test_a_token_does_not_set_a_timer(marbles: Marbles) -> None:
    timers: list[list[float]] = []
    stream = marbles.cold("-a-b-c-d-e").pipe(ops.timeouts(first=100, between=20))
    for time in (2.5, 4.5, 6.5):
        marbles.at(time, lambda: timers.append([due for due in marbles.timers if due > 10]))
    marbles.run(stream, until=8)
    assert timers == [[21.0]] * 3


def test_after_the_end_only_the_total_runs(marbles: Marbles) -> None:
    stream = marbles.cold("a-E").pipe(ops.timeouts(first=3, between=5))
    assert marbles.run(stream, until=99) == marbles.expect("a-E")
    fresh = Marbles()
    events = fresh.run(fresh.cold("a-E").pipe(ops.timeouts(first=3, between=5, total=30)))
    assert last(events) == (30.0, TotalTimeoutError, "a")


@pytest.mark.parametrize("other", [Notice("malformed"), Usage(1, 2), Progress(1, 1.0)])
def test_after_the_end_only_another_answer_starts_the_clock_again(
    marbles: Marbles, other: Chunk
) -> None:
    stream = marbles.cold("a-E-n", lookup={"n": other}).pipe(ops.timeouts(first=3, between=5))
    assert marbles.run(stream)[-1] == (4.0, other)


def test_the_end_of_one_source_does_not_stop_the_limits(marbles: Marbles) -> None:
    source = marbles.cold("a-x", lookup={"x": End("stop", source="left")})
    events = marbles.run(source.pipe(ops.timeouts(between=5)))
    assert last(events) == (5.0, StallTimeoutError, "a")


@pytest.mark.parametrize("diagram", ["a-E----S", "a-E----R"])
def test_the_limits_apply_to_an_answer_after_an_end(marbles: Marbles, diagram: str) -> None:
    events = marbles.run(marbles.cold(diagram).pipe(ops.timeouts(between=5)))
    assert last(events)[:2] == (12.0, StallTimeoutError)


def test_while_the_valve_is_closed_only_the_total_runs(marbles: Marbles) -> None:
    def with_pause(limits: Any) -> tuple[float, type[Any], str | None]:
        marbles = Marbles()
        marbles.at(2, marbles.valve.close)
        marbles.at(50, marbles.valve.open)
        return last(marbles.run(marbles.cold("a", demand=True).pipe(limits)))

    assert with_pause(ops.timeouts(between=5)) == (53.0, StallTimeoutError, "a")
    assert with_pause(ops.timeouts(between=5, total=30)) == (30.0, TotalTimeoutError, "a")


def test_the_first_token_limit_starts_when_the_valve_opens(marbles: Marbles) -> None:
    marbles.valve.close()
    marbles.at(DAY, marbles.valve.open)
    events = marbles.run(marbles.cold("").pipe(ops.timeouts(first=10)), until=2 * DAY)
    assert last(events) == (DAY + 10, FirstTokenTimeoutError, "")


def test_content_received_while_the_valve_is_closed_resets_the_limit(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(20, marbles.valve.open)
    stream = marbles.cold("a---------b").pipe(ops.timeouts(between=5))
    assert last(marbles.run(stream)) == (25.0, StallTimeoutError, "ab")


def test_a_restart_does_not_reset_the_clocks(marbles: Marbles) -> None:
    stream = marbles.cold("ab-R-").pipe(ops.timeouts(between=5, total=60))
    assert last(marbles.run(stream)) == (5.0, StallTimeoutError, "")


@pytest.mark.parametrize(
    ("limits", "diagram", "kind"),
    [
        ({"first": 3, "total": 9}, "", FirstTokenTimeoutError),
        ({"first": 9, "total": 3}, "", TotalTimeoutError),
        ({"first": 3, "total": 3}, "", TotalTimeoutError),
        ({"between": 3, "total": 9}, "a", StallTimeoutError),
        ({"between": 9, "total": 3}, "a", TotalTimeoutError),
    ],
)
def test_a_late_timer_reports_the_limit_that_was_due_first(
    marbles: Marbles, limits: dict[str, float], diagram: str, kind: type[Exception]
) -> None:
    marbles.at(1, lambda: marbles.scheduler.sleep(60))  # a busy loop
    events = marbles.run(marbles.cold(diagram).pipe(ops.timeouts(**limits)))
    assert last(events)[:2] == (61.1, kind)  # after a moment for what has arrived


@pytest.mark.parametrize("limit", ["first", "between", "total"])
def test_a_limit_may_be_a_fraction_of_a_second(marbles: Marbles, limit: str) -> None:
    events = marbles.run(
        marbles.cold("a" * (limit == "between")).pipe(ops.timeouts(**{limit: 0.25}))
    )
    assert events[-1][0] == 0.25
    assert "0.25 s" in str(events[-1][1])


def test_never_empty_and_error(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.timeouts(first=10)), until=9) == []
    error = ValueError("mine")
    operator = ops.timeouts(10, 10, 10)
    assert Marbles().run(marbles.cold("|").pipe(operator), until=1) == []
    fresh = Marbles()
    assert fresh.run(fresh.cold("a#", error=error).pipe(operator))[-1] == (1.0, error)
    assert fresh.timers == []


def test_early_disposal_leaves_no_timer_and_no_valve_callback(marbles: Marbles) -> None:
    source = marbles.cold("a-b")
    recording = marbles.subscribe(source.pipe(ops.timeouts(first=10, between=5, total=60)))
    marbles.advance_to(1)
    recording.dispose()
    assert (marbles.timers, marbles.valve._callbacks) == ([], {})
    assert source.subscriptions == [(0.0, 1.0)]


@pytest.mark.parametrize("diagram", ["a|", "a#", "a"])
def test_no_valve_callback_is_left_at_the_end(marbles: Marbles, diagram: str) -> None:
    marbles.run(marbles.cold(diagram).pipe(ops.timeouts(total=5)))
    assert (marbles.timers, marbles.valve._callbacks) == ([], {})


def test_each_subscription_has_its_own_clock(marbles: Marbles) -> None:
    stream = marbles.cold("a").pipe(ops.timeouts(between=5))
    first = marbles.subscribe(stream)
    marbles.advance_to(3)
    second = marbles.subscribe(stream)
    marbles.advance_to(20)
    assert (last(first.events)[0], last(second.events)[0]) == (5.0, 8.0)


def test_after_a_merge_any_content_resets_the_limit(marbles: Marbles) -> None:
    left, right = marbles.cold("a", source="left"), marbles.cold("---b", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.timeouts(between=5)))
    assert last(events) == (8.0, StallTimeoutError, "ab")


def test_the_scheduler_is_passed_upstream(marbles: Marbles) -> None:
    marbles.valve.close()
    stream = marbles.cold("a|", demand=True).pipe(ops.timeouts(first=5))
    assert marbles.run(stream) == []


def test_a_silent_model_is_cancelled_on_an_event_loop(marbles: Marbles) -> None:
    model = ScriptedModel(["a", 1000.0, "b"])

    async def main() -> None:
        async with no_leaks():
            stream = model.stream("Hi").pipe(ops.timeouts(between=5))
            with pytest.raises(StallTimeoutError):
                _ = [chunk async for chunk in to_async(stream)]

    run_virtual(main())
    assert (model.cancelled, model.active) == (1, 0)


@pytest.mark.parametrize("blocked", [0.6, 7.0])
@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        ("first", FirstTokenTimeoutError),
        ("between", StallTimeoutError),
        ("total", TotalTimeoutError),
    ],
)
@pytest.mark.parametrize("arrives", [True, False])
def test_a_process_that_was_stopped_does_not_blame_the_model(
    limit: str, kind: type[Exception], arrives: bool, blocked: float
) -> None:
    """Its timer fires late, before the tokens that wait in the socket are read."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        source = Subject[Chunk]()
        events: list[Any] = []

        def record(event: object) -> None:
            events.append((loop.time(), event))

        source.pipe(ops.timeouts(**{limit: 2.0})).subscribe(
            record, record, scheduler=StreamScheduler(loop)
        )
        if limit == "between":
            source.on_next(Token("a"))
        await asyncio.sleep(1.5)
        loop.block(blocked)
        if arrives:
            await asyncio.sleep(0)  # the timer is first
            await asyncio.sleep(0)
            source.on_next(Token("b"))
            source.on_completed()
        await asyncio.sleep(10)
        time, last = events[-1]
        assert (time, type(last)) == (
            (1.5 + blocked, Token) if arrives else (pytest.approx(1.6 + blocked), kind)
        )

    run_virtual(main())


def test_a_limit_judges_at_once_if_its_timer_is_late_by_a_few_hundredths(marbles: Marbles) -> None:
    marbles.at(1, lambda: marbles.scheduler.sleep(2.04))
    events = marbles.run(marbles.cold("").pipe(ops.timeouts(first=3)))
    assert last(events)[:2] == (3.04, FirstTokenTimeoutError)


@pytest.mark.parametrize("bad", [{"first": 0}, {"between": -1}, {"total": float("inf")}, {}])
def test_bad_limits_are_refused_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad), "at least one limit")):
        ops.timeouts(**bad)


@pytest.mark.parametrize("bad", [{"first": True}, {"between": "5"}])
def test_limits_that_are_not_numbers_are_refused_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(bad))):
        ops.timeouts(**bad)
