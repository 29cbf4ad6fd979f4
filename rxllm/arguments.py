"""Argument checks, made at the call: integers, numbers and functions.

Each check returns its value, or raises an error that says what the argument must be, what it means
and what was given. `True` and `False` are not numbers, and neither is a string that looks like one.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeVar, cast

__all__ = ["check_callable", "check_int", "check_number", "is_asynchronous", "refuse_coroutine"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def check_int(name: str, value: object, what: str, *, minimum: int = 1) -> int:
    """Return `value` as an integer of at least `minimum`.

    Raises:
        TypeError: `value` is not an integer (`2.0` is not one either).
        ValueError: `value` is below `minimum`.

    >>> check_int("size", 1.5, "the number of chunks in a batch")
    Traceback (most recent call last):
    TypeError: size must be an integer (the number of chunks in a batch), got 1.5
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        count = operator.index(cast("int", value))
    except TypeError:
        raise TypeError(f"{name} must be an integer ({what}), got {value!r}") from None
    if count < minimum:
        raise ValueError(f"{name} must be {minimum} or more ({what}), got {value!r}")
    return count


def check_number(
    name: str,
    value: object,
    what: str,
    *,
    above: float | None = None,
    minimum: float | None = None,
    allow_infinity: bool = False,
) -> float:
    """Return `value` as a float, such as a time in seconds.

    Args:
        name: the name of the argument.
        value: the value passed.
        what: the meaning of the argument.
        above: an exclusive lower bound.
        minimum: an inclusive lower bound.
        allow_infinity: whether infinity is allowed.

    Raises:
        TypeError: `value` is not a number.
        ValueError: `value` is NaN, infinite or too low.

    >>> check_number("seconds", 0, "how long a chunk may wait", above=0)
    Traceback (most recent call last):
    ValueError: seconds must be a finite number above 0 (how long a chunk may wait), got 0
    """
    finite = "a number" if allow_infinity else "a finite number"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {finite} ({what}), got {value!r}")
    given = float(value)
    if above is not None:
        finite, fits = f"{finite} above {above}", given > above
    elif minimum is not None:
        finite, fits = f"{finite}, {minimum} or more", given >= minimum
    else:
        fits = not math.isnan(given)
    if not fits or (math.isinf(given) and not allow_infinity):
        raise ValueError(f"{name} must be {finite} ({what}), got {value!r}")
    return given


def check_callable(
    name: str, value: _Function, what: str, *, instead: str | None = None
) -> _Function:
    """Return `value` if it is callable.

    Args:
        name: the name of the argument.
        value: the value passed.
        what: the meaning of the argument.
        instead: if given, coroutine functions are rejected, and this tells the user what to do
            instead, such as `"use map_async"`.

    Raises:
        TypeError: `value` is not callable, or is asynchronous where that isn't allowed.

    >>> check_callable("report", 5, "a function of the count")
    Traceback (most recent call last):
    TypeError: report must be a function of the count, got 5
    """
    if not callable(value):
        raise TypeError(f"{name} must be {what}, got {value!r}")
    if instead is not None and is_asynchronous(value):
        raise TypeError(f"{name} must be {what}, and {value!r} is asynchronous: {instead}")
    return value


def refuse_coroutine(result: object, function: object) -> None:
    """Raise an error if a plain function returned a coroutine, which nothing would await.

    Raises:
        TypeError: `result`, which `function` returned, is a coroutine. It is closed.
    """
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(
            f"{function!r} returned a coroutine, which nothing awaits: give an async function "
            "where one is taken, or start a task in a plain function"
        )


def is_asynchronous(function: object) -> bool:
    """Whether `function`, or the function in a partial, is known to return a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - for callable objects
    )
