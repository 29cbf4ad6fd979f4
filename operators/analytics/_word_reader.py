"""Split text that arrives in pieces into words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from unicodedata import normalize

import regex

__all__ = ["LONGEST_WORD", "STOPS", "WordReader"]

LONGEST_WORD: Final = 64
"""In characters; anything longer (a key, a link, a script without spaces) is read as several."""

STOPS: Final = frozenset(".,!?;:\n")
"""The punctuation marks that a `WordReader(stops=True)` returns."""

_INSIDE: Final = r"[\p{L}\p{N}\p{M}'\u2019\u200c\u200d]"
_WORD: Final = rf"[\p{{L}}\p{{N}}]{_INSIDE}{{0,{LONGEST_WORD - 1}}}"
_WORDS: Final = regex.compile(_WORD)
_WORDS_AND_STOPS: Final = regex.compile(rf"{_WORD}|[.,!?;:\n]")
_CONTINUED: Final = regex.compile(f"{_INSIDE}*")
_LOOSE: Final = "'\u200c\u200d"


class WordReader:
    """Reads the words of a text, however it is split into pieces, at a constant cost per character.

    A word is a run of letters, digits and combining marks that begins with a letter or a digit.
    Inner apostrophes belong to it, hyphens don't. Words are returned in lower case, in Unicode
    normalization form C, with straight apostrophes.

    Args:
        stops: also return the marks of `STOPS`, among the words.

    >>> reader = WordReader()
    >>> reader.feed("Don't pa"), reader.feed("int the well-know"), reader.end()
    (["don't"], ['paint', 'the', 'well'], ['know'])
    """

    __slots__ = ("_open", "_pattern")

    def __init__(self, *, stops: bool = False) -> None:
        self._pattern = _WORDS_AND_STOPS if stops else _WORDS
        self._open = ""  # a word at the end of the text that may continue

    def feed(self, text: str) -> list[str]:
        """Read `text`, and return the words completed by it."""
        return list(self._read(text))

    def end(self) -> list[str]:
        """Return the last word, if any; the text is complete."""
        last, self._open = self._open, ""
        return [_plain(last)] if last else []

    def _read(self, text: str) -> Iterator[str]:
        at = 0
        if self._open and text:
            continued = _CONTINUED.match(text)
            at = min(continued.end() if continued else 0, LONGEST_WORD - len(self._open))
            self._open += text[:at]
            if at == len(text) and len(self._open) < LONGEST_WORD:
                return
            yield from self.end()
        for found in self._pattern.finditer(text, at):
            word = found[0]
            if found.end() == len(text) and len(word) < LONGEST_WORD and word not in STOPS:
                self._open = word
            else:
                yield _plain(word)


def _plain(word: str) -> str:
    if not word.isascii():
        word = normalize("NFC", word).replace("\u2019", "'")
    return word.lower().rstrip(_LOOSE)
