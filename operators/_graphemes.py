"""Where a text may be cut without tearing a character that a reader sees as one."""

from __future__ import annotations

from typing import Final

import regex

__all__ = ["LONGEST_GRAPHEME", "graphemes", "settled"]

LONGEST_GRAPHEME: Final = 64
"""A longer grapheme is cut after each so many characters: what holds text back for its sake has to
hold a bounded amount. The longest emoji have about 10."""

_GRAPHEME = regex.compile(r"\X")


def graphemes(text: str) -> list[str]:
    r"""Split a text into its extended grapheme clusters (Unicode Standard Annex 29).

    >>> graphemes("hi\r\n🇳🇴👍🏽")
    ['h', 'i', '\r\n', '🇳🇴', '👍🏽']
    """
    if text.isascii() and "\r" not in text:
        return list(text)
    found: list[str] = _GRAPHEME.findall(text)
    if max(map(len, found)) <= LONGEST_GRAPHEME:
        return found
    position = 0
    for index, grapheme in enumerate(found):
        position += len(grapheme)
        if len(grapheme) > LONGEST_GRAPHEME:
            position -= len(grapheme) - LONGEST_GRAPHEME
            return [*found[:index], grapheme[:LONGEST_GRAPHEME], *graphemes(text[position:])]
    return found


def settled(text: str) -> int:
    r"""The characters of `text` that no later text can join to: all but its last grapheme.

    `text` begins at the border of a grapheme. Fewer than `LONGEST_GRAPHEME` characters are left.
    So whoever sends `text[:settled(text)]`, and puts the rest before what comes next, sends the
    same graphemes however the text is cut.

    >>> settled("cafe"), settled("cafe\u0301")
    (3, 3)
    """
    if not text:
        return 0
    if text.isascii():
        return len(text) - (2 if text.endswith("\r\n") else 1)
    last = len(graphemes(text)[-1])
    return len(text) - (last if last < LONGEST_GRAPHEME else 0)
