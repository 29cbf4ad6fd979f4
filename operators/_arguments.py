"""What operators are given: whole numbers, numbers and functions, checked at the call.

Each check returns what it was given, or raises an error that names the argument and says what it
means: so `what` goes on from "size is ...", without its bounds, as in "the number of chunks". True
and False are no numbers, and neither is a text that looks like one.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeVar, cast

__all__ = ["function", "is_asynchronous", "number", "whole"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def whole(name: str, value: object, what: str, *, least: int = 1) -> int:
    """`value`, a whole number that is not below `least`.

    Raises:
        TypeError: it is no whole number (`2.0` is none either).
        ValueError: it is too low.

    >>> whole("size", 1.5, "the number of chunks in a batch")
    Traceback (most recent call last):
    TypeError: size is the number of chunks in a batch, a whole number, not 1.5
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        count = operator.index(cast("int", value))
    except TypeError:
        raise TypeError(f"{name} is {what}, a whole number, not {value!r}") from None
    if count < least:
        raise ValueError(f"{name} is {what}, {least} or more: {value!r}")
    return count


def number(
    name: str,
    value: object,
    what: str,
    *,
    above: float | None = None,
    least: float | None = None,
    endless: bool = False,
) -> float:
    """`value`, a number, such as a time in seconds.

    Args:
        name: of the argument.
        value: what was given.
        what: the meaning of the argument.
        above: what it has to be greater than.
        least: what it may not be below.
        endless: True lets infinity be one.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN, infinite or too low.

    >>> number("seconds", 0, "how long a chunk may wait", above=0)
    Traceback (most recent call last):
    ValueError: seconds is how long a chunk may wait, a finite number above 0: 0
    """
    finite = "a number" if endless else "a finite number"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {what}, {finite}, not {value!r}")
    given = float(value)
    if above is not None:
        finite, fits = f"{finite} above {above}", given > above
    elif least is not None:
        finite, fits = f"{finite}, {least} or more", given >= least
    else:
        fits = not math.isnan(given)
    if not fits or (math.isinf(given) and not endless):
        raise ValueError(f"{name} is {what}, {finite}: {value!r}")
    return given


def function(name: str, value: _Function, what: str, *, instead: str | None = None) -> _Function:
    """`value`, a function.

    Args:
        name: of the argument.
        value: what was given.
        what: the meaning of the argument.
        instead: refuses a coroutine function, and says what to do about it: use map_async.

    Raises:
        TypeError: it can't be called, or is asynchronous where it may not.

    >>> function("report", 5, "a function of the count")
    Traceback (most recent call last):
    TypeError: report is a function of the count, not 5
    """
    if not callable(value):
        raise TypeError(f"{name} is {what}, not {value!r}")
    if instead is not None and is_asynchronous(value):
        raise TypeError(f"{name} is {what}, and {value!r} is asynchronous: {instead}")
    return value


def is_asynchronous(function: object) -> bool:
    """Does calling `function` give a coroutine, as far as can be seen? Partial ones count too."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - of an object that can be called
    )
