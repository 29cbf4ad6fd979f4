"""One timer for many deadlines (a foundation)."""

from rxllm.operators._deadline_timer import DeadlineTimer
from rxllm.testing import Marbles
from rxllm.valve import clock_of


def rings(marbles: Marbles) -> tuple[DeadlineTimer, list[float]]:
    times: list[float] = []
    clock = clock_of(marbles.scheduler)
    return DeadlineTimer(marbles.scheduler, lambda: times.append(clock())), times


def test_it_rings_at_the_earliest_time_and_once(marbles: Marbles) -> None:
    alarm, times = rings(marbles)
    for at in (5, 3, 9, 4):
        alarm.set(at)
    assert marbles.timers == [3.0]
    marbles.advance_to(20)
    assert (times, marbles.timers) == ([3.0], [])


def test_a_later_time_does_not_touch_the_timer(marbles: Marbles) -> None:
    alarm, _ = rings(marbles)
    alarm.set(3)
    timer = alarm._timer.disposable
    for at in (3, 3.0000001, 9, float("inf")):
        alarm.set(at)
    assert alarm._timer.disposable is timer


def test_once_it_has_rung_it_can_be_set_again_and_infinity_is_never(marbles: Marbles) -> None:
    alarm, times = rings(marbles)
    alarm.set(float("inf"))
    assert marbles.timers == []
    alarm.set(1)
    marbles.advance_to(2)
    alarm.set(1)  # has passed: as soon as can be
    alarm.set(9)
    marbles.advance_to(20)
    assert times == [1.0, 2.0]


def test_disposed_it_never_rings(marbles: Marbles) -> None:
    alarm, times = rings(marbles)
    alarm.set(3)
    alarm.dispose()
    alarm.set(2)
    marbles.advance_to(20)
    assert (times, marbles.timers) == ([], [])
