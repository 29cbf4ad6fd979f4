"""Joins characters that are cut in two."""

from __future__ import annotations

import re
from typing import Final

from rxllm.models.remote.state import Comparable

__all__ = ["TextJoiner"]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class TextJoiner(Comparable):
    """Joins a high surrogate at the end of a delta with the low one at the start of the next."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return the text to pass on now. A surrogate without its pair becomes U+FFFD.

        >>> joiner = TextJoiner()
        >>> joiner.feed("a \\ud83e"), joiner.feed("\\udd8a!")
        ('a ', '🦊!')
        """
        if not self._held and (text.isascii() or not _SURROGATE.search(text)):
            return text
        text = self._held + text
        self._held = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        text = text.removesuffix(self._held)
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def flush(self) -> str:
        """Return U+FFFD if a surrogate is still waiting for its pair."""
        held, self._held = self._held, ""
        return "\ufffd" if held else ""
