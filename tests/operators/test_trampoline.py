"""One step after another: a subscriber may open its valve inside of `on_next` (a foundation)."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Token, text_of
from rxllm.testing import COMPLETED, Marbles
from rxllm.trampoline import Trampoline
from rxllm.valve import with_valve


def test_a_step_that_comes_inside_of_another_one_waits_its_turn() -> None:
    done: list[Any] = []
    trampoline = Trampoline(SingleAssignmentDisposable())

    def outer(name: str) -> None:
        done.append(f"{name} begins")
        trampoline.run(done.append, "inner")
        trampoline.run(done.append, "another")
        done.append(f"{name} ends")

    trampoline.run(outer, "outer")
    trampoline.run(done.append, "later")
    assert done == ["outer begins", "outer ends", "inner", "another", "later"]


def test_after_disposal_no_step_is_run_nor_one_that_waits() -> None:
    done: list[Any] = []
    subscription = SingleAssignmentDisposable()
    trampoline = Trampoline(subscription)

    def leave(_: object) -> None:
        trampoline.run(done.append, "inner")
        subscription.dispose()

    trampoline.run(leave, None)
    trampoline.run(done.append, "later")
    assert done == []


def test_what_a_step_raises_disposes_and_goes_on() -> None:
    subscription = SingleAssignmentDisposable()
    with pytest.raises(ZeroDivisionError):
        Trampoline(subscription).run(lambda zero: 1 / zero, 0)
    assert subscription.is_disposed


def heard(
    marbles: Marbles,
    stream: Observable[Chunk],
    on_next: Callable[[Any], object],
    feed: Callable[[], object],
) -> list[Any]:
    """All that a subscriber hears that does something inside of its `on_next`."""
    got: list[Any] = []

    def hear(chunk: Chunk) -> None:
        got.append(chunk)
        on_next(chunk)

    stream.subscribe(
        hear,
        got.append,
        lambda: got.append(COMPLETED),
        scheduler=with_valve(marbles.scheduler, marbles.valve),
    )
    feed()
    marbles.advance_to(100)
    assert marbles.timers == []
    return got


HOLDERS: dict[str, list[Any]] = {
    "batch": [ops.batch(10, 1)],
    "throttle": [ops.throttle(1)],
    "smooth, throttle": [ops.smooth(max_lag=9), ops.throttle(1)],
}


@pytest.mark.parametrize(
    "last",
    [ops.words(), ops.rechunk(3), ops.redact("bad"), ops.stop_on("END"), ops.lines(longest=4)],
)
@pytest.mark.parametrize("holder", sorted(HOLDERS))
@pytest.mark.parametrize("opens_at", ["one", "o", "t"])
def test_what_was_held_upstream_does_not_overtake(
    marbles: Marbles, last: Any, holder: str, opens_at: str
) -> None:
    """A timer starts the delivery of several pieces; at one of them the subscriber opens."""
    subject: rx.Subject[Chunk] = rx.Subject()
    said = ["one two bad EN three ", "four ", "five "]

    def toggle(chunk: Chunk) -> None:
        if text_of(chunk).startswith(opens_at):
            marbles.valve.close()
            marbles.valve.open()

    def feed() -> None:
        subject.on_next(Token("one "))
        subject.on_next(Token(said[0]))
        marbles.at(0.5, marbles.valve.close)
        for text in said[1:]:
            marbles.at(0.6, partial(subject.on_next, Token(text)))
        marbles.at(0.7, partial(subject.on_next, End("stop")))
        marbles.at(0.7, subject.on_completed)
        marbles.at(5, marbles.valve.open)

    stream = cast("Any", subject).pipe(ops.buffered(10), *HOLDERS[holder], last)
    got = heard(marbles, stream, toggle, feed)
    text = "".join(map(text_of, got))
    assert text.replace("***", "bad") == "one " + "".join(said)
    assert got[-2:] == [End("stop"), COMPLETED]


@pytest.mark.parametrize(
    "operator", [ops.batch(9, 1), ops.throttle(1), ops.words(), ops.stop_on("lot")]
)
@pytest.mark.parametrize("inner", [End("stop", source="b"), Notice("restart", source="b")])
def test_an_end_that_comes_inside_of_on_next_waits_its_turn(
    marbles: Marbles, operator: Any, inner: Chunk
) -> None:
    """Two sources hold text, and the first one's last text makes the second one end."""
    subject: rx.Subject[Chunk] = rx.Subject()

    def answer(chunk: Chunk) -> None:
        if text_of(chunk).endswith("lo"):
            subject.on_next(inner)

    def feed() -> None:
        for source in "ab":
            subject.on_next(Token("h", source=source))
        for source in "ab":
            subject.on_next(Token("el", source=source))
            subject.on_next(Token("lo", source=source))
        subject.on_next(End("stop"))

    got = heard(marbles, subject.pipe(operator), answer, feed)
    for source in "ab":
        assert "".join(text_of(each) for each in got if each.source == source) == "hello"
    others = [each for each in got if not text_of(each)]
    assert (others[0], others[1:]) == (End("stop"), [inner, inner])


@pytest.mark.parametrize("operator", [ops.batch(2, 9), ops.throttle(9), ops.stop_on("abx")])
def test_a_subscriber_that_leaves_in_the_middle_hears_nothing_more(
    marbles: Marbles, operator: Any
) -> None:
    source = marbles.cold("ab-R|", lookup={"ab": Batch(tuple(map(Token, "abcdef")), "abcdef")})
    got: list[Any] = []

    def leave(chunk: Chunk) -> None:
        got.append(chunk)
        subscription.dispose()

    subscription = source.pipe(operator).subscribe(
        leave, scheduler=with_valve(marbles.scheduler, marbles.valve)
    )
    marbles.advance_to(50)
    assert (len(got), marbles.timers, marbles.valve._callbacks) == (1, [], {})
    assert source.subscriptions[0][1] is not None


@pytest.mark.parametrize("operator", [ops.batch(9, 3), ops.throttle(3)])
@pytest.mark.parametrize("closed", [False, True])
def test_a_subscriber_that_raises_on_a_timer_or_its_valve_ends_the_stream(
    marbles: Marbles, operator: Any, closed: bool
) -> None:
    source = marbles.cold("a-b-c-d-e-f")
    errors: list[Exception] = []

    def fail(chunk: Chunk) -> None:
        if text_of(chunk).endswith("b"):
            raise KeyError("mine")

    source.pipe(operator).subscribe(
        fail, errors.append, scheduler=with_valve(marbles.scheduler, marbles.valve)
    )
    if closed:
        marbles.at(1, marbles.valve.close)
        marbles.at(3.5, marbles.valve.open)
    with pytest.raises(KeyError):
        marbles.advance_to(50)
    assert (errors, marbles.valve._callbacks) == ([], {})
    assert source.subscriptions == [(0.0, 3.5 if closed else 3.0)]
