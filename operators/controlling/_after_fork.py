"""A fork copies what the streams of a process share, but not the loops that run the streams."""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["clear_after_fork"]


class Clearable(Protocol):
    """Something that streams share."""

    def clear(self) -> None:
        """Forget all streams. Another thread may have held the lock when the process forked."""


_shared: Final[WeakSet[Clearable]] = WeakSet()


def clear_after_fork(shared: Clearable) -> None:
    """Clear `shared` in each child process that is forked from now on."""
    _shared.add(shared)


def _clear_all() -> None:
    for shared in tuple(_shared):
        shared.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_clear_all)
