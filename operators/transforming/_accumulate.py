"""`accumulate`: each chunk with the text so far."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc

from rxllm.chunks import Batch, Chunk, End, Token, is_restart
from rxllm.restart import forget
from rxllm.stream import Stream
from rxllm.transcript import RunningText

__all__ = ["Accumulated", "accumulate"]


class Accumulated:
    """A chunk, with the answer up to and including it.

    Attributes:
        chunk: the chunk.
        length: the length of `text` in characters, known without joining it.
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
        """The answer of that stream, up to and including this chunk.

        It is joined on access, at a cost that grows with the text: read it occasionally, or at the
        end, but not for each token. Later chunks don't change it.
        """
        return self._answer.up_to(self.length)

    def __repr__(self) -> str:
        return f"Accumulated(chunk={self.chunk!r}, text={self.text!r})"


def accumulate() -> Callable[[Observable[Chunk]], Stream[Accumulated]]:
    """Pair each chunk with the text so far.

    ::

        S-a-b-E|
        [ accumulate() ]
        S-a-b-E|                  each one as Accumulated(chunk, text): "", "a", "ab", "ab"

    The output consists of pairs, not chunks: read them with `subscribe`, `to_async` or RxPY's
    operators. `text` is the answer of the chunk's own source, without reasoning. After `End` the
    text of that source starts empty.

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
