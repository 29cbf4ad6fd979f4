"""`punctuation`: straight or typographic quotes, ellipses, dashes and spaces."""

# ruff: noqa: RUF002 - typographic quotes are intended

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal
from unicodedata import category

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators._text_operator import text_operator
from rxllm.operators.filtering._written import Writer, WrittenText
from rxllm.stream import Stream

__all__ = ["punctuation"]

_ASCII: Final = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u2039\u203a", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-")
    | dict.fromkeys("\u2014\u2015", "--")
    | dict.fromkeys("\u00a0\u2007\u2009\u200a\u202f", " ")
    | {"\u2026": "..."}
)
_TYPED: Final = re.compile(r"\.\.\.|[\"']")
_QUOTES: Final = {'"': ("\u201c", "\u201d"), "'": ("\u2018", "\u2019")}


def punctuation(
    to: Literal["ascii", "typographic"],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""Normalize quotes, ellipses, dashes and spaces, correctly across chunk borders.

    ::

        S-"So-.-.-.-"-E|
        [ punctuation("typographic") ]
        S-“So-----(…)-”-E|

    `"ascii"` converts single and double quotes of all languages to `'` and `"`, `…` to `...`, long
    dashes to `--`, other dashes and the minus sign to `-`, and no-break and narrow spaces to plain
    ones. `"typographic"` converts `...` to `…` (from left to right), and straight quotes to English
    ones: opening at the start and after white space, a dash, an opening bracket or an opening
    quote; closing, which is also the apostrophe, everywhere else. So `'tis` gets an opening quote.
    Inches, code and markup are converted like any other text. CJK punctuation is left alone.

    The joined text is the same however it is cut into chunks. Only the text of a chunk changes: if
    an ellipsis spans three chunks, the second and third become empty. Reasoning isn't changed.
    Other chunks that arrive after held text wait with it, in order.

    - Completion, error: held text is sent first.
    - Restart: held text is dropped, other chunks that waited with it are sent, and the text starts
      afresh.
    - Disposal: held text is dropped.
    - Demand: passes through. With `"typographic"`, at most two full stops are held, with the other
      chunks that arrived after them.

    Args:
        to: `"ascii"` or `"typographic"`.

    Raises:
        ValueError: `to` is neither of these.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> stream = ScriptedModel(['He said "I', "'m..", ". \"Hm\"."]).stream("Hi")
    >>> events = Marbles().run(stream.pipe(punctuation("typographic")))
    >>> "".join(event.text for _, event in events if hasattr(event, "text"))
    'He said “I’m… “Hm”.'
    """
    if to not in list(_WRITERS):  # a list, as `to` may be unhashable
        raise ValueError(f"to must be 'ascii' or 'typographic', got {to!r}")
    return text_operator("punctuation", lambda _: WrittenText(_WRITERS[to]()))


class _Ascii:
    """Converts each character by itself."""

    ahead = 0

    def decided(self, text: str) -> int:
        return len(text)

    def write(self, text: str, _: str) -> str:
        return text if text.isascii() else text.translate(_ASCII)


class _Typographic:
    """Converts a quote by the character before it, and full stops by what follows."""

    ahead = 2

    def __init__(self) -> None:
        self._last = ""  # the previous character
        self._skipped = 0  # upcoming full stops that have already been written

    def decided(self, text: str) -> int:
        return len(text) - (len(text) - len(text.rstrip("."))) % 3

    def write(self, text: str, after: str) -> str:
        place = min(self._skipped, len(text))
        self._skipped -= place
        written: list[str] = []
        for typed in _TYPED.finditer(text + after, place):
            if typed.start() >= len(text):
                break
            self._pass(text[place : typed.start()], written)
            sign = typed[0]
            self._pass("\u2026" if sign == "..." else _QUOTES[sign][not self._opens()], written)
            place = typed.end()
        self._skipped += max(0, place - len(text))
        self._pass(text[place:], written)
        return "".join(written)

    def _pass(self, text: str, written: list[str]) -> None:
        if text:
            written.append(text)
            self._last = text[-1]

    def _opens(self) -> bool:
        last = self._last
        return not last or last.isspace() or category(last) in ("Ps", "Pi", "Pd")


_WRITERS: Final[dict[str, Callable[[], Writer]]] = {"ascii": _Ascii, "typographic": _Typographic}
