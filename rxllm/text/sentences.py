"""Sentence boundaries in text that arrives in pieces.

>>> borders = SentenceBorders()
>>> borders.feed("Pi is 3."), borders.feed("14. Dr. No "), borders.feed("left. Why"), borders.begun
([], [12], [25], 3)
"""

# ruff: noqa: RUF002 - full-width punctuation is intended

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from unicodedata import category

from rxllm.text.abbreviations import ABBREVIATIONS, BEFORE_NUMBERS

__all__ = ["SentenceBorders"]

_STOPS: Final = frozenset(
    ".!?\u2026\u203c\u203d\u2047\u2048\u2049\u061f\u06d4\u0589\u0964\u0965\uff0e"
)
_FULL_STOPS: Final = frozenset("\u3002\uff01\uff1f\uff61")  # these need no white space after them
_MARKDOWN: Final = "*_~`"
_OPENING: Final = frozenset(_MARKDOWN + "#>-\u2013\u2014\u2022\u00bf\u00a1")
_LOOK: Final = re.compile(f"[{re.escape(''.join(_STOPS | _FULL_STOPS))}\n\r\u2029]")

_CONTEXT: Final = 24  # characters before a full stop that are needed to classify it
_WORD: Final = re.compile(r"(?<![\w.])\w[\w.]*\Z")
_INITIALS: Final = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]\Z")
_ITEM: Final = re.compile(r"(?:\A|[\n\r])[\s(*_#>\u2022-]*(?:\d{1,3}|[^\W\d_])\Z")


class SentenceBorders:
    r"""Finds the boundaries between sentences, however the text is cut into pieces.

    A sentence ends with one or more stops (`.`, `!`, `?`, `…` and similar), the closing quotes and
    brackets after them, and the white space after that. White space is required, so "3.14" and
    "example.com" contain no boundary, except after a full-width stop (`。`, `！`, `？`). A
    lower-case letter continues the sentence, except after a full-width stop: "Wait... what?" and
    '"Stop!" he said' are one sentence each. No sentence ends after an abbreviation ("Dr.", "e.g."),
    initials ("J. R. R. Tolkien", "U.S.") or the number of a list item ("1. Bread").

    An empty line always ends a sentence.

    A boundary is known at the first character of the next sentence that isn't a quote or bracket.

    Args:
        any_case: a lower-case letter begins a sentence, too.

    Attributes:
        begun: how many sentences have begun; the first begins with the first visible character.
    """

    __slots__ = (
        "_any_case",
        "_border",
        "_breaks",
        "_closing_only",
        "_full",
        "_last",
        "_length",
        "_step",
        "_stopped",
        "_tail",
        "_word",
        "begun",
    )

    def __init__(self, *, any_case: bool = False) -> None:
        self.begun: int = 0
        self._any_case = any_case
        self._length = 0  # characters fed so far
        self._tail = ""  # the end of the sentence so far, from earlier pieces
        self._step: Callable[[str, int], int | None] | None = self._before
        self._border = 0  # where the next sentence begins, if it turns out to be one
        self._stopped = False  # there was a stop, not only the end of a line
        self._full = False  # the stop is full-width: it needs no white space after it
        self._word: frozenset[str] | None = None  # the set that the word before the stop is in
        self._breaks = 0  # line ends in the white space
        self._last = ""  # the previous white-space character
        self._closing_only = True  # since the white space

    def feed(self, text: str) -> list[int]:
        """Read `text`, and return the positions where sentences begin, in characters fed so far.

        The start of the first sentence isn't returned. A position may be before `text`: opening
        quotes and brackets belong to the sentence that they open.
        """
        found: list[int] = []
        start = index = 0
        while index < len(text):
            if self._step is None:
                special = _LOOK.search(text, index)
                if special is None:
                    break
                index = special.start()
                self._inside(text[index], self._tail + text[max(start, index - _CONTEXT) : index])
                index += 1
                continue
            border = self._step(text[index], self._length + index)
            if border is not None:
                found.append(border)
                start = max(0, border - self._length)
                self._tail = self._tail[border - self._length :] if border < self._length else ""
            if self._step is not None:  # otherwise this character is read again, as inside
                index += 1
        self._tail = (self._tail + text[max(start, len(text) - _CONTEXT) :])[-_CONTEXT:]
        self._length += len(text)
        self.begun += len(found)
        return found

    def _before(self, character: str, _: int) -> None:
        if not character.isspace():
            self.begun += 1
            self._step = None

    def _inside(self, character: str, before: str) -> None:
        """Handle a stop or the end of a line, after `before`."""
        self._stopped = self._full = False
        self._word = None
        if character in _STOPS or character in _FULL_STOPS:
            self._step = self._after_stop
            self._after_stop(character, 0)
            if character == ".":
                self._word = _followers(before[-_CONTEXT:])
        else:
            self._begin_gap(character)

    def _after_stop(self, character: str, at: int) -> int | None:
        if character in _STOPS:
            self._stopped, self._word = True, None
        elif character in _FULL_STOPS:
            self._stopped = self._full = True
        elif character.isspace():
            self._begin_gap(character)
        elif character in _MARKDOWN or _joins(character):
            pass
        elif _closes(character) or (category(character) == "Pi" and not self._full):
            self._word = None  # in some languages these quotes are closing ones
        elif self._full:
            return self._begin_opening(character, at, closing_only=False)
        else:
            self._step = None
        return None

    def _begin_gap(self, character: str) -> None:
        self._breaks, self._last, self._step = 0, "", self._gap
        self._gap(character, 0)

    def _gap(self, character: str, at: int) -> int | None:
        """Handle white space and the first character after it."""
        if character.isspace():
            if character == "\u2029":
                self._breaks += 2
            elif character == "\r" or (character == "\n" and self._last != "\r"):
                self._breaks += 1
            self._last = character
            return None
        if not _joins(character):
            if self._breaks > 1:
                self._step = None
                return at
            if self._stopped:
                return self._begin_opening(character, at, closing_only=True)
        self._step = None
        return None

    def _begin_opening(self, character: str, at: int, *, closing_only: bool) -> int | None:
        self._border, self._closing_only, self._step = at, closing_only, self._opening
        return self._opening(character, at)

    def _opening(self, character: str, _: int) -> int | None:
        """Handle quotes and brackets, and the character after them."""
        if character.isspace():
            if self._closing_only:  # then they were closing ones, as in "« Oui. » Il part."
                self._begin_gap(character)
        elif character in _OPENING or category(character) in ("Ps", "Pi"):
            self._closing_only = False
        elif _closes(character) or _joins(character):
            pass
        elif self._closing_only and (character in _STOPS or character in _FULL_STOPS):
            self._step = self._after_stop
            self._after_stop(character, 0)
        else:
            return self._decide(character)
        return None

    def _decide(self, character: str) -> int | None:
        self._step = None
        if character.islower() and not (self._any_case or self._full):
            return None
        if self._word is BEFORE_NUMBERS and not character.isdigit():
            return self._border
        return self._border if self._word is None else None


def _followers(before: str) -> frozenset[str] | None:
    """Return the abbreviations that the word before a full stop is in, or `None` if in neither."""
    if _ITEM.search(before):
        return ABBREVIATIONS
    found = _WORD.search(before)
    word = found[0] if found else ""
    if word in BEFORE_NUMBERS:
        return BEFORE_NUMBERS
    if word in ABBREVIATIONS or (word != "I" and word.isupper() and _INITIALS.match(word)):
        return ABBREVIATIONS
    return None


def _closes(character: str) -> bool:
    return character in "\"'" or category(character) in ("Pe", "Pf")


def _joins(character: str) -> bool:
    """Return whether a reader sees `character` as one with the character before it."""
    return character == "\u200d" or category(character)[0] == "M"
