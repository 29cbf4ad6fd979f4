"""Objects that are compared by what they hold."""

from __future__ import annotations

from typing import ClassVar

__all__ = ["Comparable"]


class Comparable:
    """Equal to another object of its class whose attributes are equal.

    A reader and everything it is made of are comparable, so that a `BodyReader` can find out
    whether an event has changed their state.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]
