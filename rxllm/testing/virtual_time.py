"""An asyncio event loop whose clock jumps to the next timer: an hour passes instantly.

>>> async def main():
...     loop = asyncio.get_running_loop()
...     await asyncio.sleep(3600)
...     return loop.time()
>>> run_virtual(main())
3600.0
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["VirtualTimeLoop", "run_virtual"]

_T = TypeVar("_T")

_PATIENCE = 10.0


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A `SelectorEventLoop` in which only waiting takes (virtual) time.

    `time()` starts at 0 and advances only when the loop would sleep: it then jumps to the next
    timer. Sockets and threads still work; their events are processed before each jump, but a timer
    doesn't wait for them. With no timer left, the loop waits for them in real time.

    Raises:
        RuntimeError: from the running loop, if no timer is left and sockets and threads have been
            silent for 10 s of real time: whatever is awaited will never happen.
    """

    def __init__(self) -> None:
        self._virtual_time = 0.0
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        """Return the virtual time in seconds, from 0, rounded to nanoseconds."""
        return self._virtual_time

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - asyncio's signature
    ) -> None:
        """Wait for the threads of `run_in_executor`, however long they take.

        Since CPython 3.12, asyncio sets a limit of 300 s, to which virtual time would jump at once.
        """
        await super().shutdown_default_executor()

    def block(self, seconds: float) -> None:
        """Advance the clock at once, as if the process had been stopped or the loop blocked."""
        self._jump(seconds)

    def _jump(self, seconds: float) -> None:
        self._virtual_time = round(self._virtual_time + seconds, 9)


class _JumpingSelector(selectors.DefaultSelector):
    """Jumps ahead instead of sleeping."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return self._wait()
        ready = super().select(0)
        if not ready and timeout > 0:
            self._jump(timeout)
        return ready

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(_PATIENCE)
        if not ready:
            raise RuntimeError(
                "virtual time is stuck: there is no timer, and sockets and threads have been "
                f"silent for {_PATIENCE:g} s, so whatever is awaited will never happen"
            )
        return ready


def run_virtual(main: Awaitable[_T]) -> _T:
    """Run `main` in a new `VirtualTimeLoop`, and return its result.

    Raises:
        RuntimeError: an event loop is already running, or virtual time is stuck.
    """

    async def run() -> _T:
        return await main

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(run())
