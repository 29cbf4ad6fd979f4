"""`sentiment_and_keywords`: how a text feels, and what it is about."""

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
_REACH: Final = 3  # words after a negation, one of which it turns around
_WORDS_PER_MINUTE: Final = 200
_DECIDED: Final = 0.1  # a polarity of more than this is not neutral


class ContentFigures(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How a text feels and what it is about, as far as it has come.

    Attributes:
        tokens: pieces of text.
        words: those that have ended.
        positive, negative: words that please, and words that don't; after a negation the other
            way round.
        keywords: the most frequent words of 5 characters or more, 5 at most, with their counts;
            those of one count in the order in which they got there.
        polarity: from -1 (all words that were found in the lists are negative) to 1; 0 if none was.
        sentiment: the same in a word: neutral is from -0.1 to 0.1.
        reading_time: seconds that a reader needs, at 200 words a minute.
        source: the stream that the text is of.
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
    """Pass everything on, and report sentiment, keywords and reading time on the way.

    ::

        S-a-b-c-E|
        [ sentiment_and_keywords(on_result, every=2) ]
        S-a-b-c-E|                reports: after b, and at E

    Sentiment is counted in words of two lists; a negation turns the first one of them around that
    is among the three words after it, with no comma or stop between ("not good", "wasn't very
    helpful"). That is simple, fast, and blind to irony. Keywords are the most frequent words of 5
    characters or more that are no stop words. The bundled lists are English, and modest.

    The figures are the same however the text is cut into chunks. Reasoning is no part of the text.
    Each source of a merge has figures of its own. A report is made before the chunk that it is due
    at is passed on.

    - Completion, error: reported for the sources that have not ended; then passed on.
    - Restart: the figures of that stream begin again.
    - Disposal: upstream is disposed; nothing is reported.
    - Demand: passes through; no chunk is held. What is remembered are the different words that may
      be keywords, so it grows with the vocabulary of the text; the cost of a token does not.

    If `on_result` raises, that is the error of the stream; an error of the source stays what it
    was, and gets a note.

    Args:
        on_result: called with the figures.
        every: tokens between two reports, 1 or more; None: only at the end.
        lexicon: lists of words, or the path of a TOML file in the form of the bundled one. Read at
            this call.

    Raises:
        OSError: the file can't be read.
        TypeError: `on_result` can't be called or is asynchronous, `every` is not an integer, or
            `lexicon` is none of what it may be.
        ValueError: `every` is below 1, or the file holds no lists of words.

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
        self._turned = 0  # how many more words the last negation reaches
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
    """Counts words, and knows the most frequent ones at any time without looking at the others."""

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
