"""`keep_partial`: the partial text of a failed stream."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc

from rxllm.chunks import Chunk
from rxllm.stream import Stream
from rxllm.transcript import Transcript

__all__ = ["keep_partial"]


def keep_partial() -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Attach the text that was passed on to the error of a failed stream.

    ::

        S-a-b-#
        [ keep_partial() ]
        S-a-b-#             error.partial == "ab"

    Sinks do the same; use this to handle the error upstream of a sink, for example with RxPY's
    `catch`. `complete_partial` and `Request.continuing(error.partial)` finish the answer. After a
    merge, `partial` is the text of each source in turn. An exception that isn't an `RxLLMError`
    gets the attribute too, unless it rejects it or has a `partial` that isn't a string.

    - Completion: passed on. Error: passed on, with `partial`.
    - Restart: passed on; the text before it isn't part of the partial text.
    - Disposal: upstream is disposed.
    - Demand: passes through; nothing is held back. The text passed on is kept.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> model = ScriptedModel(["Once", " upon", ConnectionResetError()])
    >>> _, error = Marbles().run(model.stream("A tale").pipe(keep_partial()))[-1]
    >>> error.partial
    'Once upon'
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            transcript = Transcript()
            add = transcript.add

            def on_next(chunk: Chunk) -> None:
                add(chunk)
                observer.on_next(chunk)

            def on_error(error: Exception) -> None:
                transcript.write_partial(error)
                observer.on_error(error)

            return source.subscribe(on_next, on_error, observer.on_completed, scheduler=scheduler)

        return Stream(subscribe, "keep_partial", of_chunks=True)

    return operator
