"""Detection of the overlap between a continuation and the text it continues."""

from __future__ import annotations

from typing import Final

__all__ = ["Overlap", "Repetition"]

_WINDOW: Final = 2000
_SHORTEST_WORDS: Final = 3
_SHORTEST: Final = 12


class Overlap:
    """Finds how much of the earlier text a continuation repeats, incrementally.

    A model that can't continue a partial answer repeats its end, or all of it. A true continuation
    may repeat a few characters by chance. This rule distinguishes them: the overlap is the longest
    suffix of the earlier text that the continuation starts with, if the suffix is all of the
    earlier text, or if it starts with a letter or digit and has at least 12 characters, or at least
    3 characters from the start of a word. Suffixes of up to 2000 characters are compared. So
    `"upon a time"` after `"Once upon a"` repeats 6 characters, and `"lo"` after `"Hel"` none.

    Args:
        earlier: the text to continue.
    """

    __slots__ = ("_earlier", "_found", "_length", "_open")

    def __init__(self, earlier: str) -> None:
        self._earlier = earlier
        self._length = 0
        self._found = 0
        # Positions in `earlier` where the continuation may start, the longest overlap first.
        self._open = [start for start in self._starts() if self._counts(start)]

    def feed(self, piece: str) -> int | None:
        """Add the next piece; return how many characters are repeated, or `None` if undecided."""
        earlier, length = self._earlier, self._length
        self._length += len(piece)
        still_open: list[int] = []
        for start in self._open:
            at = start + length
            left = len(earlier) - at
            if left > len(piece):
                if earlier.startswith(piece, at):
                    still_open.append(start)
            elif earlier.startswith(piece[:left], at):
                self._found = len(earlier) - start
                break  # the others are shorter
        self._open = still_open
        return None if still_open else self._found

    def end(self) -> int:
        """How many characters the continuation has repeated, at its end."""
        return self._found

    def _starts(self) -> range | list[int]:
        size = len(self._earlier)
        if size <= _WINDOW:
            return range(size)
        return [0, *range(size - _WINDOW, size)]

    def _counts(self, start: int) -> bool:
        if start == 0:
            return True
        earlier = self._earlier
        size = len(earlier) - start
        if not earlier[start].isalnum():
            return False
        return size >= _SHORTEST or (size >= _SHORTEST_WORDS and not earlier[start - 1].isalnum())


class Repetition:
    """Finds what a continuation repeats of words that the model was asked to repeat.

    White space around the words is ignored: a model may indent them, or not, and the earlier text
    may end with some. If the continuation doesn't begin with the words, the rule of `Overlap` is
    used.

    Args:
        earlier: the text to continue.
        words: its last words, without white space around them.
    """

    __slots__ = ("_found", "_overlap", "_space", "_text", "_words")

    def __init__(self, earlier: str, words: str) -> None:
        self._words = words
        self._space = earlier[len(earlier.rstrip()) :]
        self._overlap = Overlap(earlier)
        self._found: int | None = None  # by the overlap
        self._text = ""

    def feed(self, piece: str) -> int | None:
        """Add the next piece; return how many characters are repeated, or `None` if undecided."""
        self._text += piece
        if self._found is None:
            self._found = self._overlap.feed(piece)
        asked = self._asked()
        return self._found if asked == -1 else asked

    def end(self) -> int:
        """How many characters the continuation has repeated, at its end."""
        asked = self._asked(ended=True)
        return self._overlap.end() if asked is None or asked == -1 else asked

    def _asked(self, *, ended: bool = False) -> int | None:
        """How many characters the repeated words take; -1 if there are none."""
        text = self._text.lstrip()
        before = len(self._text) - len(text)
        if not text.startswith(self._words):
            return None if self._words.startswith(text) and not ended else -1
        behind = text[len(self._words) :]
        space = 0
        while space < min(len(behind), len(self._space)) and behind[space] == self._space[space]:
            space += 1
        if space == len(behind) < len(self._space) and not ended:
            return None
        return before + len(self._words) + space
