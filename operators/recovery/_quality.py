"""The state that `quality_gate` checks, and ready-made conditions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

import jiter

from rxllm.arguments import check_int, check_number

__all__ = ["Condition", "Quality", "not_json", "repeats", "too_slow"]


class Quality:
    """The answer so far, as seen by a condition of `quality_gate`.

    Attributes:
        tokens: tokens of text so far.
        characters: characters of text so far.
        looked_at: characters of text at the previous check.
        elapsed: seconds since the first piece.
        is_complete: whether the answer has ended.
    """

    __slots__ = ("_pieces", "characters", "elapsed", "is_complete", "looked_at", "tokens")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.tokens: int = 0
        self.characters: int = 0
        self.looked_at: int = 0
        self.elapsed: float = 0.0
        self.is_complete: bool = False

    def add(self, text: str, tokens: int = 1) -> None:
        """Append a piece of text, of so many tokens."""
        self._pieces.append(text)
        self.tokens += tokens
        self.characters += len(text)

    @property
    def text(self) -> str:
        """The text so far. Joined on each access, so the cost grows with the text."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def tail(self, characters: int) -> str:
        """The last `characters` of the text, at a cost independent of the text before them."""
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
"""Returns `True` or a reason in words if the answer is bad, or anything falsy if it isn't."""


def too_slow(tokens_per_second: float, *, after: float = 2.0) -> Condition:
    """A condition that is met when an answer is slower than `tokens_per_second`.

    The speed is measured from the first token on, and needs at least two tokens. It is only checked
    when a token arrives: for stalled streams use `timeouts(between=...)`. A complete answer is
    never rejected.

    Args:
        tokens_per_second: the minimum speed, above 0.
        after: seconds from the first token during which a lower speed is allowed, 0 or more.

    Raises:
        TypeError, ValueError: an argument is not such a number, or is out of range.

    >>> quality = Quality()
    >>> for _ in range(5):
    ...     quality.add("word ")
    >>> quality.elapsed = 4.0
    >>> too_slow(1.0)(quality), too_slow(2.0)(quality)
    (None, '1 tokens/s, the minimum is 2')
    """
    check_number("tokens_per_second", tokens_per_second, "the minimum speed", above=0)
    check_number("after", after, "a time in seconds", minimum=0)

    def condition(quality: Quality) -> str | None:
        if quality.is_complete or quality.elapsed <= after or quality.tokens < 2:
            return None
        speed = (quality.tokens - 1) / quality.elapsed
        if speed >= tokens_per_second:
            return None
        return f"{speed:.3g} tokens/s, the minimum is {tokens_per_second:g}"

    return condition


def repeats(*, characters: int = 40, times: int = 4) -> Condition:
    """A condition that is met when an answer is stuck in a loop.

    The text ends with a piece of 1 to `characters` characters that occurs at least `times` times in
    a row, and the repetitions have at least `characters` characters in all, so `...` or `----`
    isn't a loop. Neither is white space alone.

    Args:
        characters: the longest piece to look for, 1 or more.
        times: the number of repetitions, 2 or more.

    Raises:
        TypeError, ValueError: an argument is not such a number, or is out of range.

    >>> quality = Quality()
    >>> quality.add("He said no. " + "No, no. " * 6)
    >>> repeats()(quality)
    "'No, no. ' was repeated"
    """
    check_int("characters", characters, "the length of the longest piece to look for")
    check_int("times", times, "the number of repetitions", minimum=2)

    def condition(quality: Quality) -> str | None:
        tail = quality.tail(characters * times)
        for size in range(1, characters + 1):
            length = max(size * times, characters)
            end = tail[-length:]
            if len(end) == length and end[size:] == end[:-size] and not end.isspace():
                piece = end[-size:] if length % size else end[:size]
                return f"{piece!r} was repeated"
        return None

    return condition


def not_json() -> Condition:
    """A condition that is met when the text can't be the beginning of a JSON value.

    The whole text is parsed each time its length has doubled, so the total cost is that of parsing
    it twice, and once more at the end, where the value must be complete. Text after the value may
    go unnoticed until then.

    >>> quality = Quality()
    >>> quality.add('{"name": "Mia", "age": ')
    >>> not_json()(quality)
    >>> quality.add("three, I think")
    >>> quality.is_complete = True
    >>> not_json()(quality)
    'invalid JSON: expected ident at line 1 column 25'
    """

    def condition(quality: Quality) -> str | None:
        has_doubled = quality.characters.bit_length() > quality.looked_at.bit_length()
        if not has_doubled and not quality.is_complete:
            return None
        reason = _why_no_json(quality.text, quality.is_complete)
        return None if reason is None else f"invalid JSON: {reason}"

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
    """True if the text is a prefix of JSON that ends within `true`, `-1.5` or the like.

    The parser accepts any prefix of JSON except these and the empty one.
    """
    before = text.rstrip(_OF_WORDS)
    word = text[len(before) :]
    if not word:
        return not before.strip()
    is_half = word not in _WORDS and any(whole.startswith(word) for whole in _WORDS)
    if not is_half and not _HALF_A_NUMBER.fullmatch(word):
        return False
    return not before.strip() or _why_no_json(before, is_complete=False) is None
