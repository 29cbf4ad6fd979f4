"""`accumulate`: the text so far, beside each chunk."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc

from rxllm.chunks import Batch, Chunk, End, Token, is_restart
from rxllm.restart import forget
from rxllm.stream import Stream
from rxllm.transcript import RunningText

__all__ = ["Accumulated", "accumulate"]


class Accumulated:
    """A chunk, and the answer up to and with it.

    Attributes:
        chunk: the chunk.
        length: the characters of `text`, known without joining it.
    """

    __slots__ = ("_answer", "chunk", "length")

    def __init__(self, chunk: Chunk, answer: RunningText) -> None:
        self.chunk: Chunk = chunk
        self.length: int = answer.length
        self._answer = answer

    @property
    def source(self) -> str | None:
        """The stream that the chunk came from, after a merge."""
        return self.chunk.source

    @property
    def text(self) -> str:
        """The answer of that stream, up to and with this chunk.

        Joined when asked for, at a cost that grows with the text: ask now and then, or at the end,
        not at each token. It stays what it is, whatever comes later.
        """
        return self._answer.up_to(self.length)

    def __repr__(self) -> str:
        return f"Accumulated(chunk={self.chunk!r}, text={self.text!r})"


def accumulate() -> Callable[[Observable[Chunk]], Stream[Accumulated]]:
    """Put the text so far beside each chunk.

    ::

        S-a-b-E|
        [ accumulate() ]
        S-a-b-E|                  each one as Accumulated(chunk, text): "", "a", "ab", "ab"

    What comes out are no chunks but pairs: read them with `subscribe`, `to_async` or RxPY's
    operators. `text` is the answer of the chunk's own source; reasoning is no part of it. After
    `End` the source begins with no text.

    All pairs of one answer share its pieces, so a token adds a cost that does not grow. The text
    is joined where it is asked for, and kept joined for those who ask next. To ask for it at each
    token costs a copy of the whole text each time, here as anywhere.

    - Completion, error: passed on.
    - Restart: the text of that stream is empty again, beside the notice too. Pairs from before
      keep theirs.
    - Disposal: upstream is disposed.
    - Demand: passes through; no chunk is held. The text is kept until `End`, a restart or the end
      of the subscription, and then as long as somebody keeps a pair.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> events = marbles.run(marbles.cold("S-Once-upon-E|").pipe(accumulate()))
    >>> [(event.length, event.text) for _, event in events[:-1]]
    [(0, ''), (4, 'Once'), (8, 'Onceupon'), (8, 'Onceupon')]
    """

    def operator(source: Observable[Chunk]) -> Stream[Accumulated]:
        def subscribe(
            observer: abc.ObserverBase[Accumulated], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            answers = dict[str | None, RunningText]()

            def on_next(chunk: Chunk) -> None:
                if is_restart(chunk):
                    forget(answers, chunk.source)
                answer = answers.get(chunk.source)
                if answer is None:
                    answer = answers[chunk.source] = RunningText()
                if type(chunk) is Token or type(chunk) is Batch:
                    answer.add(chunk.text)
                elif type(chunk) is End:
                    forget(answers, chunk.source)
                observer.on_next(Accumulated(chunk, answer))

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Stream(subscribe, "accumulate", of_chunks=False)

    return operator
