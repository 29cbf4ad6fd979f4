"""`Control`: its status, stopping, and calls that its state doesn't allow."""

from typing import Any

import pytest
import reactivex as rx

from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Token
from rxllm.errors import StreamStateError
from rxllm.operators import Control
from rxllm.testing import COMPLETED, Marbles


def test_the_status_follows_the_stream(marbles: Marbles, control: Control) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append(control.status)

    look()
    for time, action in enumerate([look, control.pause, look, control.resume, look]):
        marbles.at(time, action)
    stream = marbles.cold("a------E|").pipe(ops.pausable(control))
    stream.subscribe(on_completed=look, scheduler=marbles.scheduler)
    marbles.advance_to(9)
    assert seen == ["ready", "running", "paused", "running", "completed"]


def test_stopping_disposes_the_source_at_once_and_emits_cancelled(
    marbles: Marbles, control: Control
) -> None:
    source = marbles.cold("a-b-c|")
    marbles.at(3, control.stop)
    assert marbles.run(source.pipe(ops.pausable(control))) == [
        (0.0, Token("a")),
        (2.0, Token("b")),
        (3.0, End("cancelled")),
        (3.0, COMPLETED),
    ]
    assert (control.status, source.subscriptions) == ("cancelled", [(0.0, 3.0)])


def test_stopping_works_before_the_first_token(marbles: Marbles, control: Control) -> None:
    source = marbles.cold("-----a|")
    marbles.at(1, control.stop)
    events = marbles.run(source.pipe(ops.pausable(control)))
    assert events == [(1.0, End("cancelled")), (1.0, COMPLETED)]
    assert source.subscriptions == [(0.0, 1.0)]


def test_stopping_works_while_paused_and_drops_kept_chunks(
    marbles: Marbles, control: Control
) -> None:
    marbles.at(1, control.pause)
    marbles.at(4, control.stop)
    events = marbles.run(marbles.cold("a-b-c-d|").pipe(ops.pausable(control)))
    assert events[1:] == [(4.0, End("cancelled")), (4.0, COMPLETED)]
    assert marbles.timers == []


def test_stopping_from_inside_on_next(control: Control) -> None:
    got: list[Any] = []

    def on_next(chunk: Chunk) -> None:
        got.append(chunk)
        if chunk == Token("b"):
            control.stop()

    source: rx.Observable[Chunk] = rx.of(Token("a"), Token("b"), Token("c"))
    marbles = Marbles()
    source.pipe(ops.pausable(control)).subscribe(on_next, scheduler=marbles.scheduler)
    marbles.advance_to(1)
    assert got == [Token("a"), Token("b"), End("cancelled")]


def test_stopping_after_the_end_chunk_emits_no_second_one(
    marbles: Marbles, control: Control
) -> None:
    marbles.at(2, control.stop)
    events = marbles.run(marbles.cold("(a,E)----|").pipe(ops.pausable(control)))
    assert [event for _, event in events] == [Token("a"), End("stop"), COMPLETED]
    assert (events[-1][0], control.status) == (2.0, "cancelled")


def test_pausing_and_resuming_are_idempotent(marbles: Marbles) -> None:
    control = Control(max_pause=5)
    for time, action in [(1, control.pause), (5, control.pause)]:
        marbles.at(time, action)
    events = marbles.run(marbles.cold("a------------b|").pipe(ops.pausable(control)))
    assert events[1] == (6.0, End("cancelled"))
    again = Control()
    marbles.subscribe(marbles.cold("a").pipe(ops.pausable(again)))
    again.resume()
    assert again.status == "running"


def test_disposing_cancels(marbles: Marbles, control: Control) -> None:
    source = marbles.cold("a-b|")
    recording = marbles.subscribe(source.pipe(ops.pausable(control)))
    marbles.advance_to(1)
    control.pause()
    recording.dispose()
    assert (control.status, source.subscriptions) == ("cancelled", [(0.0, 1.0)])
    assert (recording.events, marbles.timers) == ([(0.0, Token("a"))], [])


def test_a_concurrent_second_subscription_is_an_error(marbles: Marbles, control: Control) -> None:
    source = marbles.cold("a-b|")
    stream = source.pipe(ops.pausable(control))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert isinstance(second.events[0][1], StreamStateError)
    assert first.events[-1] == (3.0, COMPLETED)
    assert source.subscriptions == [(0.0, 3.0)]


def test_after_the_end_a_control_serves_the_next_subscription(
    marbles: Marbles, control: Control
) -> None:
    stream = marbles.cold("a|").pipe(ops.pausable(control))
    marbles.subscribe(stream)
    marbles.advance_to(5)
    again = marbles.subscribe(stream)
    assert control.status == "running"
    marbles.advance_to(9)
    assert (again.chunks, control.status) == ([Token("a")], "completed")


def test_calls_that_the_state_does_not_allow_raise(marbles: Marbles, control: Control) -> None:
    for action in (control.pause, control.resume, control.stop):
        with pytest.raises(StreamStateError, match="has not started"):
            action()
    marbles.run(marbles.cold("|").pipe(ops.pausable(control)))
    for action in (control.pause, control.resume):
        with pytest.raises(StreamStateError, match="is completed"):
            action()
    control.stop()
    assert control.status == "completed"


def test_stopping_stops_all_streams_of_a_merge(marbles: Marbles, control: Control) -> None:
    left, right = marbles.cold("a-E---|", source="left"), marbles.cold("-x----|", source="right")
    marbles.at(4, control.stop)
    events = marbles.run(rx.merge(left, right).pipe(ops.pausable(control)))
    assert events[-2:] == [(4.0, End("cancelled")), (4.0, COMPLETED)]
    assert [left.subscriptions, right.subscriptions] == [[(0.0, 4.0)]] * 2


def test_stopping_an_answer_that_restarted_after_its_end_emits_cancelled(
    marbles: Marbles, control: Control
) -> None:
    marbles.at(7, control.stop)
    events = marbles.run(marbles.cold("a-E-R-b-c|").pipe(ops.pausable(control)))
    assert events[-2:] == [(7.0, End("cancelled")), (7.0, COMPLETED)]


def test_a_pause_that_the_scheduler_refuses_changes_nothing(marbles: Marbles) -> None:
    control = Control(max_pause=1e15)  # more than a virtual scheduler can count
    recording = marbles.subscribe(marbles.cold("-a-b|", demand=True).pipe(ops.pausable(control)))
    with pytest.raises(OverflowError):
        control.pause()
    assert control.status == "running"
    marbles.advance_to(9)
    assert recording.events[-1] == (4.0, COMPLETED)


@pytest.mark.parametrize(
    ("max_pause", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (True, TypeError),
        ("5", TypeError),
    ],
)
def test_an_invalid_limit_raises_at_the_call(max_pause: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_pause"):
        Control(max_pause)
