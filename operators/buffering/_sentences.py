"""`sentences`: the text sentence by sentence."""

# ruff: noqa: RUF002 - full-width punctuation is intended

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.buffering._pieces import TextCount, pieces
from rxllm.stream import Stream
from rxllm.text.sentences import SentenceBorders

__all__ = ["sentences"]


def sentences(
    on_result: Callable[[TextCount], object] | None = None, *, longest: int = 10_000
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""Turn each sentence into one numbered token, sent as soon as the next one starts.

    ::

        S-It-is-3.-14.-Yes-!-E|
        [ sentences(on_result) ]
        S--------------(It is 3.14.)--(Yes!,E)|      result: 2 sentences

    A sentence ends with a terminator (one or more of `.`, `!`, `?`, `…`, `؟`, `।` and the like),
    any closing quotes and brackets, and the white space after them, which is part of the sentence.
    So the joined text is unchanged; leading white space belongs to the first sentence. White space
    must follow the terminator ("3.14" and "example.com" don't end a sentence), unless it is
    full-width (`。`, `！`, `？`). A lower-case letter after the white space continues the sentence:
    "Wait... what?" and '"Stop!" he said' are one each. A sentence doesn't end after a known
    abbreviation (English, German, French, Spanish, Italian, Portuguese: "Dr.", "e.g.", "z.B.",
    "No." before a number), after initials ("J. R. R. Tolkien", "U.S.") or after the number of a
    list item ("1. Bread"). An empty line ends a sentence, with or without a terminator, so a title
    is a sentence.

    The rules have no grammar: "Plan B. Then" is one sentence, and so is "iPhones sell. iPads too."
    Thai, which has no terminators, is split only at empty lines.

    The sentences are the same however the text is cut into chunks. `Token.number` counts them from
    1; text that is only white space is a token without a number. The confidence of a sentence is
    the joint probability of its tokens, if all of them have one. Batches are unpacked. Other chunks
    that arrive in the middle of a sentence are sent after it.

    - Completion, error: the last sentence is sent first, then `on_result` is called. If it raises,
      a completion becomes that error; an error stays as it was, with a note added.
    - Restart: the held sentence is dropped, and sentences are counted from 1 again. Usage, progress
      and notices that arrived after the start of that sentence are sent before the restart notice.
    - Disposal: the held sentence is dropped; nothing is reported.
    - Demand: passes through. One sentence is held until the next one starts (with its first
      character that isn't a quote or a bracket), at most `longest` characters, with the other
      chunks that arrived after its start.

    Args:
        on_result: called with a `TextCount` once at the end of each stream that had text (each
            source, after a merge).
        longest: maximum length of a sentence in characters. A longer one is split at or before
            that, between two graphemes, and each part is counted as a sentence.

    Raises:
        TypeError: `on_result` can't be called, or `longest` is not an integer.
        ValueError: `longest` is less than 1.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> stream = ScriptedModel("Dr. Who has 3.14 hearts. Really? Yes!", by="word").stream("Tell me")
    >>> for _, event in Marbles().run(stream.pipe(sentences(print))):
    ...     if getattr(event, "text", ""):
    ...         print(event.number, repr(event.text))
    TextCount(kind='sentences', count=3, characters=37, source=None)
    1 'Dr. Who has 3.14 hearts. '
    2 'Really? '
    3 'Yes!'
    """
    return pieces("sentences", SentenceBorders, on_result, longest)
