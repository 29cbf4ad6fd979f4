"""`words`: the text word by word."""

# ruff: noqa: RUF001 - full-width punctuation is intended

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import regex
from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.buffering._pieces import TextCount, pieces
from rxllm.stream import Stream

__all__ = ["words"]

_SPACE: Final = r"\s\x1c-\x1f"  # as for str.isspace()
_MARK: Final = r"\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}"  # joins the grapheme before it
_IDEOGRAPH: Final = r"\p{Han}\p{Hiragana}"
_CLOSING: Final = "、。！，：；？」』）】》〉〕］｝"
_BORDER: Final = regex.compile(
    rf"""
    (?<=[{_SPACE}]) (?=[^{_SPACE}{_MARK}])
    | (?<=[^{_SPACE}\p{{Ps}}\p{{Pi}}"'\u2019]) (?=[{_IDEOGRAPH}])
    | (?<=[{_IDEOGRAPH}{_CLOSING}]) (?=[\p{{Ps}}\p{{Pi}}])
    | (?<=[{_IDEOGRAPH}]\p{{M}}{{0,3}}) (?=[\p{{L}}\p{{N}}]) (?!\u30fc)
    """,
    regex.VERBOSE,
)
_ASCII_BORDER: Final = re.compile(r"(?<=\s)(?=\S)")
_CONTEXT: Final = 4  # characters before a border needed to recognise it


def words(
    on_result: Callable[[TextCount], object] | None = None, *, longest: int = 10_000
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""Turn each word into one numbered token, sent as soon as the next one starts.

    ::

        S-Hel-lo-_wor-ld-!-E|          _: a space
        [ words(on_result) ]
        S--------Hello_----(world!,E)|      result: 2 words, 12 characters

    A word is a run between white space, as for `str.split()`, including its punctuation and the
    white space after it. So the joined text is unchanged; leading white space belongs to the first
    word. In Chinese and Japanese, which don't use spaces, each ideograph (Han) and each Hiragana
    letter is a separate word, with the punctuation after it and the opening quotes and brackets
    before it; a run of Katakana is one word. Korean uses spaces. Thai, Lao, Khmer and Burmese don't
    and would need a dictionary: there, each run between white space is one word.

    The words are the same however the text is cut into chunks. `Token.number` counts them from 1;
    text that is only white space is a token without a number. The confidence of a word is the joint
    probability of its tokens, if all of them have one. Batches are unpacked. Other chunks that
    arrive in the middle of a word are sent after it.

    - Completion, error: the last word is sent first, then `on_result` is called. If it raises, a
      completion becomes that error; an error stays as it was, with a note added.
    - Restart: the held word is dropped, and words are counted from 1 again. Usage, progress and
      notices that arrived after the start of that word are sent before the restart notice.
    - Disposal: the held word is dropped; nothing is reported.
    - Demand: passes through. One word is held until the next one starts, at most `longest`
      characters, with the other chunks that arrived after its start.

    Args:
        on_result: called with a `TextCount` once at the end of each stream that had text (each
            source, after a merge).
        longest: maximum length of a word in characters. A longer word is split at or before that,
            between two graphemes, and each part is counted as a word.

    Raises:
        TypeError: `on_result` can't be called, or `longest` is not an integer.
        ValueError: `longest` is less than 1.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> stream = ScriptedModel(["Pi is", " 3.1", "4, 大约"]).stream("What is pi?")
    >>> for _, event in Marbles().run(stream.pipe(words(print))):
    ...     if getattr(event, "text", ""):
    ...         print(event.number, repr(event.text))
    TextCount(kind='words', count=5, characters=14, source=None)
    1 'Pi '
    2 'is '
    3 '3.14, '
    4 '大'
    5 '约'
    """
    return pieces("words", _WordBorders, on_result, longest)


class _WordBorders:
    """Finds where words start."""

    __slots__ = ("_before", "_blank", "_length")

    def __init__(self) -> None:
        self._length = 0
        self._before = ""  # the end of the open word fed so far
        self._blank = True  # nothing but white space so far

    def feed(self, text: str) -> list[int]:
        if self._blank:
            visible = text.lstrip()
            if not visible:
                self._length += len(text)
                return []
            self._blank = False
            self._length += len(text) - len(visible)
            text = visible
        before = len(self._before)
        shown = self._before + text
        border = _ASCII_BORDER if shown.isascii() else _BORDER
        found = [self._length - before + each.start() for each in border.finditer(shown, before)]
        self._length += len(text)
        self._before = shown[-_CONTEXT:]
        return found
