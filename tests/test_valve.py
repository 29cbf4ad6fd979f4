"""The valve: opening and closing, notifications, and clean-up."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex.internal.constants import UTC_ZERO
from reactivex.scheduler.periodicscheduler import PeriodicScheduler
from reactivex.testing import TestScheduler

from rxllm.errors import NoEventLoopError
from rxllm.testing import run_virtual
from rxllm.valve import (
    StreamScheduler,
    Valve,
    clock_of,
    scheduler_or_default,
    valve_of,
    with_valve,
)


def test_a_valve_starts_open_and_follows_its_owner() -> None:
    valve = Valve()
    assert valve.is_open
    valve.close()
    assert not valve.is_open
    valve.open()
    assert valve.is_open


def test_a_valve_is_closed_while_one_downstream_is() -> None:
    sink = Valve()
    pause = Valve(downstream=sink)
    buffer = Valve(downstream=pause)
    sink.close()
    assert not buffer.is_open
    pause.close()
    sink.open()
    assert not buffer.is_open, "a sink can't open what a user has paused"
    pause.open()
    assert buffer.is_open


def test_a_valve_chained_to_a_closed_one_starts_closed() -> None:
    sink = Valve()
    sink.close()
    assert not Valve(downstream=sink).is_open


def test_upstream_never_closes_downstream() -> None:
    sink = Valve()
    Valve(downstream=sink).close()
    assert sink.is_open


def test_callbacks_are_called_only_on_changes() -> None:
    received: list[bool] = []
    valve = Valve()
    valve.on_change(received.append)
    for action in (valve.open, valve.close, valve.close, valve.open, valve.open):
        action()
    assert received == [False, True]


def test_a_callback_disposed_by_another_is_not_called() -> None:
    received: list[str] = []
    valve = Valve()
    first = valve.on_change(lambda _: second.dispose())
    second = valve.on_change(lambda _: received.append("second"))
    valve.close()
    assert received == []
    first.dispose()


def test_if_a_callback_changes_the_valve_the_others_receive_the_latest_state() -> None:
    received: list[bool] = []
    valve = Valve()
    valve.on_change(lambda is_open: valve.close() if is_open else None)
    valve.on_change(received.append)
    valve.close()
    valve.open()
    assert not valve.is_open
    assert received == [False, False], "the brief opening of the valve isn't reported"


def test_a_callbacks_exception_reaches_the_caller_after_the_other_callbacks() -> None:
    received: list[bool] = []

    def fail(_: bool) -> None:
        raise LookupError("mine")

    valve = Valve()
    valve.on_change(fail)
    valve.on_change(received.append)
    with pytest.raises(LookupError, match="mine"):
        valve.close()
    assert received == [False]


def test_disposal_opens_and_detaches() -> None:
    sink = Valve()
    buffer = Valve(downstream=sink)
    received: list[bool] = []
    buffer.on_change(received.append)
    sink.close()
    buffer.close()
    buffer.dispose()
    assert buffer.is_open
    assert received == [False, True]
    sink.open()
    sink.close()
    assert buffer.is_open
    assert not sink._callbacks


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40))
def test_a_chained_valve_is_open_only_if_all_downstream_are(
    moves: list[tuple[int, bool]],
) -> None:
    chain = [Valve()]
    for _ in range(3):
        chain.append(Valve(downstream=chain[-1]))
    held = [False] * 4
    for index, hold in moves:
        held[index] = hold
        (chain[index].close if hold else chain[index].open)()
        assert [valve.is_open for valve in chain] == [not any(held[: n + 1]) for n in range(4)]


async def test_any_number_of_tasks_may_wait() -> None:
    valve = Valve()
    valve.close()
    waiters = [asyncio.create_task(valve.wait_open()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiters)
    valve.open()
    await asyncio.gather(*waiters)
    assert not valve._callbacks


async def test_a_waiter_returns_only_once_the_valve_stays_open() -> None:
    valve = Valve()
    valve.close()
    waiter = asyncio.create_task(valve.wait_open())
    await asyncio.sleep(0)
    valve.open()
    valve.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiter.done()
    valve.open()
    await waiter


async def test_a_cancelled_waiter_leaves_nothing_behind() -> None:
    valve = Valve()
    valve.close()
    waiter = asyncio.create_task(valve.wait_open())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert not valve._callbacks


class TestSchedulers:
    """Schedulers that carry a valve, and their clocks."""

    def test_any_scheduler_carries_a_valve_and_stays_periodic(self) -> None:
        valve = Valve()
        scheduler = with_valve(TestScheduler(), valve)
        assert valve_of(scheduler) is valve
        assert isinstance(scheduler, PeriodicScheduler)

    def test_actions_receive_the_scheduler_that_carries_the_valve(self) -> None:
        inner = TestScheduler()
        scheduler = with_valve(inner, Valve())
        seen: list[object] = []
        scheduler.schedule(lambda given, _: seen.append(given))
        scheduler.schedule_relative(5.0, lambda given, _: seen.append(given))
        scheduler.schedule_absolute(9.0, lambda given, _: seen.append(given))
        inner.start()
        assert seen == [scheduler] * 3

    def test_periodic_actions_run_in_the_inner_schedulers_time(self) -> None:
        inner = TestScheduler()
        scheduler = with_valve(inner, Valve())
        assert isinstance(scheduler, PeriodicScheduler)
        times: list[float] = []
        scheduler.schedule_periodic(10.0, lambda _: times.append(inner.clock))
        inner.advance_to(35.0)
        assert times == [10.0, 20.0, 30.0]

    def test_a_plain_scheduler_has_its_own_open_valve(self) -> None:
        assert valve_of(TestScheduler()).is_open
        assert valve_of(None).is_open

    def test_the_clock_of_a_test_scheduler_is_its_virtual_time(self) -> None:
        inner = TestScheduler()
        clock = clock_of(with_valve(inner, Valve()))
        inner.advance_to(12.5)
        assert clock() == 12.5

    async def test_the_clock_of_a_stream_is_the_loops(self) -> None:
        loop = asyncio.get_running_loop()
        scheduler = StreamScheduler(loop)
        assert clock_of(scheduler) is clock_of(None) is time.monotonic
        drift = scheduler.now - UTC_ZERO - timedelta(seconds=loop.time())
        assert abs(drift) < timedelta(seconds=1)

    def test_a_loop_with_a_clock_of_its_own_keeps_it(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            assert clock_of(None) == loop.time
            await asyncio.sleep(100)
            assert clock_of(None)() == loop.time()

        run_virtual(main())

    def test_without_a_loop_the_error_says_what_to_do(self) -> None:
        with pytest.raises(NoEventLoopError, match=r"rxllm\.run"):
            clock_of(None)
        with pytest.raises(NoEventLoopError):
            scheduler_or_default(None)

    async def test_a_chained_scheduler_shares_the_tasks(self) -> None:
        scheduler = StreamScheduler(asyncio.get_running_loop())
        valve = Valve()
        chained = with_valve(scheduler, valve)
        assert isinstance(chained, StreamScheduler)
        assert chained.tasks is scheduler.tasks
        assert chained.valve is valve

    async def test_settling_is_bounded_and_late_tasks_are_reported(self) -> None:
        loop = asyncio.get_running_loop()
        messages: list[str] = []
        loop.set_exception_handler(lambda _, context: messages.append(context["message"]))
        scheduler = StreamScheduler(loop)
        stuck = loop.create_task(asyncio.Event().wait())
        scheduler.tasks.add(stuck)  # type: ignore[arg-type]
        await scheduler.settle(0.01)
        assert messages == ["a stream did not clean up within 0.01 s"]
        stuck.cancel()
