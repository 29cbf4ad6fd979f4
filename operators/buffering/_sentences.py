"""`sentences`: the text by the sentence."""

# ruff: noqa: RUF002 - full-width punctuation is meant

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
    r"""Make of each sentence one numbered token, sent as soon as the next one begins.

    ::

        S-It-is-3.-14.-Yes-!-E|
        [ sentences(on_result) ]
        S--------------(It is 3.14.)--(Yes!,E)|      report: 2 sentences

    A sentence ends with a stop (`.`, `!`, `?`, `…`, `؟`, `।` and their like, one or several), with
    the quotes and brackets that close behind it, and with the white space after that, which
    belongs to it. So the joined text is the same, and white space at its beginning belongs to the
    first sentence. White space has to follow the stop ("3.14" and "example.com" end nothing), but
    not a full-width one (`。`, `！`, `？`). After white space a letter in lower case goes on with
    the sentence: "Wait... what?" and '"Stop!" he said' are one each. No sentence ends after an
    abbreviation of a list (English, German, French, Spanish, Italian, Portuguese: "Dr.", "e.g.",
    "z.B.", "No." before a number), after initials ("J. R. R. Tolkien", "U.S.") or after the number
    of a list item ("1. Bread"). An empty line ends a sentence, with or without a stop: a title is
    one.

    So "Plan B. Then" is one sentence and "iPhones sell. iPads too." another: the rules know no
    grammar. Thai, which writes no stops, is cut at empty lines only.

    The sentences are the same however the text is cut into chunks. `Token.number` counts them from
    1; a text that is only white space is a token without a number. The confidence of a sentence is
    the probability of all its tokens together, where each one is known. Batches are unpacked. Other
    chunks that come in the middle of a sentence leave behind it.

    - Completion, error: the last sentence leaves first, then `on_result` is called. If that raises,
      a completion becomes that error; an error stays what it was, and gets a note.
    - Restart: the sentence that is held is dropped, and sentences are counted from 1 again. Usage,
      progress and notices that came behind its beginning leave before the notice of the restart.
    - Disposal: what is held is dropped; nothing is reported.
    - Demand: passes through. Held is one sentence until the next one begins (its first character
      that is no quote and no bracket), at most `longest` characters, and the other chunks that
      came after its beginning.

    Args:
        on_result: called once at the end of each stream that had text (each source, after a merge),
            with a `TextCount`.
        longest: characters. A longer sentence is cut before that, between two graphemes, and each
            part is counted as a sentence.

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
