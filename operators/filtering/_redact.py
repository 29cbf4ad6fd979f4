"""`redact`: mask words and patterns, however the text is cut into chunks."""

from __future__ import annotations

import re
from collections.abc import Callable

import regex
from reactivex import Observable

from rxllm.arguments import check_callable, check_int
from rxllm.chunks import Chunk
from rxllm.operators._text_operator import text_operator
from rxllm.operators.filtering._redact_state import Redaction, RedactState
from rxllm.operators.filtering._targets import PatternTarget, Target, WordTarget
from rxllm.operators.filtering._word_search import Words
from rxllm.stream import Stream

__all__ = ["Redaction", "redact"]


def redact(
    *words_or_patterns: str | re.Pattern[str] | regex.Pattern[str],
    mask: str | Callable[[regex.Match[str]], str] = "***",
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

    The text is read from left to right. If several matches start at the same place, the longest one
    wins (of equally long ones the first argument, words before patterns), and reading continues
    after it. Empty matches are ignored. The mask is a separate token, with `masked`; other tokens
    are passed on unchanged, or split, with their confidence. Reasoning isn't searched.

    A plain word matches only as a whole: `"bad"` masks nothing in `badge` or `forbad`. A word that
    starts or ends with a symbol (`"$%!"`) needs no word boundary there. Chinese, Japanese and Thai
    don't put spaces between words: use `whole_words=False` for them. Text is held only while it may
    still become a word, and for the one character after it that decides whether the word is whole.

    A compiled pattern, of `re` or `regex`, can't be decided that early: where a match may start,
    the text is held until `longest` characters follow or the text ends, and only these are
    searched. A match and its look-ahead must fit into `longest`, its look-behind into `context`; if
    they don't, the result may depend on the chunks. Patterns are run by `regex`, so `\w` includes
    combining marks.

    - Completion, error: held text is decided as at the end of the text, and sent first.
    - Restart: held text of that stream is dropped, other chunks that waited with it are sent first,
      and its count is reset to 0.
    - Disposal: held text is dropped, and nothing is reported.
    - Demand: passes through. At most the longest word, or `longest` characters, wait here; other
      chunks that arrive after them wait with them, in order.
    - Cost: a character costs the same for any number of words of any length. A pattern costs what
      `regex` needs for `longest` characters wherever a match may start. If that takes more than a
      second, the stream fails with a `RuntimeError`; held text is not sent then.

    Args:
        words_or_patterns: words, and patterns compiled by `re` or `regex`.
        mask: replaces each match; `""` removes it. For a pattern it is a template as in `re.sub`:
            `\1` and `\g<name>` stand for its groups. Or a function of the match, whose group 0 is
            a word; an exception becomes the error of the stream.
        whole_words: False also masks words inside other words.
        ignore_case: applies to words; a pattern uses its own flags.
        longest: maximum length of a pattern's match with its look-ahead, 1 or more.
        context: number of characters that a pattern may look behind, 1 or more.
        on_result: called with a `Redaction` once for each stream with text, before its last text is
            sent. An exception becomes the error of the stream.

    Raises:
        ValueError: there is nothing to mask, a word is empty, a pattern matches the empty text or
            searches backwards, or a number is below 1.
        TypeError: an argument is neither a word nor a pattern of text, `longest` or `context` is
            not an integer, `mask` is neither a string nor a plain function, or `on_result` can't be
            called or is asynchronous; into `on_error`, if the function `mask` doesn't return a
            string.

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
    13.0 End(finish_reason='stop', stop_sequence=None, ...)
    14.0 |
    """
    longest = check_int("longest", longest, "the maximum number of characters in a match")
    context = check_int("context", context, "characters that a pattern may look behind")
    if not isinstance(mask, str):
        check_callable("mask", mask, "a string, or a function of a match", instead="use guard")
    if on_result is not None:
        check_callable(
            "on_result",
            on_result,
            "a function of a Redaction, or None",
            instead="use a plain function",
        )
    if not words_or_patterns:
        raise ValueError("redact needs at least one word or pattern to mask")
    words, patterns = _sorted(words_or_patterns)
    targets = [PatternTarget(pattern, longest, mask) for pattern in patterns]
    compiled = Words(words, whole=whole_words, ignore_case=ignore_case) if words else None
    kept = context if patterns else 1

    def state_of(source: str | None) -> RedactState:
        searches: list[Target] = [WordTarget(compiled, mask)] if compiled is not None else []
        return RedactState(source, [*searches, *targets], kept, on_result)

    return text_operator("redact", state_of)


def _sorted(
    words_or_patterns: tuple[str | re.Pattern[str] | regex.Pattern[str], ...],
) -> tuple[list[str], list[re.Pattern[str] | regex.Pattern[str]]]:
    words: list[str] = []
    patterns: list[re.Pattern[str] | regex.Pattern[str]] = []
    for each in words_or_patterns:
        if isinstance(each, str):
            if not each:
                raise ValueError("redact got an empty word: leave it out")
            words.append(each)
        elif isinstance(each, re.Pattern | regex.Pattern) and isinstance(each.pattern, str):
            if each.match(""):
                raise ValueError(
                    f"the pattern {each.pattern!r} matches the empty text, which can't be masked: "
                    "use `+` instead of `*`"
                )
            if isinstance(each, regex.Pattern) and each.flags & regex.REVERSE:
                raise ValueError(
                    f"the pattern {each.pattern!r} searches backwards, which redact can't do"
                )
            patterns.append(each)
        else:
            raise TypeError(
                f"redact takes words and compiled patterns of text, got {each!r}; "
                "unpack a list, as in redact(*words)"
            )
    return words, patterns
