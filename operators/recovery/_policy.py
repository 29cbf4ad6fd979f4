"""What a failure deserves, as a user may say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, get_args

from rxllm.errors import Deserves

__all__ = ["Policy", "policy_of"]

Policy: TypeAlias = Callable[[Exception], Deserves]
"""From an error to `"again"`, `"next"` or `"neither"`, as `rxllm.deserves` does."""


def policy_of(when: Policy) -> Policy:
    """`when`, whose answers are checked: another one than the three is a `TypeError`.

    Raises:
        TypeError: it can't be called.
    """
    meaning = (
        "when is a function from an error to 'again', 'next' or 'neither', such as rxllm.deserves"
    )
    if not callable(when):
        raise TypeError(f"{meaning}, not {when!r}")

    def checked(error: Exception) -> Deserves:
        verdict = when(error)
        if verdict not in get_args(Deserves):
            raise TypeError(f"{meaning}, and gave {verdict!r}") from error
        return verdict

    return checked
