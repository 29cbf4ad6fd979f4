"""`DeadlineTimer`: a single timer for many deadlines."""

from rxllm.operators._deadline_timer import DeadlineTimer, start_patient_timer
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


def patient_times(*, stopped: float, disposed_at: float = 100.0) -> list[float]:
    """Return when a patient timer of 5 s fires, in a process that is stopped after 3 s."""
    marbles, times = Marbles(), list[float]()
    clock = clock_of(marbles.scheduler)
    timer = start_patient_timer(marbles.scheduler, 5.0, lambda: times.append(clock()))
    marbles.at(3, lambda: marbles.scheduler.sleep(stopped))
    marbles.at(disposed_at, timer.dispose)
    marbles.advance_to(200)
    assert marbles.timers == []
    return times


def test_a_patient_timer_fires_in_time() -> None:
    assert patient_times(stopped=0.0) == patient_times(stopped=2.0) == [5.0]
    assert patient_times(stopped=2.04) == [5.04]


def test_a_late_patient_timer_waits_a_moment_and_may_be_disposed_meanwhile() -> None:
    assert patient_times(stopped=2.06) == [5.16]
    assert patient_times(stopped=60.0) == [63.1]
    assert patient_times(stopped=60.0, disposed_at=63.05) == []


def test_a_patient_timer_is_patient_each_time(marbles: Marbles) -> None:
    clock, times = clock_of(marbles.scheduler), list[float]()

    def again() -> None:
        times.append(clock())
        timer.set(clock() + 5)

    timer = start_patient_timer(marbles.scheduler, 5.0, again)
    for at in (3, 30):
        marbles.at(at, lambda: marbles.scheduler.sleep(20))
    marbles.advance_to(60)
    assert times == [23.1, 28.1, 50.1, 55.1]
