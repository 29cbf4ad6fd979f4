"""`analyze_text`: word and sentence statistics."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.analytics._text_watcher import TextReader, TextWatcher, check_on_result
from rxllm.operators.analytics._watcher import watch
from rxllm.operators.analytics._word_reader import WordReader
from rxllm.stream import Stream
from rxllm.text.sentences import SentenceBorders

__all__ = ["TextFigures", "analyze_text"]


class TextFigures(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False
):
    """Statistics of the text so far.

    Attributes:
        tokens: number of text chunks.
        words: number of completed words.
        unique_words: number of distinct words, ignoring case.
        sentences: number of sentences started.
        mean_word_length: characters per word, over all words; `None` before the first is complete.
        words_per_sentence: `None` before the first word is complete.
        source: the stream that the text belongs to.
    """

    tokens: int
    words: int
    unique_words: int
    sentences: int
    mean_word_length: float | None = None
    words_per_sentence: float | None = None
    source: str | None = None


def analyze_text(
    on_result: Callable[[TextFigures], object], *, every: int | None = None
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Count words and sentences, and report them at the end.

    ::

        S-a-b-c-E|
        [ analyze_text(on_result) ]
        S-a-b-c-E|                report: 3 tokens, 1 word, 1 sentence

    All chunks pass through unchanged. A word is a run of letters and digits, including inner
    apostrophes ("don't" is one word, "well-known" is two). A run longer than 64 characters counts
    as several words, so a text in a script without spaces has few, long words. Sentences are those
    of `sentences()`. The figures don't depend on how the text is split into chunks. Reasoning
    isn't counted.

    Each source of a merge and each answer of a run has its own figures, reported at its end. A
    report is made before the chunk that triggers it is passed on.

    - Completion, error: sources that have not ended are reported first; then passed on.
    - Restart: the figures of that stream are reset.
    - Disposal: upstream is disposed; nothing is reported.
    - Demand: passes through; no chunk is held. The distinct words are kept, so memory grows with
      the vocabulary of the text; the cost per token does not.

    If `on_result` raises, the stream fails with that exception; an error of the source is kept
    and gets a note.

    Args:
        on_result: called with the figures.
        every: tokens between intermediate reports, 1 or more, or `None` to report only at the end.

    Raises:
        TypeError: `on_result` can't be called or is asynchronous, or `every` is not an integer.
        ValueError: `every` is below 1.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> model = ScriptedModel("The cat sat. The dog didn't!", by="word")
    >>> def on_result(text):
    ...     print(text.words, text.unique_words, text.sentences, text.words_per_sentence)
    >>> _ = Marbles().run(model.stream("Hi").pipe(analyze_text(on_result)))
    6 5 2 3.0
    """
    check_on_result(on_result, every)
    return watch("analyze_text", lambda _: TextWatcher(_Analysis, on_result, every))


class _Analysis(TextReader[TextFigures]):
    def __init__(self, source: str | None) -> None:
        self._source = source
        self._words = WordReader()
        self._sentences = SentenceBorders()
        self._count = self._characters = 0
        self._known: set[str] = set()

    def read(self, text: str) -> None:
        self._sentences.feed(text)
        self._add(self._words.feed(text))

    def end(self) -> None:
        self._add(self._words.end())

    def figures(self) -> TextFigures:
        sentences = self._sentences.begun
        return TextFigures(
            tokens=self.tokens,
            words=self._count,
            unique_words=len(self._known),
            sentences=sentences,
            mean_word_length=self._characters / self._count if self._count else None,
            words_per_sentence=self._count / sentences if self._count and sentences else None,
            source=self._source,
        )

    def _add(self, words: list[str]) -> None:
        self._count += len(words)
        for word in words:
            self._characters += len(word)
            self._known.add(word)
