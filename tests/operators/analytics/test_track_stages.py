"""`track_stages`: initialise, choose model, generate, complete; the percentage never falls."""

import math
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, abc
from reactivex import operators as rx_ops
from reactivex.disposable import Disposable

from rxllm import operators as ops
from rxllm.chunks import Batch, Notice, Progress, Token
from rxllm.testing import COMPLETED, Marbles


def stages_of(diagram: str, *arguments: Any, **options: Any) -> list[tuple[float, Any, Any]]:
    """The stages with their times and percentages."""
    marbles = Marbles()
    events = marbles.run(marbles.cold(diagram, **options).pipe(ops.track_stages(*arguments)))
    return [(time, e.stage, e.percentage) for time, e in events if isinstance(e, Progress)]


def test_the_four_stages() -> None:
    assert stages_of("--S-a-b-c-d-E|", 4, 2) == [
        (0.0, "initialise", 0.0),
        (2.0, "choose_model", 10.0),
        (4.0, "generate", 25.0),
        (6.0, "generate", 60.0),
        (10.0, "generate", 95.0),
        (12.0, "complete", 100.0),
    ]


def test_a_stage_is_reported_before_its_first_chunk(marbles: Marbles) -> None:
    events = [event for _, event in marbles.run(marbles.cold("S-a-E|").pipe(ops.track_stages()))]
    kinds = [type(event).__name__ for event in events[:-1]]
    assert kinds == ["Progress", "Progress", "Start", "Progress", "Token", "Progress", "End"]


def test_without_max_tokens_the_percentage_grows_but_never_reaches_the_end() -> None:
    percentages = [p for _, stage, p in stages_of("a-" * 300, None, 50) if stage == "generate"]
    assert percentages == sorted(percentages)
    assert percentages[-1] < 95


def test_more_tokens_than_expected_stay_below_the_end() -> None:
    assert stages_of("a-b-c-d|", 2, 1)[-2:] == [(6.0, "generate", 95.0), (7.0, "complete", 100.0)]


def test_without_an_end_it_is_complete_at_completion() -> None:
    assert stages_of("a-|") == [
        (0.0, "initialise", 0.0),
        (0.0, "generate", 25.0),
        (2.0, "complete", 100.0),
    ]


def test_a_failure_is_not_complete() -> None:
    assert [stage for _, stage, _ in stages_of("S-a-#")] == [
        "initialise",
        "choose_model",
        "generate",
    ]


def test_a_restart_or_fallback_chooses_again_and_the_percentage_stays() -> None:
    """The percentage must not fall from 50 back to 25."""
    got = stages_of("S-a-b-c-d-R-S-e-f-E|", 8, 4)
    assert [(stage, percentage) for _, stage, percentage in got] == [
        ("initialise", 0.0),
        ("choose_model", 10.0),
        ("generate", 25.0),
        ("generate", 60.0),
        ("choose_model", 60.0),
        ("generate", 60.0),
        ("complete", 100.0),
    ]
    again = stages_of("n-S-a|", lookup={"n": Notice("fallback")})
    assert [stage for _, stage, _ in again][:2] == ["initialise", "choose_model"]


@given(st.text("SabRE", max_size=30), st.integers(1, 5))
def test_the_percentage_never_falls(kinds: str, every: int) -> None:
    marbles = Marbles()
    diagram = "-".join(kinds.replace("E", "")) + "-E|"
    events = [e for _, e in marbles.run(marbles.cold(diagram).pipe(ops.track_stages(10, every)))]
    percentages = [e.percentage or 0.0 for e in events if isinstance(e, Progress)]
    assert all(before <= after for before, after in pairwise(percentages))
    assert (percentages[0], percentages[-1]) == (0.0, 100.0)


def test_chunks_in_a_batch_count(marbles: Marbles) -> None:
    batch = Batch((Token("a"), Token("b"), Token("c")), "abc")
    got = stages_of("B-B|", 12, 4, lookup={"B": batch})
    assert [percentage for _, _, percentage in got] == [0.0, 25.0, 60.0, 100.0]


def test_in_a_merge_only_the_end_of_all_is_complete(marbles: Marbles) -> None:
    stream = rx.merge(marbles.cold("a-E|", source="left"), marbles.cold("-x---E|", source="right"))
    events = marbles.run(stream.pipe(ops.track_stages()))
    complete = [time for time, e in events if isinstance(e, Progress) and e.stage == "complete"]
    assert complete == [6.0]


def test_in_a_merge_a_restart_of_one_source_does_not_reset_the_others(
    marbles: Marbles,
) -> None:
    left = marbles.cold("S-a-b-R-S-c-E|", source="left")
    right = marbles.cold("S-x-y--------z-E|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.track_stages(10, 2)))
    reported = [(e.stage, e.tokens, e.percentage) for _, e in events if isinstance(e, Progress)]
    assert reported == [
        ("initialise", 0, 0.0),
        ("choose_model", 0, 10.0),
        ("generate", 0, 25.0),
        ("generate", 2, 39.0),
        ("generate", 4, 53.0),
        ("generate", 4, 53.0),
        ("complete", 4, 100.0),
    ]


def test_in_a_merge_the_last_generating_source_chooses_again(marbles: Marbles) -> None:
    left = marbles.cold("S-a-----R-S-c-E|", source="left")
    right = marbles.cold("S-x-E|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.track_stages()))
    stages = [(time, e.stage) for time, e in events if isinstance(e, Progress)]
    assert stages[3:] == [(8.0, "choose_model"), (12.0, "generate"), (15.0, "complete")]


def test_disposing_at_the_first_stage_causes_no_model_call(
    marbles: Marbles,
) -> None:
    source = marbles.cold("S-a|")
    events = marbles.run(source.pipe(ops.track_stages(), rx_ops.take(1)))
    assert [getattr(event, "stage", event) for _, event in events] == ["initialise", COMPLETED]
    assert (source.subscriptions, marbles.timers) == ([], [])


def test_an_exception_of_the_subscriber_at_the_first_stage_is_not_an_error_of_the_stream(
    marbles: Marbles,
) -> None:
    def refusing(_: object) -> None:
        raise ConnectionResetError("the subscriber's own")

    source, errors = marbles.cold("S-a|"), list[Exception]()
    stream = source.pipe(ops.track_stages(), ops.retry_with_backoff(3))
    with pytest.raises(ConnectionResetError, match="own"):
        stream.subscribe(refusing, errors.append, scheduler=marbles.scheduler)
    assert (source.subscriptions, errors, marbles.timers) == ([], [], [])


def test_the_source_sees_the_context_of_the_subscription(marbles: Marbles) -> None:
    """So requests of the source are children of a span around it."""
    current = ContextVar("current", default="nothing")
    seen: list[str] = []

    def subscribe(*_: object) -> Disposable:
        seen.append(current.get())
        return Disposable()

    stream = Observable[Any](subscribe).pipe(ops.track_stages())

    def around(observer: abc.ObserverBase[Any], scheduler: Any = None) -> abc.DisposableBase:
        token = current.set("a span")
        try:
            return stream.subscribe(observer, scheduler=scheduler)
        finally:
            current.reset(token)

    marbles.subscribe(Observable[Any](around))
    assert seen == ["a span"]


def test_a_synchronous_source(marbles: Marbles) -> None:
    events = marbles.run(rx.from_iterable([Token("a"), Token("b")]).pipe(ops.track_stages(2, 1)))
    reported = [e.percentage for _, e in events if isinstance(e, Progress)]
    assert reported == [0.0, 25.0, 60.0, 95.0, 100.0]


def test_disposal_and_demand(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c", demand=True)
    recording = marbles.subscribe(source.pipe(ops.track_stages()))
    marbles.at(1, marbles.valve.close)
    marbles.advance_to(9)
    recording.dispose()
    assert Token("b") not in recording.chunks
    assert (source.subscriptions, marbles.timers) == ([(0.0, 9.0)], [])


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("a|").pipe(ops.track_stages())
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(5)
    assert first.events == second.events
    assert first.events[-1] == (1.0, COMPLETED)


@pytest.mark.parametrize("name", ["max_tokens", "every"])
@pytest.mark.parametrize("number", [0, True, 2.5, math.nan, "3"])
def test_invalid_arguments_raise_at_the_call(name: str, number: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=name):
        ops.track_stages(**{name: number})
