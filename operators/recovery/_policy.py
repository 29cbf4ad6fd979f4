"""User-supplied retry policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, get_args

from rxllm.errors import ErrorAction

__all__ = ["Policy", "policy_of"]

Policy: TypeAlias = Callable[[Exception], ErrorAction]
"""A function from an error to `"retry"`, `"fallback"` or `"raise"`, like `rxllm.classify_error`."""


def policy_of(when: Policy) -> Policy:
    """`when`, with its results checked: any other result is a `TypeError`.

    Raises:
        TypeError: it is not callable.
    """
    meaning = (
        "when must be a function from an error to 'retry', 'fallback' or 'raise', such as "
        "rxllm.classify_error"
    )
    if not callable(when):
        raise TypeError(f"{meaning}, got {when!r}")

    def checked(error: Exception) -> ErrorAction:
        verdict = when(error)
        if verdict not in get_args(ErrorAction):
            raise TypeError(f"{meaning}, and returned {verdict!r}") from error
        return verdict

    return checked
