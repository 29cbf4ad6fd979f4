"""What a failure deserves, as a user may say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from rxllm.errors import Deserves

__all__ = ["Policy", "check_policy"]

Policy: TypeAlias = Callable[[Exception], Deserves]
"""From an error to `"again"`, `"next"` or `"neither"`, as `rxllm.deserves` does."""


def check_policy(when: object) -> None:
    """Check an argument.

    Raises:
        TypeError: it can't be called.
    """
    if not callable(when):
        raise TypeError(
            "when is a function from an error to 'again', 'next' or 'neither', such as "
            f"rxllm.deserves, not {when!r}"
        )
