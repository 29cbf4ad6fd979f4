"""Positions where a text can be split without breaking a user-perceived character."""

from __future__ import annotations

from typing import Final

import regex

__all__ = ["LONGEST_GRAPHEME", "border", "graphemes", "settled"]

LONGEST_GRAPHEME: Final = 64
"""Longer graphemes are split after this many characters, so that an operator that holds back an
incomplete grapheme holds a bounded amount of text. The longest emoji have about 10."""

_BLOCK: Final = 256
"""Characters that are matched at once, more than a grapheme has. Limited because `regex` looks back
over a whole run of flags at each of them."""

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
            block.pop()  # it may continue in the next block
        for grapheme in block:
            found.append(grapheme[:LONGEST_GRAPHEME])
            position += len(found[-1])
            if len(grapheme) > LONGEST_GRAPHEME:
                break  # the rest of it is a new grapheme
    return found


def border(text: str, start: int, place: int) -> int:
    """Return the first grapheme border at or after `place`, given an earlier border at `start`.

    >>> border("cafe\u0301s", 0, 4), border("cafe\u0301s", 0, 5)
    (5, 5)
    """
    if _APART.match(text, place - 1):
        return place
    while start < place:
        start += next(_GRAPHEME.finditer(text[start : start + LONGEST_GRAPHEME])).end()
    return start


def settled(text: str) -> int:
    r"""Return the number of characters that later text can't change: all but the last grapheme.

    `text` must begin at a grapheme border. Fewer than `LONGEST_GRAPHEME` characters remain. A
    caller that sends `text[:settled(text)]` and prepends the rest to the next text sends the same
    graphemes however the text is split.

    >>> settled("cafe"), settled("cafe\u0301")
    (3, 3)
    """
    if not text:
        return 0
    if text.isascii():
        return len(text) - (2 if text.endswith("\r\n") else 1)
    last = len(graphemes(text)[-1])
    return len(text) - (last if last < LONGEST_GRAPHEME else 0)
