"""What is written on an exception, which may be anybody's: it may refuse, or be shared."""

from __future__ import annotations

from contextlib import suppress

__all__ = ["add_note"]


def add_note(error: Exception, note: str) -> None:
    """Add `note`, unless `error` has it already or can't take it."""
    with suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
