"""`redact`: words and patterns are masked, however the text is cut into chunks."""

from __future__ import annotations

import re
from collections.abc import Callable

import regex
from reactivex import Observable

from rxllm.arguments import check_callable, check_int
from rxllm.chunks import Chunk
from rxllm.operators._text_operator import text_operator
from rxllm.operators.filtering._redact_state import Redaction, RedactState
from rxllm.operators.filtering._targets import PatternTarget, Target
from rxllm.operators.filtering._word_search import Words, WordSearch
from rxllm.stream import Stream

__all__ = ["Redaction", "redact"]


def redact(
    *words_or_patterns: str | re.Pattern[str] | regex.Pattern[str],
    mask: str = "***",
    whole_words: bool = True,
    ignore_case: bool = False,
    longest: int = 64,
    context: int = 64,
    on_result: Callable[[Redaction], object] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
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
    - Restart: held text of that stream is dropped, other chunks that waited with it leave first,
      and its count begins at 0 again.
    - Disposal: what is held is dropped, and nothing is reported.
    - Demand: passes through. At most the longest word, or `longest` characters, wait here; other
      chunks that come behind them wait with them, in their order.
    - Cost: a character costs the same for any number of words, of any length. A pattern costs what
      `regex` needs for `longest` characters wherever a match may begin.

    Args:
        words_or_patterns: words, and patterns compiled by `re` or `regex`.
        mask: what stands in the place of each match; `""` removes it.
        whole_words: False masks words inside of other words too.
        ignore_case: of words; a pattern says it itself, by its flags.
        longest: characters of a pattern's match with its look-ahead, 1 or more.
        context: characters that a pattern may look behind, 1 or more.
        on_result: called once for each stream with text, before its last text leaves. What it
            raises is the error of the stream.

    Raises:
        ValueError: there is nothing to mask, a word is empty, a pattern matches the empty text or
            searches backwards, or a number is below 1.
        TypeError: something else than words and patterns of text, a number that is no whole one,
            a `mask` that is no text, or a `on_result` that can't be called or is asynchronous.

    >>> from rxllm.chunks import Token
    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> source = marbles.cold("a-b-ad-badge-E|", lookup={"a": Token("a "), "ad": Token("ad ")})
    >>> operator = redact("bad", on_result=lambda redaction: print(redaction.by))
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
    longest = check_int("longest", longest, "the number of characters that a match fits into")
    context = check_int(
        "context", context, "the number of characters that a pattern may look behind"
    )
    if not isinstance(mask, str):
        raise TypeError(f"mask is a text, not {mask!r}")
    if on_result is not None:
        check_callable(
            "on_result",
            on_result,
            "a function of a Redaction, or None",
            instead="make it a plain one",
        )
    if not words_or_patterns:
        raise ValueError("give one word or pattern, or more, that is to be masked")
    words, patterns = _sorted(words_or_patterns)
    targets = [PatternTarget(pattern, longest) for pattern in patterns]
    compiled = Words(words, whole=whole_words, ignore_case=ignore_case) if words else None
    kept = context if patterns else 1

    def state_of(source: str | None) -> RedactState:
        searches: list[Target] = [WordSearch(compiled)] if compiled is not None else []
        return RedactState(source, [*searches, *targets], mask, kept, on_result)

    return text_operator("redact", state_of)


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
