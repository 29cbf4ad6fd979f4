"""Where a continuation repeats the end of what it continues."""

from __future__ import annotations

from typing import Final

__all__ = ["Overlap"]

_WINDOW: Final = 2000
_SHORTEST_WORDS: Final = 3
_SHORTEST: Final = 12


class Overlap:
    """Finds how much of the beginning of a continuation was said before, as it comes.

    A model that can't go on from a partial answer says its end, or all of it, once more. That is
    told from a true continuation, which may repeat something by chance, by this rule: the longest
    end of the earlier text counts that the continuation begins with, if it is all of the earlier
    text; or begins with a letter or digit, and has 12 characters or more, or 3 or more from the
    beginning of a word on. Ends of 2000 characters at most are looked at. So `"upon a time"` after
    `"Once upon a"` repeats 6 characters, and `"lo"` after `"Hel"` none.

    Args:
        earlier: the text that is continued.
    """

    __slots__ = ("_earlier", "_found", "_length", "_open")

    def __init__(self, earlier: str) -> None:
        self._earlier = earlier
        self._length = 0
        self._found = 0
        # Where in `earlier` the continuation may begin, the longest repetition first.
        self._open = [start for start in self._starts() if self._counts(start)]

    def feed(self, piece: str) -> int | None:
        """The continuation goes on with `piece`: how many characters it repeats, once known."""
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
                break  # those behind it are shorter
        self._open = still_open
        return None if still_open else self._found

    def end(self) -> int:
        """The continuation is over: how many characters it has repeated."""
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
