"""A small counter of sentences, for text that comes in pieces."""

from __future__ import annotations

from typing import Final

__all__ = ["SentenceCounter"]

_STOPS: Final = frozenset(".!?…")
_FULL_STOPS: Final = frozenset("\u3002\uff01\uff1f")  # full width, with no white space after
_CLOSING: Final = frozenset("\"')]}\u2019\u201d\u00bb\u300d\u300f\uff09")  # quotes and brackets


class SentenceCounter:
    """Counts the sentences that have begun, however the text is cut.

    A sentence begins with the first visible character, and with the first one that is not in lower
    case after a stop (`.`, `!`, `?`, `…`) and white space, or after a full-width stop. So neither
    "3.14" nor "e.g. this" makes two; "Dr. Smith" does.

    Attributes:
        count: sentences begun so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._add = self._before

    def add(self, text: str) -> bool:
        """Go on with `text`; return whether a sentence began in it."""
        before = self.count
        for character in text:
            self._add(character)
        return self.count > before

    def _before(self, character: str) -> None:
        if not character.isspace():
            self._begin()

    def _inside(self, character: str) -> None:
        if character in _STOPS:
            self._add = self._after_stop
        elif character in _FULL_STOPS:
            self._add = self._after_sentence

    def _after_stop(self, character: str) -> None:
        if character.isspace():
            self._add = self._after_sentence
        elif character not in _STOPS and character not in _CLOSING:
            self._add = self._inside

    def _after_sentence(self, character: str) -> None:
        if character.isspace() or character in _CLOSING or character in _FULL_STOPS:
            return
        if character.islower():
            self._add = self._inside
        else:
            self._begin()

    def _begin(self) -> None:
        self.count += 1
        self._add = self._inside
