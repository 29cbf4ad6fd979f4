"""`redact`: words and patterns are masked, however the text is cut into chunks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import regex
from reactivex import Observable

from rxllm.chunks import Batch, Chunk, Token
from rxllm.operators._held_text import HeldText, parts_of
from rxllm.operators._text_operator import TextState, text_operator
from rxllm.operators.filtering._targets import UNDECIDED, PatternTarget, Target, WordsTarget

__all__ = ["Redaction", "redact"]


@dataclass(frozen=True)
class Redaction:
    """What `redact` has changed in one answer.

    Attributes:
        count: how often something was masked; 0 means that the text is what the model said.
        by: how often for each word (as it was given) and each pattern (its text).
        source: the stream, after a merge.
    """

    count: int
    by: Mapping[str, int]
    source: str | None = None


def redact(
    *words_or_patterns: str | re.Pattern[str] | regex.Pattern[str],
    mask: str = "***",
    whole_words: bool = True,
    ignore_case: bool = False,
    longest: int = 64,
    context: int = 64,
    report: Callable[[Redaction], object] | None = None,
) -> Callable[[Observable[Chunk]], Observable[Chunk]]:
    r"""Mask words and patterns, however the text is cut into chunks.

    ::

        S-a -b-ad -badge-E|
        [ redact("bad") ]
        S-a ---(***, )-badge-(E,|)

    The text is read from left to right. Where several match at one place, the longest counts (of
    equally long ones the first argument, words before patterns), and reading goes on behind it. A
    match of no characters is none. The mask is a token of its own; a token is passed on as it
    came, or cut, with its confidence. Reasoning is not looked at.

    A plain word counts only as a whole: `"bad"` masks nothing in `badge` or `forbad`. A word that
    begins or ends with a sign (`"$%!"`) needs no border there. Chinese, Japanese and Thai put no
    space between words: use `whole_words=False` for them. Text is held only while it may still
    become a word, and for the one character behind it that says whether the word is whole.

    A compiled pattern, of `re` or `regex`, has no such moment: where a match may begin, the text is
    held until `longest` characters follow or the text ends, and only these are looked at. A match
    and what it looks ahead for have to fit into `longest`, what it looks behind for into `context`;
    for a pattern that does not, the result may depend on the chunks. It is run by `regex`, so `\w`
    takes in combining marks.

    - Completion, error: what is held is decided as at the end of the text, and leaves first.
    - Restart: what is held of that stream is dropped, and its count begins at 0 again.
    - Disposal: what is held is dropped, and nothing is reported.
    - Demand: passes through. At most the longest word, or `longest` characters, wait here; other
      chunks that come behind them wait with them, in their order.

    Args:
        words_or_patterns: words, and patterns compiled by `re` or `regex`.
        mask: what stands in the place of each match; `""` removes it.
        whole_words: False masks words inside of other words too.
        ignore_case: of words; a pattern says it itself, by its flags.
        longest: characters of a pattern's match with its look-ahead, 1 or more.
        context: characters that a pattern may look behind, 1 or more.
        report: called once for each stream with text, before its last text leaves. What it raises
            is the error of the stream.

    Raises:
        ValueError: there is nothing to mask, a word is empty, a pattern matches the empty text or
            searches backwards, or a number is below 1.
        TypeError: something else than words and patterns of text.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> source = marbles.cold("a-b-ad-badge-E|", lookup={"a": Token("a "), "ad": Token("ad ")})
    >>> operator = redact("bad", report=lambda redaction: print(redaction.by))
    >>> for time, event in marbles.run(source.pipe(operator)):
    ...     print(time, repr(getattr(event, "text", event)))
    {'bad': 1}
    0.0 'a '
    4.0 '***'
    4.0 ' '
    7.0 'badge'
    13.0 End(finish_reason='stop', stop_sequence=None, source=None)
    14.0 |
    """
    if longest < 1 or context < 1:
        raise ValueError(f"longest and context count characters, 1 or more: {longest}, {context}")
    if not words_or_patterns:
        raise ValueError("give one word or pattern, or more, that is to be masked")
    words, patterns = _sorted(words_or_patterns)
    targets: list[Target] = [PatternTarget(pattern, longest) for pattern in patterns]
    if words:
        targets.insert(0, WordsTarget(words, whole=whole_words, ignore_case=ignore_case))
    kept = context if patterns else 1
    return text_operator(lambda source: _Redacting(source, targets, mask, kept, report))


def _sorted(
    words_or_patterns: tuple[str | re.Pattern[str] | regex.Pattern[str], ...],
) -> tuple[list[str], list[re.Pattern[str] | regex.Pattern[str]]]:
    words: list[str] = []
    patterns: list[re.Pattern[str] | regex.Pattern[str]] = []
    for each in words_or_patterns:
        if isinstance(each, str):
            if not each:
                raise ValueError("a word is empty: leave it out")
            words.append(each)
        elif isinstance(each, re.Pattern | regex.Pattern) and isinstance(each.pattern, str):
            if each.match(""):
                raise ValueError(
                    f"the pattern {each.pattern!r} matches the empty text, which can't be masked: "
                    "write `+` in place of `*`"
                )
            if isinstance(each, regex.Pattern) and each.flags & regex.REVERSE:
                raise ValueError(f"the pattern {each.pattern!r} searches backwards")
            patterns.append(each)
        else:
            raise TypeError(
                f"redact takes words and compiled patterns of text, not {each!r}: "
                "pass several one by one, as in redact(*words)"
            )
    return words, patterns


class _Redacting(TextState):
    """The text of one source."""

    __slots__ = (
        "_begun",
        "_by",
        "_context",
        "_held",
        "_mask",
        "_report",
        "_source",
        "_targets",
        "_text",
    )

    def __init__(
        self,
        source: str | None,
        targets: list[Target],
        mask: str,
        context: int,
        report: Callable[[Redaction], object] | None,
    ) -> None:
        self._source = source
        self._targets = targets
        self._mask = mask
        self._context = context
        self._report = report
        self._by: Counter[str] = Counter()
        self._held = HeldText()
        self._text = ""  # what has left, as far back as `context`, and what is held
        self._begun = 0  # where in it that which is held begins

    def text(self, chunk: Token | Batch) -> list[Chunk]:
        self._text += chunk.text
        if not self._held:
            text, end = self._text, len(self._text)
            for target in self._targets:
                if target.first(text, self._begun) != end:
                    break
            else:
                self._leave(end)
                return [chunk]
        self._held.append(chunk)
        return self._decide(ended=False)

    def other(self, chunk: Chunk) -> list[Chunk]:
        if not self._held:
            return [chunk]
        self._held.append(chunk)
        return []

    def end(self) -> list[Chunk]:
        sent = self._decide(ended=True)
        if self._report is not None:
            self._report(Redaction(self._by.total(), dict(self._by), self._source))
        return sent

    def _decide(self, *, ended: bool) -> list[Chunk]:
        """Decide about the held text from its beginning, as far as that can be done."""
        text, sent, begun = self._text, list[Chunk](), self._begun
        end = len(text)
        firsts = [target.first(text, begun) for target in self._targets]
        while (place := min(firsts)) < end:
            length, name = self._longest_at(place, firsts, ended)
            if length == UNDECIDED:
                break
            if length:
                sent += self._held.take(place - begun)
                sent += self._masked(length, name)
                begun = place + length
            onward = max(begun, place + 1)
            for index, first in enumerate(firsts):
                if first < onward:
                    firsts[index] = self._targets[index].first(text, onward)
        sent += self._held.take(place - begun)
        self._leave(place)
        return sent

    def _longest_at(self, place: int, firsts: list[int], ended: bool) -> tuple[int, str]:
        longest = (0, "")
        for target, first in zip(self._targets, firsts, strict=True):
            if first == place:
                found = target.at(self._text, place, ended)
                if found[0] == UNDECIDED:
                    return found
                if found[0] > longest[0]:
                    longest = found
        return longest

    def _masked(self, length: int, name: str) -> list[Chunk]:
        """The mask in the place of the next `length` characters, and what is no text in them."""
        self._by[name] += 1
        left: list[Chunk] = []
        mask = self._mask
        for part in parts_of(self._held.take(length)):
            if type(part) is not Token:
                left.append(part)
            elif mask and part.text:
                left.append(msgspec.structs.replace(part, text=mask, confidence=None))
                mask = ""
        return left

    def _leave(self, place: int) -> None:
        """Keep of the text before `place` only what may be looked behind for."""
        cut = max(0, place - self._context)
        self._text, self._begun = self._text[cut:], place - cut
