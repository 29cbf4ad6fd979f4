"""What is written on an exception, which may be anybody's: it may refuse, or be shared."""

from __future__ import annotations

from contextlib import suppress

__all__ = ["add_note", "write_partial"]


def write_partial(error: Exception, text: str) -> None:
    """Write the text that was passed on into `error.partial`.

    An exception that can't take it, or has something other than a text there (as
    `asyncio.IncompleteReadError` has), stays as it is.
    """
    with suppress(Exception):
        if isinstance(getattr(error, "partial", ""), str):
            error.partial = text  # type: ignore[attr-defined]


def add_note(error: Exception, note: str) -> None:
    """Add `note`, unless `error` has it already or can't take it."""
    with suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
