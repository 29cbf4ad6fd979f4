"""What `redact` looks for in a text of which only a beginning is known: words and patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

import regex

__all__ = ["UNDECIDED", "PatternTarget", "Target", "WordsTarget"]

UNDECIDED = -1

_is_word = regex.compile(r"\w").match
_NO_WORD: dict[str, Any] = {}
_WORD = ""  # the key of a trie's node under which the word stands that ends there


class Target(Protocol):
    """Looks for one thing, or for several of one kind."""

    def first(self, text: str, position: int) -> int:
        """The first place from `position` on where a match begins or may begin, or the end."""

    def at(self, text: str, place: int, ended: bool) -> tuple[int, str]:
        """The length and the name of the match at `place`.

        The length is 0 if there is no match, `UNDECIDED` if more text could change the answer.
        """


class WordsTarget:
    """Words, looked for all at once: of several at one place, the longest counts.

    Args:
        words: none of them empty.
        whole: a word counts only where no letter, digit or mark goes on with it.
        ignore_case: letters are compared by their case folding, where that is one character.
    """

    def __init__(self, words: Iterable[str], *, whole: bool, ignore_case: bool) -> None:
        self._key = _folded if ignore_case else str
        self._trie: dict[str, Any] = {}
        begins_at_border: set[str] = set()
        begins_anywhere: set[str] = set()
        for word in words:
            node = self._trie
            for character in word:
                node = node.setdefault(self._key(character), {})
            node.setdefault(_WORD, (word, whole and bool(_is_word(word[-1]))))
            bordered = whole and _is_word(word)
            (begins_at_border if bordered else begins_anywhere).add(regex.escape(word[0]))
        places = []
        if begins_at_border:
            places.append(rf"(?<!\w)[{''.join(sorted(begins_at_border))}]")
        if begins_anywhere:
            places.append(f"[{''.join(sorted(begins_anywhere))}]")
        flags = regex.IGNORECASE if ignore_case else 0
        self._begins = regex.compile("|".join(places), flags | regex.VERSION0)

    def first(self, text: str, position: int) -> int:
        """The first place where a first letter stands, and no word goes on with it."""
        found = self._begins.search(text, position)
        return len(text) if found is None else found.start()

    def at(self, text: str, place: int, ended: bool) -> tuple[int, str]:
        """Follow all words at once; the end of a whole one is seen at the character behind it."""
        length, name, node = 0, "", self._trie
        for position in range(place, len(text)):
            character = text[position]
            if _WORD in node:
                word, bordered = node[_WORD]
                if not (bordered and _is_word(character)):
                    length, name = position - place, word
            node = node.get(self._key(character), _NO_WORD)
            if node is _NO_WORD:
                return length, name
        decided = ended
        if _WORD in node:
            word, bordered = node[_WORD]
            if ended or not bordered:
                length, name = len(text) - place, word
                decided = ended or len(node) == 1  # no longer word begins so
        return (length, name) if decided else (UNDECIDED, "")


class PatternTarget:
    """One pattern. A match and what it looks ahead for have to fit into `longest` characters.

    `regex` tells for a place whether the text from there on is a match or could be the beginning
    of one. What it can't tell is whether more text could change a match that it has found (as it
    does for `bad(?! luck)` and `cat|category`): so that is decided once `longest` characters are
    known, and by these alone.
    """

    def __init__(self, pattern: re.Pattern[str] | regex.Pattern[str], longest: int) -> None:
        if isinstance(pattern, re.Pattern):
            pattern = regex.compile(pattern.pattern, pattern.flags | regex.VERSION0)
        self._pattern = pattern
        self._longest = longest

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


def _folded(character: str) -> str:
    """`character` without its case, as `regex.IGNORECASE` sees it: one character."""
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return folded
    return character
