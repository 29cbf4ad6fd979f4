"""Steps never run inside one another, even when a subscriber opens its valve."""

import inspect
from asyncio import CancelledError
from collections import deque
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


def test_a_step_inside_another_one_is_queued() -> None:
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


def test_steps_inside_a_queued_step_run_after_those_already_queued() -> None:
    done: list[Any] = []
    trampoline = Trampoline()

    def branch(name: str) -> None:
        done.append(name)
        if len(name) < 3:
            trampoline.run(branch, f"{name}a")
            trampoline.run(branch, f"{name}b")

    trampoline.run(branch, "-")
    assert done == ["-", "-a", "-b", "-aa", "-ab", "-ba", "-bb"]


def test_steps_inside_steps_do_not_grow_the_stack() -> None:
    trampoline = Trampoline()
    depths: set[int] = set()

    def count_down(number: int) -> None:
        depths.add(len(inspect.stack(0)))
        if number:
            trampoline.run(count_down, number - 1)

    trampoline.run(count_down, 100)
    assert max(depths) - min(depths) <= 1


def test_no_step_runs_after_disposal() -> None:
    done: list[Any] = []
    subscription = SingleAssignmentDisposable()
    trampoline = Trampoline(subscription)

    def leave(_: object) -> None:
        trampoline.run(done.append, "inner")
        subscription.dispose()

    trampoline.run(leave, None)
    trampoline.run(done.append, "later")
    assert done == []


@pytest.mark.parametrize("error", [ZeroDivisionError(), CancelledError()])
@pytest.mark.parametrize("nested", [False, True])
def test_an_exception_disposes_drops_the_queue_and_propagates(
    error: BaseException, nested: bool
) -> None:
    done: list[Any] = []
    subscription = SingleAssignmentDisposable()
    trampoline = Trampoline(subscription)

    def fail(_: object) -> None:
        trampoline.run(done.append, "inner")
        raise error

    with pytest.raises(type(error)) as raised:
        trampoline.run(partial(trampoline.run, fail) if nested else fail, None)
    trampoline.run(done.append, "later")
    assert raised.value is error
    assert (done, subscription.is_disposed, trampoline.is_running) == ([], True, False)


def test_without_a_subscription_it_keeps_working_after_an_exception() -> None:
    done: list[Any] = []
    trampoline = Trampoline()

    def fail(_: object) -> None:
        trampoline.run(done.append, "inner")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trampoline.run(fail, None)
    trampoline.run(done.append, "later")
    assert done == ["later"]


def test_a_step_repeats_until_there_is_nothing_left_to_do() -> None:
    queue, done = deque("abc"), list[Any]()
    trampoline = Trampoline()

    def send_next() -> bool:
        if not queue:
            return False
        assert trampoline.is_running
        done.append(queue.popleft())
        return True

    trampoline.repeat(send_next)
    assert (done, trampoline.is_running) == (["a", "b", "c"], False)
    queue.extend("de")
    trampoline.repeat(send_next)
    assert "".join(done) == "abcde"


def test_items_queued_inside_a_repeated_step_wait_their_turn() -> None:
    queue, done = deque("ab"), list[Any]()
    trampoline = Trampoline()

    def send_next() -> bool:
        if not queue:
            return False
        item = queue.popleft()
        done.append(f"{item} begins")
        if item == "a":
            queue.append("c")
            trampoline.repeat(send_next)
        done.append(f"{item} ends")
        return True

    trampoline.repeat(send_next)
    assert done == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


def test_a_step_is_not_repeated_after_disposal() -> None:
    done: list[int] = []
    subscription = SingleAssignmentDisposable()
    trampoline = Trampoline(subscription)

    def leave_at_the_second() -> bool:
        done.append(len(done))
        if len(done) == 2:
            subscription.dispose()
        return True

    trampoline.repeat(leave_at_the_second)
    trampoline.repeat(leave_at_the_second)
    assert (done, trampoline.is_running) == ([0, 1], False)


@pytest.mark.parametrize("error", [ZeroDivisionError(), CancelledError()])
@pytest.mark.parametrize("owned", [False, True])
def test_an_exception_in_a_repeated_step_disposes_and_propagates(
    error: BaseException, owned: bool
) -> None:
    """Without a subscription, the next call continues."""
    queue, done = deque([1, 0, 2]), list[Any]()
    subscription = SingleAssignmentDisposable()
    trampoline = Trampoline(subscription if owned else None)

    def send_next() -> bool:
        if not queue:
            return False
        item = queue.popleft()
        if item == 0:
            raise error
        done.append(item)
        return True

    with pytest.raises(type(error)) as raised:
        trampoline.repeat(send_next)
    assert raised.value is error
    assert (done, subscription.is_disposed, trampoline.is_running) == ([1], owned, False)
    trampoline.repeat(send_next)
    assert done == ([1] if owned else [1, 2])


def events_of(
    marbles: Marbles,
    stream: Observable[Chunk],
    on_next: Callable[[Any], object],
    feed: Callable[[], object],
) -> list[Any]:
    """All events of a subscriber that acts inside its `on_next`."""
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
def test_chunks_held_upstream_do_not_overtake(
    marbles: Marbles, last: Any, holder: str, opens_at: str
) -> None:
    """A timer starts the delivery of several pieces; at one, the subscriber opens its valve."""
    subject: rx.Subject[Chunk] = rx.Subject()
    texts = ["one two bad EN three ", "four ", "five "]

    def toggle(chunk: Chunk) -> None:
        if text_of(chunk).startswith(opens_at):
            marbles.valve.close()
            marbles.valve.open()

    def feed() -> None:
        subject.on_next(Token("one "))
        subject.on_next(Token(texts[0]))
        marbles.at(0.5, marbles.valve.close)
        for text in texts[1:]:
            marbles.at(0.6, partial(subject.on_next, Token(text)))
        marbles.at(0.7, partial(subject.on_next, End("stop")))
        marbles.at(0.7, subject.on_completed)
        marbles.at(5, marbles.valve.open)

    stream = cast("Any", subject).pipe(ops.buffered(10), *HOLDERS[holder], last)
    got = events_of(marbles, stream, toggle, feed)
    text = "".join(map(text_of, got))
    assert text.replace("***", "bad") == "one " + "".join(texts)
    assert got[-2:] == [End("stop"), COMPLETED]


@pytest.mark.parametrize(
    "operator", [ops.batch(9, 1), ops.throttle(1), ops.words(), ops.stop_on("lot")]
)
@pytest.mark.parametrize("inner", [End("stop", source="b"), Notice("restart", source="b")])
def test_an_end_that_arrives_inside_on_next_waits_its_turn(
    marbles: Marbles, operator: Any, inner: Chunk
) -> None:
    """Two sources hold text, and the last text of the first one ends the second one."""
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

    got = events_of(marbles, subject.pipe(operator), answer, feed)
    for source in "ab":
        assert "".join(text_of(each) for each in got if each.source == source) == "hello"
    others = [each for each in got if not text_of(each)]
    assert (others[0], others[1:]) == (End("stop"), [inner, inner])


@pytest.mark.parametrize("operator", [ops.batch(2, 9), ops.throttle(9), ops.stop_on("abx")])
def test_a_subscriber_that_disposes_mid_delivery_receives_nothing_more(
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
