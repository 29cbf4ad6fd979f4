"""A check that a stream leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

from rxllm.background import LASTING_THREADS
from rxllm.valve import Valve

__all__ = ["no_leaks"]

_TURNS = 20
_THREAD_SECONDS = 5.0


@asynccontextmanager
async def no_leaks(*valves: Valve) -> AsyncIterator[None]:
    """Fail on exit if something started inside is still alive.

    The check covers tasks, timers of the loop that are not cancelled (if the loop exposes them;
    uvloop does not), threads whose name starts with `rxllm` (except the two that stay until the
    process ends, of the background loop and of grammars), and watchers of the given valves. The
    loop gets 20 iterations to clean up, threads get 5 s of real time. If the body raises, nothing
    is checked.

    Args:
        valves: valves that must have no watchers at the end.

    Raises:
        AssertionError: something was left behind; the message lists each item.

    >>> async def main():
    ...     async with no_leaks():
    ...         forgotten = asyncio.create_task(asyncio.sleep(60), name="a forgotten nap")
    >>> asyncio.run(main())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: left behind:
    - the task 'a forgotten nap' ...
    """
    before = _begun()
    yield
    for _ in range(_TURNS):
        if not _left(before, valves):
            return
        await asyncio.sleep(0)
    await _end_of_threads(before)
    left = _left(before, valves)
    if left:
        raise AssertionError("\n- ".join(["left behind:", *left]))


_Things: TypeAlias = dict[object, tuple[object, str]]


def _begun() -> _Things:
    """Return all live things with their names, and keep references so that no id is reused."""
    current = asyncio.current_task()
    found: _Things = {}
    for task in asyncio.all_tasks():
        if task is not current:
            found[task] = task, f"the task {task.get_name()!r} ({task.get_coro()})"
    for timer in getattr(asyncio.get_running_loop(), "_scheduled", ()):
        if not timer.cancelled():
            # Two timers are equal if they have the same deadline and callback.
            found[id(timer)] = timer, f"the timer {timer}"
    for thread in threading.enumerate():
        if _is_ours(thread):
            found[thread] = thread, f"the thread {thread.name!r}"
    return found


def _left(before: _Things, valves: tuple[Valve, ...]) -> list[str]:
    left = [name for thing, (_, name) in _begun().items() if thing not in before]
    for valve in valves:
        count = len(valve._callbacks)  # noqa: SLF001 - only needed here
        if count:
            left.append(f"{count} watcher(s) of {valve}")
    return left


async def _end_of_threads(before: _Things) -> None:
    deadline = time.monotonic() + _THREAD_SECONDS
    for thread in threading.enumerate():
        if _is_ours(thread) and thread not in before:
            await asyncio.to_thread(thread.join, max(0.0, deadline - time.monotonic()))


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith("rxllm") and thread.name not in LASTING_THREADS
