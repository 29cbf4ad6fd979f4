"""`PatientTimer`: one that fires late waits a moment more."""

from __future__ import annotations

import asyncio

from rxllm.patient_timer import PatientTimer
from rxllm.testing import VirtualTimeLoop, run_virtual


def fired(*, blocked: float, cancelled_after: float = 100.0) -> list[float]:
    """Return when a timer of 5 s fires, in a process that is stopped after 3 s."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        times: list[float] = []
        timer = PatientTimer(5.0, lambda name: times.append(loop.time()), "name")
        await asyncio.sleep(3.0)
        loop.block(blocked)
        await asyncio.sleep(cancelled_after)
        timer.cancel()
        await asyncio.sleep(100.0)
        return times

    return run_virtual(main())


def test_it_fires_in_time() -> None:
    assert fired(blocked=0.0) == [5.0]
    assert fired(blocked=1.0) == [5.0]


def test_late_by_a_few_hundredths_it_fires_at_once() -> None:
    assert fired(blocked=2.04) == [5.04]


def test_late_by_more_it_waits_a_moment_and_may_be_cancelled_meanwhile() -> None:
    assert fired(blocked=2.06) == [5.16]
    assert fired(blocked=7.0) == [10.1]
    assert fired(blocked=7.0, cancelled_after=0.05) == []


def test_cancelled_it_never_fires() -> None:
    assert fired(blocked=0.0, cancelled_after=1.0) == []
