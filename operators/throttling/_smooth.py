"""`smooth`: text at an even pace, whatever the pace of the model."""

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
"""Characters that are separate words: emoji, and scripts without spaces between words."""

_WORD: Final = regex.compile(rf"\s*(?:(?=[{_ALONE}])\X|[^\s{_ALONE}]+)\s*")
_MARK: Final = r"\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}"  # may belong to such a character
_NO_LETTER: Final = regex.compile(rf"[\s{_ALONE}{_MARK}]")
_LINE: Final = regex.compile(r"[\r\n]+")


def smooth(
    by: By = "word", seconds: float = 0.01, max_lag: float = 0.4
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""Release the text evenly, piece by piece, at a regular interval.

    ::

        S-a-----(E,|)               a: "one two three"
        [ smooth(seconds=2, max_lag=9) ]
        S-b-c---(d,E,|)             b: "one ", c: "two ", d: "three"

    Models and networks send in bursts; a reader wants a steady flow. The text is cut into pieces,
    which are queued here and sent `seconds` apart. If more is queued than can be sent at that pace
    within `max_lag`, the pieces are sent faster, evenly, so that each one is sent at most `max_lag`
    after it arrived. Text that isn't a complete piece yet waits no longer than that either: it is
    then sent as it is, except for its last character. The rest of the text is sent at the end, as
    the last piece.

    A piece is sent once the character after it has arrived, and never splits a grapheme. A `"word"`
    includes the white space after it; each Chinese, Japanese or Thai character and each emoji is a
    separate word. A `"line"` includes its line breaks. Text without a piece border is cut at 1024
    characters. The confidence of a piece is the product of its tokens' confidences, if all of them
    have one. A `Batch` is unpacked. Other chunks, including `Reasoning`, are sent in order without
    a delay. The joined text is the same however the text is cut into chunks.

    - Completion: waits until every piece has been sent. Error: held text is sent first,
      immediately.
    - Restart: held content of that answer is dropped; usage, progress and notices held with it are
      sent before the restart notice.
    - Disposal: held text is dropped and the timers are cancelled.
    - Demand: upstream is paused while 1024 pieces wait, and resumes when half of them have been
      sent. Nothing is sent while the valve is closed, and that time doesn't count as lag.

    Args:
        by: `"word"`, `"character"`, `"line"`, a compiled pattern (a piece ends with its first
            non-empty match), or a function that receives the waiting text (at most 1024 characters
            of it) and returns its first piece, or `None` if there isn't one yet. A pattern or a
            function sees the waiting text again with each token.
        seconds: interval between two pieces, 0 or more.
        max_lag: maximum time in seconds that text waits, above 0; infinity disables catching up.

    Raises:
        ValueError: `by` is an unknown name, or `seconds` or `max_lag` is out of range; into
            `on_error`, if the function returned something other than a prefix of its text.
        TypeError: `by` is not a name, a pattern of text or a function, or a time is not a number.

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
    seconds = check_number("seconds", seconds, "seconds between two pieces", minimum=0)
    max_lag = check_number(
        "max_lag", max_lag, "seconds that text may wait", above=0, allow_infinity=True
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
            raise ValueError(
                f"by must be one of {list(named)}, a pattern or a function, got {by!r}"
            )
        return named[by]
    if isinstance(by, re.Pattern | regex.Pattern):
        if not isinstance(by.pattern, str):
            raise TypeError(f"by must be a pattern of text, got a pattern of bytes, {by.pattern!r}")
        return lambda text, start, _: _pattern(by, text, start)
    if callable(by):
        return lambda text, start, _: _function(by, text, start)
    raise TypeError(f"by must be a name, a compiled pattern or a function, got {by!r}")


def _word(text: str, start: int, known: int) -> int | None:
    if start < known and _NO_LETTER.search(text, known - 1) is None:
        return None  # still the same word
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
            "the function of smooth must return a non-empty prefix of its text or None, "
            f"got {piece!r}"
        )
    return start + len(piece)
