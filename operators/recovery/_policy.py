"""What a failure classify_error, as a user may say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, get_args

from rxllm.errors import ErrorAction

__all__ = ["Policy", "policy_of"]

Policy: TypeAlias = Callable[[Exception], ErrorAction]
"""From an error to `"retry"`, `"fallback"` or `"raise"`, as `rxllm.classify_error` does."""


def policy_of(when: Policy) -> Policy:
    """`when`, whose answers are checked: another one than the three is a `TypeError`.

    Raises:
        TypeError: it can't be called.
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
            raise TypeError(f"{meaning}, and gave {verdict!r}") from error
        return verdict

    return checked
