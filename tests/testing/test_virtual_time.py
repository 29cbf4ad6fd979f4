"""The loop with virtual time: waiting is free, sockets and threads still work."""

import asyncio
import socket
import threading
import time

import pytest

from rxllm.testing import VirtualTimeLoop, run_virtual, virtual_time


def test_a_day_passes_instantly() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    begun = time.monotonic()
    assert run_virtual(main()) == 86_400
    assert time.monotonic() - begun < 60


def test_timers_fire_in_order_at_their_time() -> None:
    async def main() -> list[tuple[str, float]]:
        loop, seen = asyncio.get_running_loop(), []

        async def nap(seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((f"{seconds:g}", loop.time()))

        await asyncio.gather(nap(0.3), nap(0.1), nap(0.2))
        await nap(0.1)
        return seen

    assert run_virtual(main()) == [("0.1", 0.1), ("0.2", 0.2), ("0.3", 0.3), ("0.1", 0.4)]


def test_a_thread_is_waited_for_when_there_is_no_timer() -> None:
    async def main() -> str:
        release = threading.Event()
        waiting = asyncio.get_running_loop().run_in_executor(None, release.wait)
        release.set()
        await waiting
        return "came"

    assert run_virtual(main()) == "came"


def test_shutdown_waits_for_threads_beyond_the_limit_of_asyncio() -> None:
    loop, release = VirtualTimeLoop(), threading.Event()
    loop.run_in_executor(None, release.wait)
    loop.call_later(200, release.set)
    try:
        loop.run_until_complete(loop.shutdown_default_executor(100))
        assert loop.time() == 200
    finally:
        loop.close()


def test_socket_events_are_processed_before_time_jumps() -> None:
    async def main() -> tuple[bytes, float]:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        with near, far:
            far.setblocking(False)
            async with asyncio.timeout(5):
                receiving = asyncio.create_task(loop.sock_recv(far, 1))
                await asyncio.sleep(0)
                near.send(b"x")
                return await receiving, loop.time()

    assert run_virtual(main()) == (b"x", 0.0)


def test_a_time_limit_works() -> None:
    async def main() -> None:
        async with asyncio.timeout(5):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run_virtual(main())


def test_waiting_for_something_that_never_happens_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_time, "_PATIENCE", 0.0)
    with pytest.raises(RuntimeError, match="virtual time is stuck"):
        run_virtual(asyncio.Event().wait())
