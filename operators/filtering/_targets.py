"""What `redact` looks for in a text of which only a beginning is known: words and patterns."""

from __future__ import annotations

import re
from typing import Protocol

import regex

from rxllm.operators.filtering._word_search import UNDECIDED

__all__ = ["PatternTarget", "Target"]


class Target(Protocol):
    """Looks for one thing, or for several of one kind, in one text: the end of it that is kept."""

    def read(self, text: str) -> None:
        """The text is known as far as `text` goes. Comes before the others."""

    def first(self, text: str, position: int) -> int:
        """The first place from `position` on where a match begins or may begin, or the end."""

    def at(self, text: str, place: int, ended: bool) -> tuple[int, str]:
        """The length and the name of the match at `place`.

        The length is 0 if there is no match, `UNDECIDED` if more text could change the answer.
        """

    def cut(self, length: int) -> None:
        """The first `length` characters of the text are kept no longer."""


class PatternTarget:
    """One pattern. A match and what it looks ahead for have to fit into `longest` characters.

    `regex` tells for a place whether the text from there on is a match or could be the beginning
    of one. What it can't tell is whether more text could change a match that it has found (as it
    does for `bad(?! luck)` and `cat|category`): so that is decided once `longest` characters are
    known, and by these alone.
    """

    def __init__(self, pattern: re.Pattern[str] | regex.Pattern[str], longest: int) -> None:
        if isinstance(pattern, re.Pattern):
            pattern = regex.compile(pattern.pattern, _flags_of(pattern) | regex.VERSION0)
        self._pattern = pattern
        self._longest = longest

    def read(self, text: str) -> None:
        """A pattern is searched for when it is asked for."""

    def cut(self, length: int) -> None:
        """It remembers no place."""

    def first(self, text: str, position: int) -> int:
        """The first place with a match, or near the end with what may become one.

        A search that takes beginnings too prefers a later match to an earlier beginning, and costs
        the square of the length: so it is given no more than `longest` characters.
        """
        near = max(position, len(text) - self._longest)
        match = self._pattern.search(text, position) if position < near else None
        if match is None:
            match = self._pattern.search(text, near, partial=True)
            if match is None or match.partial:
                return len(text) if match is None else match.start()
        for place in range(near, match.start()):
            if self._pattern.match(text, place, partial=True):
                return place
        return match.start()

    def at(self, text: str, place: int, ended: bool) -> tuple[int, str]:
        """Wait for `longest` characters, as long as they may be a match; then match."""
        known = len(text) - place
        if not ended and known < self._longest:
            may_match = self._pattern.match(text, place, partial=True)
            return (UNDECIDED if may_match else 0), ""
        match = self._pattern.match(text, place, place + self._longest)
        return (match.end() - place if match else 0), self._pattern.pattern


def _flags_of(pattern: re.Pattern[str]) -> int:
    """The flags of `pattern` as `regex` has them: the same letters stand for other numbers."""
    flags = 0
    for letter in "AIMSUX":
        if pattern.flags & getattr(re, letter):
            flags |= getattr(regex, letter)
    return flags
