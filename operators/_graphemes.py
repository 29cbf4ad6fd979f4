"""Where a text may be cut without tearing a character that a reader sees as one."""

from __future__ import annotations

from typing import Final

import regex

__all__ = ["LONGEST_GRAPHEME", "border", "graphemes", "settled"]

LONGEST_GRAPHEME: Final = 64
"""A longer grapheme is cut after each so many characters: what holds text back for its sake has to
hold a bounded amount. The longest emoji have about 10."""

_BLOCK: Final = 256
"""Characters that are looked at together, more than a grapheme has: `regex` looks back over a whole
run of flags at each of them."""

_GRAPHEME: Final = regex.compile(r"\X")
_APART: Final = regex.compile(r"[\p{GCB=Other}\p{GCB=LV}\p{GCB=LVT}]{2}")


def graphemes(text: str) -> list[str]:
    r"""Split a text into its extended grapheme clusters (Unicode Standard Annex 29).

    >>> graphemes("hi\r\n🇳🇴👍🏽")
    ['h', 'i', '\r\n', '🇳🇴', '👍🏽']
    """
    if text.isascii() and "\r" not in text:
        return list(text)
    found: list[str] = []
    position = 0
    while position < len(text):
        block: list[str] = _GRAPHEME.findall(text[position : position + _BLOCK])
        if position + _BLOCK < len(text) and len(block) > 1:
            block.pop()  # it may go on
        for grapheme in block:
            found.append(grapheme[:LONGEST_GRAPHEME])
            position += len(found[-1])
            if len(grapheme) > LONGEST_GRAPHEME:
                break  # what is left of it begins anew
    return found


def border(text: str, start: int, place: int) -> int:
    """The first border of graphemes at `place` or behind it. There is one at `start`, before it.

    >>> border("cafe\u0301s", 0, 4), border("cafe\u0301s", 0, 5)
    (5, 5)
    """
    if _APART.match(text, place - 1):
        return place
    while start < place:
        start += next(_GRAPHEME.finditer(text[start : start + LONGEST_GRAPHEME])).end()
    return start


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
