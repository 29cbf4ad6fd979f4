"""`smooth`: text at an even pace, whatever the model's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import regex
from reactivex import Observable, abc

from rxllm.arguments import check_number
from rxllm.chunks import Chunk
from rxllm.operators.throttling._spacer import LONGEST_PIECE, Cut, Spacer, by_character
from rxllm.stream import Stream

__all__ = ["smooth"]

By: TypeAlias = (
    Literal["word", "character", "line"]
    | re.Pattern[str]
    | regex.Pattern[str]
    | Callable[[str], str | None]
)

_ALONE: Final = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    r"\p{Extended_Pictographic}\p{Regional_Indicator}\u3000-\u303f\uff00-\uffef"
)
"""Characters that are words of their own: emoji, and scripts that put no space between words."""

_WORD: Final = regex.compile(rf"\s*(?:(?=[{_ALONE}])\X|[^\s{_ALONE}]+)\s*")
_MARK: Final = r"\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}"  # may be of a word of its own
_NO_LETTER: Final = regex.compile(rf"[\s{_ALONE}{_MARK}]")
_LINE: Final = regex.compile(r"[\r\n]+")


def smooth(
    by: By = "word", seconds: float = 0.01, max_lag: float = 0.4
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""Let the text flow evenly: piece by piece, some time apart.

    ::

        S-a-----(E,|)               a: "one two three"
        [ smooth(seconds=2, max_lag=9) ]
        S-b-c---(d,E,|)             b: "one ", c: "two ", d: "three"

    A model or a network sends in bursts; a reader wants a flow. What comes is cut into pieces that
    wait here, and leave `seconds` apart. If more waits than can leave so within `max_lag`, they
    leave faster: evenly, so that each has left `max_lag` after it came. Text that is not yet a
    whole piece waits no longer than that either, and then leaves as it is, but for its last
    character. What is left at the end leaves as the last piece.

    A piece leaves once the character behind it has come, and cuts through no grapheme. A `"word"`
    has the white space behind it; a Chinese, Japanese or Thai character and an emoji are words of
    their own. A `"line"` has its line breaks. A text of 1024 characters without an end of a piece
    is cut there. The confidence of a piece is that of its tokens multiplied, if all have one. What
    comes in a `Batch` is taken out of it. Other chunks, `Reasoning` among them, take no time, and
    leave in their order. However the text is cut into chunks, the joined text is the same.

    - Completion: waits until all has left. Error: what is held leaves first, at once.
    - Restart: what is held of that answer is dropped; usage, progress and notices that waited with
      it leave before the notice of the restart.
    - Disposal: what is held is dropped, the timers cancelled.
    - Demand: upstream is held while 1024 pieces wait, and goes on when half of them have left.
      Nothing leaves while the valve is closed, and that time is no lag.

    Args:
        by: `"word"`, `"character"`, `"line"`, a compiled pattern (a piece ends where it first
            matches a text), or a function: given the text that waits (1024 characters of it at
            most), it returns the piece that this begins with, or None if there is none yet. Each
            token lets a pattern or a function look at the text that waits again.
        seconds: between two pieces, 0 or more.
        max_lag: seconds that text waits at most, above 0; infinity never catches up.

    Raises:
        ValueError: `by` is another name, `seconds` or `max_lag` can't be; into `on_error`: the
            function returned something else than a beginning of its text.
        TypeError: `by` is neither a name nor a pattern nor a function, or a time is not a number.

    >>> from rxllm.chunks import Token
    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> source = marbles.cold("S(a,b)|", lookup={"a": Token("Once upon a "), "b": Token("time")})
    >>> for time, event in marbles.run(source.pipe(smooth(seconds=0.5, max_lag=9)))[1:]:
    ...     print(time, repr(getattr(event, "text", event)))
    1.0 'Once '
    1.5 'upon '
    2.0 'a '
    6.0 'time'
    6.0 |
    """
    seconds = check_number("seconds", seconds, "the time between two pieces", minimum=0)
    max_lag = check_number(
        "max_lag", max_lag, "how long text may wait", above=0, allow_infinity=True
    )
    cut = _cut(by)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return Spacer(observer, scheduler, cut, seconds, max_lag).start(source)

        return Stream(subscribe, "smooth", of_chunks=True)

    return operator


def _cut(by: Any) -> Cut:
    if isinstance(by, str):
        named: dict[str, Cut] = {"word": _word, "line": _line, "character": by_character}
        if by not in named:
            raise ValueError(f"by is one of {list(named)}, a pattern or a function: {by!r}")
        return named[by]
    if isinstance(by, re.Pattern | regex.Pattern):
        if not isinstance(by.pattern, str):
            raise TypeError("by is a pattern of text, not of bytes")
        return lambda text, start, _: _pattern(by, text, start)
    if callable(by):
        return lambda text, start, _: _function(by, text, start)
    raise TypeError(f"by is a name, a compiled pattern or a function, not {type(by).__name__}")


def _word(text: str, start: int, known: int) -> int | None:
    if start < known and _NO_LETTER.search(text, known - 1) is None:
        return None  # the same word goes on
    found = _WORD.match(text[start : start + LONGEST_PIECE + 1])  # `\X` looks back over all flags
    return start + int(found.end()) if found is not None else None


def _line(text: str, start: int, known: int) -> int | None:
    found = _LINE.search(text, max(start, known - 1), start + LONGEST_PIECE + 1)
    return found.end() if found is not None else None


def _pattern(pattern: re.Pattern[str] | regex.Pattern[str], text: str, start: int) -> int | None:
    for found in pattern.finditer(text[start : start + LONGEST_PIECE]):
        if found.end():
            return start + int(found.end())
    return None


def _function(function: Callable[[str], object], text: str, start: int) -> int | None:
    waiting = text[start : start + LONGEST_PIECE]
    piece = function(waiting)
    if piece is None:
        return None
    if not isinstance(piece, str) or not piece or not waiting.startswith(piece):
        raise ValueError(
            f"smooth's function returns a beginning of the text it is given, or None, not {piece!r}"
        )
    return start + len(piece)
