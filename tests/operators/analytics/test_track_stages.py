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
from rxllm.chunks import Batch, ErrorInfo, Notice, Progress, StageInfo, Start, Token
from rxllm.testing import COMPLETED, Marbles


def stages_of(diagram: str, *arguments: Any, **options: Any) -> list[tuple[float, Any, Any]]:
    """The stages with their times and percentages."""
    marbles = Marbles()
    events = marbles.run(marbles.cold(diagram, **options).pipe(ops.track_stages(*arguments)))
    return [(time, e.stage, e.percentage) for time, e in events if isinstance(e, Progress)]


def test_the_stages_are_initialise_choose_model_generate_and_complete() -> None:
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


def test_a_failed_stage_has_its_error_and_is_not_complete(marbles: Marbles) -> None:
    error = ValueError("broken")
    events = marbles.run(marbles.cold("S-a-#", error=error).pipe(ops.track_stages()))
    last = [event for _, event in events if isinstance(event, Progress)][-1]
    assert last.stages == (
        StageInfo("initialise", "completed", 0.0, 0.0),
        StageInfo("choose_model", "completed", 0.0, 2.0),
        StageInfo("generate", "failed", 2.0, 4.0, ErrorInfo("ValueError", "broken")),
        StageInfo("complete", "pending"),
    )
    assert last.percentage == 25.0
    assert events[-1] == (4.0, error)


def test_stages_have_start_and_end_times(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("--S-a-b-E|").pipe(ops.track_stages()))
    stages = [event.stages for _, event in events if isinstance(event, Progress)]
    assert [[stage.status for stage in each] for each in stages] == [
        ["running", "pending", "pending", "pending"],
        ["completed", "running", "pending", "pending"],
        ["completed", "completed", "running", "pending"],
        ["completed", "completed", "completed", "completed"],
    ]
    assert [(stage.started, stage.ended) for stage in stages[-1]] == [
        (0.0, 2.0),
        (2.0, 4.0),
        (4.0, 8.0),
        (8.0, 8.0),
    ]


def test_a_stage_without_a_sign_is_skipped(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("a|").pipe(ops.track_stages()))
    assert [
        stage.status for stage in next(e for _, e in events[1:] if isinstance(e, Progress)).stages
    ] == ["completed", "skipped", "running", "pending"]


def test_the_maximum_is_that_of_the_request(marbles: Marbles) -> None:
    start = {"S": Start("1", "model", max_tokens=4)}
    assert stages_of("S-a-b-E|", None, 2, lookup=start)[3] == (4.0, "generate", 60.0)


def test_the_remaining_time_is_at_the_speed_of_the_answer(marbles: Marbles) -> None:
    stream = marbles.cold("---S-a-b-c-d-E|").pipe(ops.track_stages(8, 2))
    remaining = [e.remaining for _, e in marbles.run(stream) if isinstance(e, Progress)]
    assert remaining == [None, None, None, 6.0, 6.0, 0.0]


@pytest.mark.parametrize("stages_first", [True, False])
@given(
    diagram=st.lists(st.sampled_from("SabRE"), max_size=30).map("-".join),
    every=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    maximum=st.tuples(*[st.none() | st.integers(1, 20)] * 3),
)
def test_with_progress_in_the_same_pipe_there_is_one_percentage_that_never_falls(
    stages_first: bool,
    diagram: str,
    every: tuple[int, int],
    maximum: tuple[int | None, int | None, int | None],
) -> None:
    marbles = Marbles()
    both = [ops.track_stages(maximum[0], every[0]), ops.progress(every[1], maximum[1])]
    source = marbles.cold(
        diagram.replace("E", "a") + "-E|",
        lookup={"S": Start("1", "model", max_tokens=maximum[2])},
    )
    events = marbles.run(source.pipe(*(both if stages_first else reversed(both))))
    found = [e for _, e in events if isinstance(e, Progress)]
    percentages = [each.percentage or 0.0 for each in found]
    assert all(before <= after for before, after in pairwise(percentages))
    assert all(each.stage is not None and each.stages for each in found)
    assert percentages[-1] == 100


def test_a_prompt_that_is_read_and_a_queue_are_part_of_the_work(marbles: Marbles) -> None:
    lookup = {
        "q": Progress(0, 0.0, stage="queue", place=2),
        "p": Progress(0, 1.0, percentage=50.0, stage="prompt"),
    }
    events = marbles.run(marbles.cold("q-S-p-a-E|", lookup=lookup).pipe(ops.track_stages()))
    found = [(e.stage, e.percentage) for _, e in events if isinstance(e, Progress)]
    assert found == [
        ("initialise", 0.0),
        ("queue", 0.0),
        ("choose_model", 10.0),
        ("prompt", 17.5),
        ("generate", 25.0),
        ("complete", 100.0),
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
