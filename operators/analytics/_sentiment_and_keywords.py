"""`sentiment_and_keywords`: the tone and topics of a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.analytics._lexicon import Lexicon, as_lexicon
from rxllm.operators.analytics._text_watcher import TextReader, TextWatcher, check_on_result
from rxllm.operators.analytics._watcher import watch
from rxllm.operators.analytics._word_reader import STOPS, WordReader
from rxllm.stream import Stream

__all__ = ["ContentFigures", "Sentiment", "sentiment_and_keywords"]

Sentiment: TypeAlias = Literal["positive", "negative", "neutral"]

_KEYWORDS: Final = 5
_SHORTEST: Final = 5  # characters of a keyword
_REACH: Final = 3  # words after a negation, one of which it inverts
_WORDS_PER_MINUTE: Final = 200
_DECIDED: Final = 0.1  # a polarity beyond this is not neutral


class ContentFigures(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Sentiment and keywords of the text so far.

    Attributes:
        tokens: number of text chunks.
        words: number of completed words.
        positive, negative: number of words with positive and with negative sentiment; inverted
            after a negation.
        keywords: the most frequent words of 5 characters or more, at most 5, with their counts;
            words with equal counts are in the order in which they reached it.
        polarity: from -1 (all listed words found are negative) to 1; 0 if none was found.
        sentiment: the polarity as a word; from -0.1 to 0.1 is neutral.
        reading_time: seconds needed to read the text, at 200 words per minute.
        source: the stream that the text belongs to.
    """

    tokens: int
    words: int
    positive: int
    negative: int
    keywords: dict[str, int]
    polarity: float
    sentiment: Sentiment
    reading_time: float
    source: str | None = None


def sentiment_and_keywords(
    on_result: Callable[[ContentFigures], object],
    every: int | None = 10,
    *,
    lexicon: Lexicon | Path | str | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Report the sentiment, keywords and reading time of the text.

    ::

        S-a-b-c-E|
        [ sentiment_and_keywords(on_result, every=2) ]
        S-a-b-c-E|                reports: after b, and at E

    All chunks pass through unchanged. Sentiment counts the words of a positive and a negative list.
    A negation inverts the first listed word among the three words after it, unless a comma or other
    punctuation comes first ("not good", "wasn't very helpful"). This is simple and fast, and misses
    irony. Keywords are the most frequent words of 5 characters or more, except stop words. The
    bundled lists are English and small.

    The figures don't depend on how the text is split into chunks. Reasoning isn't counted. Each
    source of a merge and each answer of a run has its own figures. A report is made before the
    chunk that triggers it is passed on.

    - Completion, error: sources that have not ended are reported first; then passed on.
    - Restart: the figures of that stream are reset.
    - Disposal: upstream is disposed; nothing is reported.
    - Demand: passes through; no chunk is held. The distinct words that may be keywords are kept, so
      memory grows with the vocabulary of the text; the cost per token does not.

    If `on_result` raises, the stream fails with that exception; an error of the source is kept
    and gets a note.

    Args:
        on_result: called with the figures.
        every: tokens between two reports, 1 or more, or `None` to report only at the end.
        lexicon: the word lists, the path of a TOML file in the format of the bundled one, or `None`
            to use the bundled one. Read when the operator is created.

    Raises:
        OSError: the file can't be read.
        TypeError: `on_result` can't be called or is asynchronous, `every` is not an integer, or
            `lexicon` is not a `Lexicon` or a path.
        ValueError: `every` is below 1, or the file is not a valid lexicon.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> model = ScriptedModel("A happy robot painted. The robot was not sad.", by="word")
    >>> def on_result(content):
    ...     print(content.sentiment, content.keywords, content.reading_time)
    >>> _ = Marbles().run(model.stream("Hi").pipe(sentiment_and_keywords(on_result)))
    positive {'robot': 2, 'happy': 1, 'painted': 1} 2.7
    """
    check_on_result(on_result, every)
    words = as_lexicon(lexicon)
    return watch(
        "sentiment_and_keywords",
        lambda _: TextWatcher(lambda source: _Content(source, words), on_result, every),
    )


class _Content(TextReader[ContentFigures]):
    def __init__(self, source: str | None, lexicon: Lexicon) -> None:
        self._source = source
        self._lexicon = lexicon
        self._words = WordReader(stops=True)
        self._count = self._positive = self._negative = 0
        self._turned = 0  # number of further words that the last negation reaches
        self._keywords = _MostFrequent(_KEYWORDS)

    def read(self, text: str) -> None:
        for word in self._words.feed(text):
            self._add(word)

    def end(self) -> None:
        for word in self._words.end():
            self._add(word)

    def figures(self) -> ContentFigures:
        found = self._positive + self._negative
        polarity = (self._positive - self._negative) / found if found else 0.0
        return ContentFigures(
            tokens=self.tokens,
            words=self._count,
            positive=self._positive,
            negative=self._negative,
            keywords=self._keywords.top,
            polarity=polarity,
            sentiment=_sentiment(polarity),
            reading_time=self._count * 60 / _WORDS_PER_MINUTE,
            source=self._source,
        )

    def _add(self, word: str) -> None:
        if word in STOPS:
            self._turned = 0
            return
        self._count += 1
        lexicon = self._lexicon
        if word in lexicon.negations or word.endswith("n't"):
            self._turned = _REACH
        else:
            is_turned = self._turned > 0
            self._turned -= is_turned
            if word in lexicon.positive or word in lexicon.negative:
                pleases = (word in lexicon.positive) is not is_turned
                self._positive += pleases
                self._negative += not pleases
                self._turned = 0
        if len(word) >= _SHORTEST and word not in lexicon.stop_words and not word.isdecimal():
            self._keywords.add(word)


def _sentiment(polarity: float) -> Sentiment:
    if abs(polarity) <= _DECIDED:
        return "neutral"
    return "positive" if polarity > 0 else "negative"


class _MostFrequent:
    """Counts words, and maintains the most frequent ones without scanning the others."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._counts: dict[str, int] = {}
        self._top: list[str] = []  # most frequent first

    @property
    def top(self) -> dict[str, int]:
        return {word: self._counts[word] for word in self._top}

    def add(self, word: str) -> None:
        counts, top = self._counts, self._top
        counts[word] = count = counts.get(word, 0) + 1
        if word in top:
            top.remove(word)
        elif len(top) == self._size:
            if count <= counts[top[-1]]:
                return
            top.pop()
        place = len(top)
        while place and counts[top[place - 1]] < count:
            place -= 1
        top.insert(place, word)
