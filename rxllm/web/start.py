"""Run coroutines that rarely have to wait, without the cost of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["start_eagerly"]


def start_eagerly(coroutine: Coroutine[Any, Any, object]) -> asyncio.Task[None] | None:
    """Run `coroutine` now until it first waits; run the rest in the returned task.

    Writing to a client waits only while the client is slow. Otherwise a task for each write, or a
    task that has to be woken, would cost as much as the write itself. The coroutine must not ask
    for its current task before it first waits.

    Returns:
        The task that runs the rest, or `None` if the coroutine has finished.

    Raises:
        Exception: whatever the coroutine raises before it first waits.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    return asyncio.get_running_loop().create_task(_run_rest(coroutine, waits_for))


async def _run_rest(coroutine: Coroutine[Any, Any, object], waits_for: Any) -> None:
    while True:
        error: BaseException | None = None
        try:
            if waits_for is None:
                await asyncio.sleep(0)
            else:
                # Others may wait for the same future: cancelling this task must not cancel it.
                await asyncio.shield(waits_for)
        except BaseException as raised:
            error = raised
        try:
            waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration:
            return
