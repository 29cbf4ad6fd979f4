"""`accumulate`: each chunk with the text and the figures so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reactivex import Observable, abc

from rxllm.chunks import (
    Batch,
    Chunk,
    ChunkCarrier,
    End,
    Notice,
    Reasoning,
    Start,
    Token,
    tokens_of,
)
from rxllm.expected_tokens import ExpectedTokens
from rxllm.restart import forget, matching_sources
from rxllm.stream import Stream
from rxllm.transcript import RunningText
from rxllm.valve import clock_of

__all__ = ["Accumulated", "accumulate"]

_NEXT_ATTEMPT: Final = ("retry", "fallback", "resume", "restart")


class Accumulated(ChunkCarrier):
    """A chunk, with the answer up to and including it, and the figures at that point.

    Attributes:
        chunk: the chunk.
        length: the length of `text` in characters, known without joining it.
        number: the number of this item, from 1.
        tokens: the tokens so far, of the text and the reasoning of the answer.
        elapsed: seconds from the subscription to this item.
        latency: seconds from the item before it, or from the subscription, to this one.
        attempt: which attempt of the answer it belongs to, from 1: a notice of a retry, a fallback,
            a degraded request or a resumption begins the next one.
        model: the model that answers, once it has started.
    """

    __slots__ = ("_answer", "attempt", "elapsed", "latency", "length", "model", "number", "tokens")

    def __init__(
        self, chunk: Chunk, answer: _Answer, number: int, elapsed: float, latency: float
    ) -> None:
        self.chunk = chunk
        self.length: int = answer.text.length
        self.number: int = number
        self.tokens: int = answer.tokens
        self.elapsed: float = elapsed
        self.latency: float = latency
        self.attempt: int = answer.attempt
        self.model: str | None = answer.model
        self._answer = answer

    @property
    def source(self) -> str | None:
        """The stream that the chunk came from, after a merge."""
        return self.chunk.source

    @property
    def text(self) -> str:
        """The answer of that stream, up to and including this chunk.

        It is joined on access, at a cost that grows with the text: read it occasionally, or at the
        end, but not for each token. Later chunks don't change it.
        """
        return self._answer.text.up_to(self.length)

    @property
    def percentage(self) -> float | None:
        """The progress, 0 to 100; `None` if the request has no maximum of tokens."""
        most = self._answer.max_tokens
        return None if most is None else min(100.0, 100.0 * self.tokens / most)

    def __repr__(self) -> str:
        return f"Accumulated(chunk={self.chunk!r}, text={self.text!r})"


class _Answer:
    """An answer so far. An attempt that begins again is another one."""

    __slots__ = ("attempt", "has_begun", "max_tokens", "model", "text", "tokens")

    def __init__(self, attempt: int) -> None:
        self.attempt: int = attempt
        self.has_begun: bool = False
        self.text: RunningText = RunningText()
        self.tokens: int = 0
        self.model: str | None = None
        self.max_tokens: int | None = None

    def next(self) -> _Answer:
        """Return the next attempt, which has the text so far."""
        following = _Answer(self.attempt + 1)
        following.text, following.tokens = self.text, self.tokens
        return following


def accumulate() -> Callable[[Observable[Chunk]], Stream[Accumulated]]:
    """Pair each chunk with the text and the figures so far.

    ::

        S-a-b-E|
        [ accumulate() ]
        S-a-b-E|                  each one as Accumulated(chunk, text): "", "a", "ab", "ab"

    The output consists of pairs, not chunks: read them with `async for`, `subscribe` or RxPY's
    operators. A sink reads their chunks. `text` is the answer of the chunk's own source, without
    reasoning. After `End` the text of that source starts empty.

    All pairs of one answer share its pieces, so each token adds a constant cost. The text is joined
    on access, and the joined text is cached for the next access. Reading it for every token copies
    the whole text each time.

    - Completion, error: passed on.
    - Restart: the text of that stream is reset, including in the pair of the notice. Earlier pairs
      keep theirs.
    - Disposal: upstream is disposed.
    - Demand: passes through; no chunk is held. The text is kept until `End`, a restart or the end
      of the subscription, and after that as long as any pair exists.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> events = marbles.run(marbles.cold("S-Once-upon-E|").pipe(accumulate()))
    >>> [(event.length, event.text, event.tokens, event.elapsed) for _, event in events[:-1]]
    [(0, '', 0, 0.0), (4, 'Once', 1, 2.0), (8, 'Onceupon', 2, 7.0), (8, 'Onceupon', 2, 12.0)]
    """

    def operator(source: Observable[Chunk]) -> Stream[Accumulated]:
        def subscribe(
            observer: abc.ObserverBase[Accumulated], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return source.subscribe(
                _make_on_next(observer, clock_of(scheduler)),
                observer.on_error,
                observer.on_completed,
                scheduler=scheduler,
            )

        stream = Stream[Accumulated](subscribe, "accumulate", of_chunks=False)
        stream.carries_chunks = True
        return stream

    return operator


def _make_on_next(
    observer: abc.ObserverBase[Accumulated], clock: Callable[[], float]
) -> Callable[[Chunk], None]:
    answers: dict[str | None, _Answer] = {}
    expected = ExpectedTokens(None)
    begun = last = clock()
    number = 0

    def on_next(chunk: Chunk) -> None:
        nonlocal last, number
        source = chunk.source
        answer = answers.get(source)
        if answer is None:
            answer = answers[source] = _Answer(1)
        if type(chunk) is Token or type(chunk) is Reasoning or type(chunk) is Batch:
            _add(answer, chunk)
        elif type(chunk) is Start:
            expected.start(chunk, answer.tokens)
            answer.model, answer.max_tokens = chunk.model, expected.of(source)
        elif type(chunk) is Notice:
            expected.notice(chunk)
            if chunk.attempt or chunk.kind in _NEXT_ATTEMPT:
                answer = _next_attempts(answers, chunk)
        elif chunk.is_content:
            answer.has_begun = True
        elif type(chunk) is End:
            forget(answers, source)
        now = clock()
        number += 1
        item = Accumulated(chunk, answer, number, now - begun, now - last)
        last = now
        observer.on_next(item)

    return on_next


def _add(answer: _Answer, chunk: Token | Batch | Reasoning) -> None:
    answer.has_begun = True
    if type(chunk) is not Reasoning:
        answer.text.add(chunk.text)
    answer.tokens += tokens_of(chunk)


def _next_attempts(answers: dict[str | None, _Answer], notice: Notice) -> _Answer:
    """Begin the next attempt of the sources that a notice concerns; return that of its own."""
    for source in matching_sources(answers, notice.source):
        answer = answers[source]
        if notice.kind == "restart":  # of an attempt that a notice has begun, or of another one
            answers[source] = _Answer(answer.attempt + answer.has_begun)
        else:
            answers[source] = answer.next()
    return answers[notice.source]
