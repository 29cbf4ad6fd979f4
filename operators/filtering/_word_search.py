"""Search for many words at once in a text that is still growing.

This is an Aho-Corasick automaton, as in `rxllm.text.stop_sequences`, but it finds all matches, not
only the one that ends first: `redact` chooses among them. A character costs the same for one word
and for a thousand, however long they are, and however long a partial match that fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import NamedTuple

import regex

__all__ = ["UNDECIDED", "WordSearch", "Words", "folded"]

UNDECIDED = -1

_ROOT = 0
_is_word = regex.compile(r"\w").match


class _Word(NamedTuple):
    """A word, as it was passed."""

    word: str
    bordered: bool  # must not be followed by a letter, digit or mark


class Words:
    """Words, compiled for any number of searches.

    Args:
        words: non-empty; of equal words the first one counts.
        whole: a word that starts or ends with a letter, digit or mark needs a boundary there.
        ignore_case: letters are compared by their case folding, if that is a single character.
    """

    def __init__(self, words: Iterable[str], *, whole: bool, ignore_case: bool) -> None:
        self.key: Callable[[str], str] = folded if ignore_case else str
        self.steps: list[dict[str, int]] = [{}]
        self.depths = [0]
        self.bordered = [False]  # must not follow a letter, digit or mark
        self.words: list[_Word | None] = [None]
        begins: dict[bool, set[str]] = {True: set(), False: set()}
        for word in words:
            bordered = whole and bool(_is_word(word[0]))
            begins[bordered].add(regex.escape(word[0]))
            state = _ROOT
            for character in word:
                state = self._step(state, self.key(character), bordered)
            known = self.words[state]
            self.words[state] = known or _Word(word, whole and bool(_is_word(word[-1])))
        self.falls, self.ends = self._falls()
        places = [rf"(?<!\w)[{''.join(sorted(begins[True]))}]"] if begins[True] else []
        places += [f"[{''.join(sorted(begins[False]))}]"] if begins[False] else []
        flags = regex.IGNORECASE if ignore_case else 0
        self.begins = regex.compile("|".join(places), flags | regex.VERSION0)

    def _step(self, state: int, character: str, bordered: bool) -> int:
        after = self.steps[state].get(character)
        if after is None:
            after = self.steps[state][character] = len(self.steps)
            self.steps.append({})
            self.depths.append(self.depths[state] + 1)
            self.bordered.append(bordered)
            self.words.append(None)
        return after

    def _falls(self) -> tuple[list[int], list[int]]:
        """The state of the longest proper suffix of each state, and of the longest such word."""
        falls, ends = [_ROOT] * len(self.steps), [_ROOT] * len(self.steps)
        waiting = deque(self.steps[_ROOT].values())
        while waiting:
            state = waiting.popleft()
            for character, after in self.steps[state].items():
                fall = falls[state]
                while fall != _ROOT and character not in self.steps[fall]:
                    fall = falls[fall]
                fall = falls[after] = self.steps[fall].get(character, _ROOT)
                ends[after] = fall if self.words[fall] is not None else ends[fall]
                waiting.append(after)
        return falls, ends


class WordSearch:
    """The search for `words` in one growing text: a `Target` of `redact`.

    Positions are offsets into the kept text, whose start `cut` removes.
    """

    def __init__(self, words: Words) -> None:
        self._words = words
        self._state = _ROOT  # of the longest suffix that may become a word
        self._read = 0
        self._cut = 0
        self._found: dict[int, tuple[int, str]] = {}  # the longest match by its start, uncut
        self._begins: list[int] = []  # the same starts, as a heap
        self._at_end: dict[int, tuple[int, str]] = {}  # decided by the next character

    def read(self, text: str) -> None:
        """Read `text`, all that is known so far."""
        words, position = self._words, self._read
        while position < len(text):
            if self._state == _ROOT and not self._at_end:
                found = words.begins.search(text, position)
                if found is None:
                    break
                position = found.start()
            character = text[position]
            if self._at_end:
                if not _is_word(character):
                    for begin, match in self._at_end.items():
                        self._find(begin, match)
                self._at_end.clear()
            self._state = self._after(text, position, words.key(character))
            position += 1
            if self._state != _ROOT:
                self._end(text, position)
                if not words.steps[self._state]:
                    self._state = self._fall(self._state, text, position)
        self._read = len(text)

    def first(self, text: str, position: int) -> int:
        """The first place from `position` on where a match starts or may start, or the end.

        Matches that start before `position` are forgotten.
        """
        if self._state == _ROOT and not self._found and not self._at_end:
            return len(text)
        begun, places = self._cut + position, self._begins
        while places and places[0] < begun:
            del self._found[heappop(places)]
        for begin in [begin for begin in self._at_end if begin < begun]:
            del self._at_end[begin]
        while self._state != _ROOT and self._open() < position:
            self._state = self._fall(self._state, text, self._read)
        first = min(places[:1] + list(self._at_end), default=self._cut + len(text)) - self._cut
        return min(first, self._open())

    def at(self, _: str, place: int, ended: bool) -> tuple[int, str]:
        """The length and the name of the match at `place`; 0 for none, or `UNDECIDED`."""
        begin = self._cut + place
        if ended:
            return self._at_end.get(begin) or self._found.get(begin, (0, ""))
        if begin in self._at_end or self._open() == place:
            return UNDECIDED, ""
        return self._found.get(begin, (0, ""))

    def cut(self, length: int) -> None:
        """Forget the first `length` characters of the text."""
        self._cut += length
        self._read -= length

    def _open(self) -> int:
        """Where the text that may become a word starts, or the end of the read text."""
        return self._read - self._words.depths[self._state]

    def _after(self, text: str, position: int, character: str) -> int:
        """The state after the character at `position`."""
        words, state = self._words, self._state
        while (after := words.steps[state].get(character)) is None:
            if state == _ROOT:
                return _ROOT
            state = self._fall(state, text, position)
        return after if state != _ROOT or self._begins_at(after, text, position) else _ROOT

    def _fall(self, state: int, text: str, position: int) -> int:
        """The state of the next shorter suffix of the text before `position`."""
        words = self._words
        while (state := words.falls[state]) != _ROOT:
            if self._begins_at(state, text, position - words.depths[state]):
                break
        return state

    def _begins_at(self, state: int, text: str, begin: int) -> bool:
        return not (self._words.bordered[state] and begin and _is_word(text[begin - 1]))

    def _end(self, text: str, position: int) -> None:
        """Record the words that end at `position`."""
        words, state = self._words, self._state
        while state != _ROOT:
            word = words.words[state]
            begin = position - words.depths[state]
            if word is not None and self._begins_at(state, text, begin):
                match = (words.depths[state], word.word)
                if word.bordered:
                    self._at_end[self._cut + begin] = match
                else:
                    self._find(self._cut + begin, match)
            state = words.ends[state]

    def _find(self, begin: int, match: tuple[int, str]) -> None:
        if begin not in self._found:
            heappush(self._begins, begin)
        self._found[begin] = match  # the longest: shorter ones have ended before it


def folded(character: str) -> str:
    """`character` case-folded to a single character, as `regex.IGNORECASE` compares it."""
    for changed in (character.casefold(), character.lower()):
        if len(changed) == 1:
            return changed
    return character
