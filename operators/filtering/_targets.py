"""What `redact` searches for in a text that is still growing: words and patterns."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, TypeAlias

import regex

from rxllm.operators.filtering._word_search import UNDECIDED, Words, WordSearch

__all__ = ["PatternTarget", "Target", "WordTarget"]

Mask: TypeAlias = str | Callable[[regex.Match[str]], str]
"""A replacement, for patterns a template with their groups; or a function of a match."""

_SECONDS: Final = 1.0


class Target(Protocol):
    """Searches for one pattern, or many words, in the part of a text that is still kept."""

    def read(self, text: str) -> None:
        """Read `text`, all that is known so far. Called before the other methods."""

    def first(self, text: str, position: int) -> int:
        """The first place from `position` on where a match starts or may start, or the end."""

    def at(self, text: str, place: int, ended: bool) -> tuple[int, str]:
        """The length and the name of the match at `place`.

        The length is 0 if there is no match, and `UNDECIDED` if more text could change the result.
        """

    def mask(self, text: str, place: int, length: int) -> str:
        """The replacement for the match at `place`."""

    def cut(self, length: int) -> None:
        """Forget the first `length` characters of the text."""


class WordTarget(WordSearch):
    """Many words, with their mask."""

    def __init__(self, words: Words, mask: Mask) -> None:
        super().__init__(words)
        self._mask = mask

    def mask(self, text: str, place: int, length: int) -> str:
        """The mask itself, or what the function makes of the word."""
        if isinstance(self._mask, str):
            return self._mask
        word = text[place : place + length]
        match = regex.fullmatch(regex.escape(word, special_only=True), word)
        assert match is not None  # noqa: S101 - an escaped text matches itself
        return _made(self._mask, match)


class PatternTarget:
    """One pattern, whose match and look-ahead must fit into `longest` characters.

    `regex` can tell whether the text at a place is a match or could be the start of one. It can't
    tell whether more text would change a match that it found (as with `bad(?! luck)` and
    `cat|category`): so a match is decided once `longest` characters are known, from these alone.
    """

    def __init__(
        self, pattern: re.Pattern[str] | regex.Pattern[str], longest: int, mask: Mask
    ) -> None:
        if isinstance(pattern, re.Pattern):
            pattern = regex.compile(pattern.pattern, _flags_of(pattern) | regex.VERSION0)
        self._pattern = pattern
        self._longest = longest
        self._mask = mask
        if isinstance(mask, str) and "\\" in mask:
            _check_template(pattern, mask)

    def read(self, text: str) -> None:
        """Do nothing: a pattern is searched on demand."""

    def cut(self, length: int) -> None:
        """Do nothing: no positions are stored."""

    def first(self, text: str, position: int) -> int:
        """The first place with a match or, near the end, with the possible start of one.

        A partial search prefers a later match to an earlier partial one, and takes quadratic time:
        so it gets no more than `longest` characters.
        """
        near = max(position, len(text) - self._longest)
        match: regex.Match[str] | None = None
        if position < near:
            match = self._run("search", text, position)
        if match is None:
            match = self._run("search", text, near, partial=True)
            if match is None or match.partial:
                return len(text) if match is None else match.start()
        for place in range(near, match.start()):
            if self._run("match", text, place, partial=True):
                return place
        return match.start()

    def at(self, text: str, place: int, ended: bool) -> tuple[int, str]:
        """Wait for `longest` characters while they may be a match; then match."""
        known = len(text) - place
        if not ended and known < self._longest:
            may_match = self._run("match", text, place, partial=True)
            return (UNDECIDED if may_match else 0), ""
        match: regex.Match[str] | None = self._run(
            "match", text, place, endpos=place + self._longest
        )
        return (match.end() - place if match else 0), self._pattern.pattern

    def mask(self, text: str, place: int, length: int) -> str:
        """The template with the groups of the match, or what the function makes of it."""
        if isinstance(self._mask, str) and "\\" not in self._mask:
            return self._mask
        match = self._run("match", text, place, endpos=place + self._longest)
        return match.expand(self._mask) if isinstance(self._mask, str) else _made(self._mask, match)

    def _run(self, how: Literal["search", "match"], text: str, position: int, **more: Any) -> Any:
        """Search or match, for a limited time: some patterns take for ever on some texts."""
        try:
            return getattr(self._pattern, how)(text, position, timeout=_SECONDS, **more)
        except TimeoutError:
            raise RuntimeError(
                f"the pattern {self._pattern.pattern!r} took more than {_SECONDS:g} s for one "
                "search: avoid repetitions inside of repetitions"
            ) from None


def _made(function: Callable[[regex.Match[str]], str], match: regex.Match[str]) -> str:
    mask = function(match)
    if not isinstance(mask, str):
        raise TypeError(f"the mask of redact must return a string, got {type(mask).__name__}")
    return mask


def _check_template(pattern: regex.Pattern[str], template: str) -> None:
    """Raise a `ValueError` if the template names a group that the pattern doesn't have."""
    try:
        regex.compile(f"(?:{pattern.pattern})|", pattern.flags).sub(template, "")
    except (regex.error, IndexError) as error:
        raise ValueError(
            f"the mask {template!r} doesn't fit the pattern {pattern.pattern!r}: {error}"
        ) from None


def _flags_of(pattern: re.Pattern[str]) -> int:
    """The flags of `pattern` for `regex`, where the same letters have other values."""
    flags = 0
    for letter in "AIMSUX":
        if pattern.flags & getattr(re, letter):
            flags |= getattr(regex, letter)
    return flags
