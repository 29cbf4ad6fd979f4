"""What `quality_gate` looks at, and ready conditions for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

import jiter

from rxllm.arguments import check_int, check_number

__all__ = ["Condition", "Quality", "not_json", "repeats", "too_slow"]


class Quality:
    """An answer as far as it has come, as a condition of `quality_gate` sees it.

    Attributes:
        tokens: pieces of text so far.
        characters: of text so far.
        looked_at: how many of these there were when the conditions were asked before.
        elapsed: seconds since the first piece.
        is_complete: the answer has ended.
    """

    __slots__ = ("_pieces", "characters", "elapsed", "is_complete", "looked_at", "tokens")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.tokens: int = 0
        self.characters: int = 0
        self.looked_at: int = 0
        self.elapsed: float = 0.0
        self.is_complete: bool = False

    def add(self, text: str) -> None:
        """One more piece."""
        self._pieces.append(text)
        self.tokens += 1
        self.characters += len(text)

    @property
    def text(self) -> str:
        """The text so far. It is joined here, so to look at it each time costs more and more."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def tail(self, characters: int) -> str:
        """The last `characters` of the text, at a cost that does not grow with what is before."""
        parts: list[str] = []
        for piece in reversed(self._pieces):
            parts.append(piece[-characters:])
            characters -= len(piece)
            if characters <= 0:
                break
        return "".join(reversed(parts))


_WORDS: Final = ("true", "false", "null")
_OF_WORDS: Final = "".join(_WORDS) + "0123456789+-.eE"
_HALF_A_NUMBER: Final = re.compile(r"-|-?\d+(\.|(\.\d+)?[eE][+-]?)")

Condition: TypeAlias = Callable[[Quality], bool | str | None]
"""What is wrong with an answer: True, or the reason in words; anything false if nothing is."""


def too_slow(tokens_per_second: float, *, after: float = 2.0) -> Condition:
    """The condition that an answer comes at less than `tokens_per_second`.

    The speed is taken from the first token on; one token says nothing about it. Looked at when a
    token has come: for a stream that stands still there is `timeouts(between=...)`. An answer that
    is complete is not given up for it.

    Args:
        tokens_per_second: the least that will do, above 0.
        after: seconds from the first token in which it may be slower, 0 or more.

    Raises:
        TypeError, ValueError: an argument is no such number, or out of its range.

    >>> quality = Quality()
    >>> for _ in range(5):
    ...     quality.add("word ")
    >>> quality.elapsed = 4.0
    >>> too_slow(1.0)(quality), too_slow(2.0)(quality)
    (None, '1 tokens/s, where 2 are the least')
    """
    check_number("tokens_per_second", tokens_per_second, "the least speed that will do", above=0)
    check_number("after", after, "a time in seconds", minimum=0)

    def condition(quality: Quality) -> str | None:
        if quality.is_complete or quality.elapsed <= after or quality.tokens < 2:
            return None
        speed = (quality.tokens - 1) / quality.elapsed
        if speed >= tokens_per_second:
            return None
        return f"{speed:.3g} tokens/s, where {tokens_per_second:g} are the least"

    return condition


def repeats(*, characters: int = 40, times: int = 4) -> Condition:
    """The condition that an answer has fallen into a loop.

    The text ends with a piece of 1 to `characters` characters that has come `times` times in a
    row, and these are `characters` or more in all, so that `...` or `----` is no loop. White space
    alone is none.

    Args:
        characters: the longest piece that is looked for, 1 or more.
        times: how often it comes, 2 or more.

    Raises:
        TypeError, ValueError: an argument is no such number, or out of its range.

    >>> quality = Quality()
    >>> quality.add("He said no. " + "No, no. " * 6)
    >>> repeats()(quality)
    "'No, no. ' was said again and again"
    """
    check_int("characters", characters, "the length of the longest piece looked for")
    check_int("times", times, "how often a piece comes", minimum=2)

    def condition(quality: Quality) -> str | None:
        tail = quality.tail(characters * times)
        for size in range(1, characters + 1):
            length = max(size * times, characters)
            end = tail[-length:]
            if len(end) == length and end[size:] == end[:-size] and not end.isspace():
                piece = end[-size:] if length % size else end[:size]
                return f"{piece!r} was said again and again"
        return None

    return condition


def not_json() -> Condition:
    """The condition that the text can't be the beginning of a JSON value.

    The whole text is parsed when it has doubled, so that all of it together costs as much as
    parsing it twice, and once more at its end, where the value has to be complete. What stands
    behind the last value may be taken for good until then.

    >>> quality = Quality()
    >>> quality.add('{"name": "Mia", "age": ')
    >>> not_json()(quality)
    >>> quality.add("three, I think")
    >>> quality.is_complete = True
    >>> not_json()(quality)
    'it is no JSON: expected ident at line 1 column 25'
    """

    def condition(quality: Quality) -> str | None:
        has_doubled = quality.characters.bit_length() > quality.looked_at.bit_length()
        if not has_doubled and not quality.is_complete:
            return None
        reason = _why_no_json(quality.text, quality.is_complete)
        return None if reason is None else f"it is no JSON: {reason}"

    return condition


def _why_no_json(text: str, is_complete: bool) -> str | None:
    try:
        jiter.from_json(
            text.encode("utf-8", "replace"),
            partial_mode=False if is_complete else "trailing-strings",
            allow_inf_nan=False,
        )
    except ValueError as error:
        return str(error) if is_complete or not _is_broken_off(text) else None
    return None


def _is_broken_off(text: str) -> bool:
    """True if the text is a beginning of JSON that ends in a part of `true`, `-1.5` or the like.

    The parser takes any beginning of JSON but for these, and an empty one.
    """
    before = text.rstrip(_OF_WORDS)
    word = text[len(before) :]
    if not word:
        return not before.strip()
    is_half = word not in _WORDS and any(whole.startswith(word) for whole in _WORDS)
    if not is_half and not _HALF_A_NUMBER.fullmatch(word):
        return False
    return not before.strip() or _why_no_json(before, is_complete=False) is None
