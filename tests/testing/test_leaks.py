"""The leak check: it lists what is left behind, and only that."""

import asyncio
import gc
import threading
import weakref

import pytest

from rxllm.testing import leaks, no_leaks
from rxllm.valve import Valve


async def test_without_leaks_it_returns_without_a_loop_iteration() -> None:
    valve, turned = Valve(), list[str]()
    async with no_leaks(valve):
        valve.on_change(print).dispose()
        await asyncio.create_task(asyncio.sleep(0))
        asyncio.get_running_loop().call_soon(turned.append, "a turn")
    assert turned == []


async def test_earlier_tasks_and_timers_are_ignored() -> None:
    early = asyncio.create_task(asyncio.sleep(60))
    timer = asyncio.get_running_loop().call_later(60, print)
    await asyncio.sleep(0)
    async with no_leaks():
        pass
    assert not early.done()
    assert not timer.cancelled()
    early.cancel()
    timer.cancel()


async def test_a_leaked_task_is_listed() -> None:
    with pytest.raises(AssertionError, match="the task 'a pump'"):
        async with no_leaks():
            task = asyncio.create_task(asyncio.Event().wait(), name="a pump")
    task.cancel()


async def test_a_task_gets_some_iterations_to_clean_up() -> None:
    async def clean_up() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async with no_leaks():
        task = asyncio.create_task(clean_up())
    assert task.done()


async def test_a_leaked_timer_is_listed_unless_cancelled() -> None:
    loop = asyncio.get_running_loop()
    earlier = loop.call_later(30, print)
    async with no_leaks():
        loop.call_later(60, print).cancel()
    earlier.cancel()
    with pytest.raises(AssertionError, match="the timer"):
        async with no_leaks():
            timer = loop.call_later(60, print)
    timer.cancel()


async def test_a_leaked_watcher_of_a_valve_is_listed() -> None:
    valve = Valve()
    with pytest.raises(AssertionError, match="1 watcher"):
        async with no_leaks(valve):
            valve.on_change(print)


async def test_an_engine_thread_is_waited_for() -> None:
    release = threading.Event()
    async with no_leaks():
        thread = threading.Thread(target=release.wait, name="rxllm engine")
        thread.start()
        asyncio.get_running_loop().call_soon(release.set)
    assert not thread.is_alive()


async def test_a_leaked_engine_thread_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_THREAD_SECONDS", 0.0)
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="rxllm engine")
    with pytest.raises(AssertionError, match="the thread 'rxllm engine'"):
        async with no_leaks():
            thread.start()
    release.set()
    thread.join()


async def test_an_error_in_the_body_is_propagated() -> None:
    with pytest.raises(ValueError, match="inside"):
        async with no_leaks():
            raise ValueError("inside")


async def test_earlier_timers_are_kept_alive_so_that_their_ids_are_not_reused() -> None:
    loop = asyncio.get_running_loop()
    timer = loop.call_later(0.0, lambda: None)
    watched = weakref.ref(timer)
    async with no_leaks():
        del timer
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()
        assert watched() is not None
