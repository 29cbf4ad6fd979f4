"""The ids of tool calls: those that servers give, unless they are missing or used twice."""

from __future__ import annotations

from collections.abc import Container
from secrets import token_hex
from typing import Final

__all__ = ["distinct_id", "is_id"]

_MISSING: Final = (None, "", "null", "None")


def is_id(given: str | None) -> bool:
    """Return whether an id identifies a call; some servers send the word `null`."""
    return given not in _MISSING


def distinct_id(given: str | None, taken: Container[str], prefix: str = "call") -> str:
    """Return the id of a new call: the given one, or a random one if it is missing or taken.

    Args:
        given: the id from the server.
        taken: the ids of the other calls of the answer.
        prefix: the beginning of a random id.
    """
    if given is not None and is_id(given) and given not in taken:
        return given
    return f"{prefix}_{token_hex(12)}"
