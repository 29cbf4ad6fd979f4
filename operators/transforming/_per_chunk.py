"""Base for operators that change each chunk by itself and hold nothing."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.chunks import Batch, Chunk
from rxllm.stream import Stream

__all__ = ["of_source", "per_chunk"]

_replace = msgspec.structs.replace


def per_chunk(
    name: str,
    change_of: Callable[[], Callable[[Chunk], Chunk | None]],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Create an operator that replaces each chunk with the result of a function, or drops it.

    An exception from the function becomes the error of the stream, and upstream is disposed.
    Exceptions from the observer aren't caught. Demand and the scheduler pass through.

    Args:
        name: of the operator.
        change_of: creates the function for one subscription.
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            change = change_of()
            upstream = SingleAssignmentDisposable()

            def on_next(chunk: Chunk) -> None:
                if upstream.is_disposed:
                    return  # a synchronous source may still push
                try:
                    changed = change(chunk)
                except Exception as error:
                    upstream.dispose()
                    observer.on_error(error)
                    return
                if changed is not None:
                    observer.on_next(changed)

            upstream.disposable = source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )
            return upstream

        return Stream(subscribe, name, of_chunks=True)

    return operator


def of_source(chunk: Chunk, source: str | None) -> Chunk:
    """`chunk`, from a user's function, with `source` unless it already names one."""
    if source is None or chunk.source is not None:
        return chunk
    if type(chunk) is Batch:
        parts = tuple(_replace(part, source=source) for part in chunk.chunks)
        return _replace(chunk, chunks=parts, source=source)
    return _replace(chunk, source=source)
