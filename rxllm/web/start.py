"""Coroutines that mostly need not wait, run without the cost of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["start_eagerly"]


def start_eagerly(coroutine: Coroutine[Any, Any, object]) -> asyncio.Task[None] | None:
    """Run `coroutine` now, as far as it goes without waiting; the rest is the task returned.

    Writing to a client waits only while that is slow. For the other times, a task for each write,
    or one that has to be woken, would cost as much as the write. What is begun here must not ask
    for its task before it first waits.

    Returns:
        None if it has come to its end.

    Raises:
        Exception: what it raised before it first waited.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    return asyncio.get_running_loop().create_task(_go_on(coroutine, waits_for))


async def _go_on(coroutine: Coroutine[Any, Any, object], waits_for: Any) -> None:
    while True:
        error: BaseException | None = None
        try:
            if waits_for is None:
                await asyncio.sleep(0)
            else:
                # Others may wait for the same: cancelling this task must not cancel theirs.
                await asyncio.shield(waits_for)
        except BaseException as raised:
            error = raised
        try:
            waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration:
            return
