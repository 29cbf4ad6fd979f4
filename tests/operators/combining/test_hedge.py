"""`hedge`: a second stream if the first is slow."""

from typing import Any

import pytest
import reactivex as rx
from reactivex.disposable import Disposable

from rxllm import operators as ops
from rxllm.chunks import End, Token, text_of
from rxllm.errors import AllModelsFailedError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import RaceResult, StreamSummary
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual


def test_a_first_stream_in_time_is_the_only_one(marbles: Marbles) -> None:
    results: list[RaceResult] = []
    second = marbles.cold("x|")
    stream = ops.hedge(marbles.cold("S--a----b-E|"), second, 3.5, on_result=results.append)
    assert marbles.run(stream)[1:] == [
        (3.0, Token("a", source="first")),
        (8.0, Token("b", source="first")),
        (10.0, End("stop", source="first")),
        (11.0, COMPLETED),
    ]
    assert (second.subscriptions, results) == ([], [RaceResult("first", 3.0, {})])


def test_a_slow_first_stream_starts_the_second(marbles: Marbles) -> None:
    results: list[RaceResult] = []
    first, second = marbles.cold("S-------a|"), marbles.cold("S-x-y|")
    stream = ops.hedge(first, second, 4, on_result=results.append)
    assert [(time, text_of(event)) for time, event in marbles.run(stream)][1:] == [
        (6.0, "x"),
        (8.0, "y"),
        (9.0, ""),
    ]
    assert (first.subscriptions, second.subscriptions) == ([(0.0, 6.0)], [(4.0, 9.0)])
    assert results == [RaceResult("second", 6.0, {"first": StreamSummary("cancelled", 0, 6.0)})]


def test_the_first_stream_may_still_win(marbles: Marbles) -> None:
    second = marbles.cold("S-----x|")
    events = marbles.run(ops.hedge(marbles.cold("-----a|"), second, 4))
    assert events[0] == (5.0, Token("a", source="first"))
    assert second.subscriptions == [(4.0, 5.0)]


@pytest.mark.parametrize(("first", "started"), [("-" * 30 + "a|", []), ("", [(61.1, 61.1)])])
def test_after_a_stop_of_the_process_the_answer_of_the_first_is_read_first(
    marbles: Marbles, first: str, started: object
) -> None:
    second = marbles.cold("|")
    marbles.at(1, lambda: marbles.scheduler.sleep(60))
    marbles.run(ops.hedge(marbles.cold(first), second, 4))
    assert second.subscriptions == started


@pytest.mark.parametrize("end", ["#", "|"])
def test_if_the_first_ends_without_content_the_second_starts_at_once(
    marbles: Marbles, end: str
) -> None:
    second = marbles.cold("-x|")
    events = marbles.run(ops.hedge(marbles.cold(f"-{end}"), second, 60))
    assert (2.0, Token("x", source="second")) in events
    assert (second.subscriptions, marbles.timers) == ([(1.0, 3.0)], [])


def test_a_first_stream_that_fails_synchronously(marbles: Marbles) -> None:
    stream = ops.hedge(rx.throw(ValueError("broken")), marbles.cold("-x|"), 60)
    assert marbles.run(stream)[-2:] == [(1.0, Token("x", source="second")), (2.0, COMPLETED)]
    assert marbles.timers == []


def test_if_both_fail_the_error_has_both_errors(marbles: Marbles) -> None:
    one, two = ValueError("one"), ValueError("two")
    stream = ops.hedge(marbles.cold("-#", error=one), marbles.cold("-#", error=two), 4)
    time, error = marbles.run(stream)[-1]
    assert (time, type(error), error.errors) == (2.0, AllModelsFailedError, (one, two))


def test_time_with_a_closed_valve_does_not_count(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(11, marbles.valve.open)
    first, second = marbles.cold(""), marbles.cold("x", demand=True)
    recording = marbles.subscribe(ops.hedge(first, second, 4))
    marbles.advance_to(30)
    assert recording.events == [(14.0, Token("x", source="second"))]
    recording.dispose()
    assert marbles.valve._callbacks == {}


def test_a_valve_closed_from_the_beginning(marbles: Marbles) -> None:
    marbles.valve.close()
    marbles.at(10, marbles.valve.open)
    second = marbles.cold("x", demand=True)
    marbles.subscribe(ops.hedge(marbles.cold(""), second, 4))
    marbles.advance_to(30)
    assert second.subscriptions == [(14.0, None)]


def test_early_disposal_cancels_the_timer(marbles: Marbles) -> None:
    first, second = marbles.cold("S-------a|"), marbles.cold("x|")
    recording = marbles.subscribe(ops.hedge(first, second, 4))
    marbles.advance_to(2)
    recording.dispose()
    assert marbles.timers == []
    marbles.advance_to(9)
    assert (first.subscriptions, second.subscriptions) == ([(0.0, 2.0)], [])


def test_each_subscription_has_its_own_timer(marbles: Marbles) -> None:
    second = marbles.cold("x|")
    stream = ops.hedge(marbles.cold(""), second, 4)
    marbles.subscribe(stream)
    marbles.at(1, lambda: marbles.subscribe(stream))
    marbles.advance_to(9)
    assert [begun for begun, _ in second.subscriptions] == [4.0, 5.0]


def test_nothing_leaks_on_an_event_loop() -> None:
    slow = ScriptedModel("slow", first_delay=60)
    fast = ScriptedModel("fast answer", by="word", delay=0.5)

    async def main() -> str:
        async with no_leaks():
            stream = ops.hedge(slow.stream("Hi"), fast.stream("Hi"), 2)
            return "".join([text_of(chunk) async for chunk in to_async(stream)])

    assert run_virtual(main()) == "fast answer"
    assert (slow.cancelled, slow.active, fast.completed) == (1, 0, 1)


@pytest.mark.parametrize("after", [0, -1, float("inf"), float("nan")])
def test_a_bad_time_is_refused_at_the_call(after: float) -> None:
    with pytest.raises(ValueError, match=r"after must be .* \(the seconds"):
        ops.hedge(rx.never(), rx.never(), after)


def test_a_second_stream_that_raises_after_its_end_does_not_keep_the_race_open(
    marbles: Marbles,
) -> None:
    def subscribe(observer: Any, _: Any) -> Disposable:
        observer.on_completed()
        raise KeyError("broken")

    recording = marbles.subscribe(ops.hedge(marbles.cold("----#"), rx.create(subscribe), 1))
    with pytest.raises(KeyError):
        marbles.advance_to(9)
    marbles.scheduler.stop()
    marbles.advance_to(9)
    assert recording.events[-1] == (4.0, COMPLETED)


@pytest.mark.parametrize("after", [True, "4"])
def test_a_time_that_is_not_a_number_is_refused_at_the_call(after: Any) -> None:
    with pytest.raises(TypeError, match=r"after must be .* \(the seconds"):
        ops.hedge(rx.never(), rx.never(), after)


@pytest.mark.parametrize("arguments", [(None, rx.never()), (rx.never(), "text")])
def test_what_is_not_a_stream_is_refused_at_the_call(arguments: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError, match="hedge takes streams"):
        ops.hedge(*arguments, after=4)
