"""`DeadlineTimer`: a single timer for many deadlines."""

from rxllm.operators._deadline_timer import DeadlineTimer
from rxllm.testing import Marbles
from rxllm.valve import clock_of


def timer_of(marbles: Marbles) -> tuple[DeadlineTimer, list[float]]:
    times: list[float] = []
    clock = clock_of(marbles.scheduler)
    return DeadlineTimer(marbles.scheduler, lambda: times.append(clock())), times


def test_it_calls_back_once_at_the_earliest_time(marbles: Marbles) -> None:
    timer, times = timer_of(marbles)
    for at in (5, 3, 9, 4):
        timer.set(at)
    assert marbles.timers == [3.0]
    marbles.advance_to(20)
    assert (times, marbles.timers) == ([3.0], [])


def test_a_later_time_does_not_reschedule_the_timer(marbles: Marbles) -> None:
    timer, _ = timer_of(marbles)
    timer.set(3)
    scheduled = timer._timer.disposable
    for at in (3, 3.0000001, 9, float("inf")):
        timer.set(at)
    assert timer._timer.disposable is scheduled


def test_it_can_be_set_again_and_infinity_means_never(marbles: Marbles) -> None:
    timer, times = timer_of(marbles)
    timer.set(float("inf"))
    assert marbles.timers == []
    timer.set(1)
    marbles.advance_to(2)
    timer.set(1)  # in the past: as soon as possible
    timer.set(9)
    marbles.advance_to(20)
    assert times == [1.0, 2.0]


def test_after_disposal_it_never_calls_back(marbles: Marbles) -> None:
    timer, times = timer_of(marbles)
    timer.set(3)
    timer.dispose()
    timer.set(2)
    marbles.advance_to(20)
    assert (times, marbles.timers) == ([], [])
