"""`drop_blank`: text chunks with empty text are dropped."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc

from rxllm.chunks import Batch, Chunk, Reasoning, Token
from rxllm.stream import Stream

__all__ = ["drop_blank"]


def drop_blank() -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""Drop text chunks whose text is empty.

    ::

        S-""-a-" "-b-E|
        [ drop_blank() ]
        S----a-" "-b-E|

    These are a `Token` or `Reasoning` with the text `""`, and a `Batch` that contains only these.
    White space is text: without it, words would run together. Chunks with text, and all other kinds
    of chunks, are passed on unchanged.

    - Completion, error: passed on.
    - Restart: passed on; the operator has no state.
    - Disposal: upstream is disposed; nothing is held.
    - Demand: passes through.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> source = marbles.cold("a-n-s-b|", lookup={"n": Token(""), "s": Token(" ")})
    >>> [(time, getattr(event, "text", event)) for time, event in
    ...  marbles.run(source.pipe(drop_blank()))]
    [(0.0, 'a'), (4.0, ' '), (6.0, 'b'), (7.0, |)]
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(chunk: Chunk) -> None:
                if type(chunk) is Token or type(chunk) is Reasoning:
                    if chunk.text or chunk.state is not None:
                        observer.on_next(chunk)
                elif type(chunk) is not Batch or any(part.text for part in chunk.chunks):
                    observer.on_next(chunk)

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Stream(subscribe, "drop_blank", of_chunks=True)

    return operator
