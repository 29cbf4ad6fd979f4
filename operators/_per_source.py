"""State that an operator keeps for each stream of a merge, by `chunk.source`."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["concerned", "forget"]

_State = TypeVar("_State")


def concerned(states: dict[str | None, _State], source: str | None) -> list[str | None]:
    """The streams with a state that a chunk of `source` concerns: None concerns all."""
    if source is None:
        return list(states)
    return [source] if source in states else []


def forget(states: dict[str | None, _State], source: str | None) -> None:
    """Drop what is kept for `source`; None drops everything."""
    if source is None:
        states.clear()
    else:
        states.pop(source, None)
