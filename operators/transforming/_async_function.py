"""Async functions of users: checked at the call where that can be, else when they are awaited."""

from __future__ import annotations

import inspect
from typing import Any

from rxllm.arguments import check_int

__all__ = ["awaited", "check_asynchronous"]


def check_asynchronous(name: str, function: object, concurrency: int) -> None:
    """Check the arguments of an operator of this shape.

    Raises:
        TypeError: `function` can't be called, or `concurrency` is not an integer.
        ValueError: `concurrency` is below 1.
    """
    if not callable(function):
        raise TypeError(f"{name} takes an async function of a chunk, not {function!r}")
    check_int("concurrency", concurrency, "the number of chunks under way at once")


async def awaited(name: str, promise: Any) -> Any:
    """What an async function gives, once its call is known to be one.

    Raises:
        TypeError: the function is a plain one.
    """
    if not inspect.isawaitable(promise):
        raise TypeError(
            f"{name} takes an async function: what its function has returned, "
            f"{type(promise).__name__}, can't be awaited"
        )
    return await promise
