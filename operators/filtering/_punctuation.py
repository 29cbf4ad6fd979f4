"""`punctuation`: straight or typographic quotes, ellipses, dashes and spaces."""

# ruff: noqa: RUF002 - typographic quotes are meant

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
    r"""Write quotes, ellipses, dashes and spaces in one way, right across chunks.

    ::

        S-"So-.-.-.-"-E|
        [ punctuation("typographic") ]
        S-“So-----(…)-”-E|

    `"ascii"` writes single and double quotes of all languages as `'` and `"`, `…` as `...`, long
    dashes as `--`, other dashes and the minus sign as `-`, and spaces that forbid a break or are
    narrow as plain ones. `"typographic"` writes `...` as `…` (from left to right), and straight
    quotes as English ones: opening at the beginning and after white space, a dash, an opening
    bracket or an opening quote, else closing, which is the apostrophe, too. So `'tis` gets an
    opening one. Inches, code and markup are text as well. What CJK writes is left alone.

    The joined text is the same however it is cut into chunks. Chunks stay as they are but for
    their text: of an ellipsis in three chunks the second and third are left empty. Reasoning is not
    changed. Other chunks that come behind held text wait with it, in their order.

    - Completion, error: what is held leaves first.
    - Restart: held text is dropped, other chunks that waited with it leave; the text begins anew.
    - Disposal: what is held is dropped.
    - Demand: passes through. For `"typographic"` held are at most two full stops, and the other
      chunks that came behind them.

    Args:
        to: `"ascii"` or `"typographic"`.

    Raises:
        ValueError: `to` is none of these.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> stream = ScriptedModel(['He said "I', "'m..", ". \"Hm\"."]).stream("Hi")
    >>> events = Marbles().run(stream.pipe(punctuation("typographic")))
    >>> "".join(event.text for _, event in events if hasattr(event, "text"))
    'He said “I’m… “Hm”.'
    """
    if to not in list(_WRITERS):  # what can't be hashed is none of them either
        raise ValueError(f"to is 'ascii' or 'typographic', not {to!r}")
    return text_operator("punctuation", lambda _: WrittenText(_WRITERS[to]()))


class _Ascii:
    """Each character for itself."""

    ahead = 0

    def decided(self, text: str) -> int:
        return len(text)

    def write(self, text: str, _: str) -> str:
        return text if text.isascii() else text.translate(_ASCII)


class _Typographic:
    """A quote by what stands before it, full stops by what follows."""

    ahead = 2

    def __init__(self) -> None:
        self._last = ""  # the character before
        self._skipped = 0  # full stops to come that are written already

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
