"""Notes on exceptions, which may be foreign: they may refuse a note, or be shared."""

from __future__ import annotations

from contextlib import suppress

__all__ = ["add_note"]


def add_note(error: Exception, note: str) -> None:
    """Add `note` to `error`, unless `error` already has it or doesn't accept notes."""
    with suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
