"""`start_eagerly`: coroutines that rarely have to wait."""

from __future__ import annotations

import asyncio

import pytest

from rxllm.testing import no_leaks
from rxllm.web.start import start_eagerly


async def test_a_coroutine_that_does_not_wait_finishes_at_once_without_a_task() -> None:
    done = []

    async def work() -> None:
        done.append(1)

    assert start_eagerly(work()) is None
    assert done == [1]


async def test_a_coroutine_that_waits_continues_in_a_task() -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    seen = []

    async def work() -> None:
        seen.append(await first)
        await asyncio.sleep(0)
        seen.append(await second)

    async with no_leaks():
        rest = start_eagerly(work())
        assert rest is not None
        first.set_result("a")
        second.set_result("b")
        await rest
    assert seen == ["a", "b"]


async def test_an_error_is_raised_at_once_or_after_a_wait_by_the_task() -> None:
    failing = asyncio.get_running_loop().create_future()

    async def at_once() -> None:
        raise ConnectionResetError

    async def later() -> None:
        await failing

    with pytest.raises(ConnectionResetError):
        start_eagerly(at_once())
    rest = start_eagerly(later())
    assert rest is not None
    failing.set_exception(BrokenPipeError())
    with pytest.raises(BrokenPipeError):
        await rest


async def test_cancelling_the_task_does_not_cancel_a_shared_future() -> None:
    shared = asyncio.get_running_loop().create_future()
    left = []

    async def work() -> None:
        try:
            await shared
        finally:
            left.append("clean")

    rest = start_eagerly(work())
    assert rest is not None
    await asyncio.sleep(0)
    rest.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rest
    assert left == ["clean"]
    assert not shared.cancelled()
