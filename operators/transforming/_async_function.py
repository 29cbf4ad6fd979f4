"""Async functions from users: checked when passed if possible, otherwise when awaited."""

from __future__ import annotations

import inspect
from typing import Any

from rxllm.arguments import check_int

__all__ = ["awaited", "check_asynchronous"]


def check_asynchronous(name: str, function: object, concurrency: int) -> None:
    """Check the arguments of an operator that awaits a function.

    Raises:
        TypeError: `function` can't be called, or `concurrency` is not an integer.
        ValueError: `concurrency` is below 1.
    """
    if not callable(function):
        raise TypeError(f"{name} takes an async function of a chunk, got {function!r}")
    check_int("concurrency", concurrency, "chunks in flight at once")


async def awaited(name: str, promise: Any) -> Any:
    """Await the result of a user's function, after checking that it can be awaited.

    Raises:
        TypeError: the function isn't asynchronous.
    """
    if not inspect.isawaitable(promise):
        raise TypeError(
            f"{name} takes an async function, but its function returned "
            f"{type(promise).__name__}, which can't be awaited"
        )
    return await promise
