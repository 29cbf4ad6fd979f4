"""Objects that are compared by their attributes."""

from __future__ import annotations

from typing import ClassVar

__all__ = ["Comparable"]


class Comparable:
    """An object that equals any other of its class with equal attributes.

    A reader and all its parts are comparable, so that a `BodyReader` can check whether an event has
    changed their state.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]
