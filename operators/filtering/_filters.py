"""`filters`: functions that change or drop each chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.arguments import check_callable
from rxllm.chunks import Batch, Chunk, is_chunk
from rxllm.stream import Stream

__all__ = ["filters"]

Filter: TypeAlias = Callable[[Any], Chunk | None]


def filters(*functions: Filter) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Pass each chunk through functions, in order; the first that returns `None` drops it.

    ::

        S-a-b-c-E|
        [ filters(capital, no_b) ]
        S-A---C-E|

    A function receives a chunk and returns the same chunk, a replacement, or `None`; after `None`
    the remaining functions aren't called. A new chunk without a source gets the source of the chunk
    it replaces. `Start`, `Notice` and `End` bypass the functions, since the structure of the stream
    depends on them: so `lambda chunk: chunk if type(chunk) is Token else None` doesn't break a
    stream. The others need a look at their class before their text: `Usage`, for one, has none. A
    `Batch` is passed as one chunk: after `batch()`, that filter would drop all text.

    The functions see the chunks as they are cut: `"bad"` may arrive as `"b"` and `"ad"`. If that
    matters, put `words()` before this operator, or use `redact`.

    - Completion, error: passed on. An exception from a function becomes the error of the stream.
    - Restart: passed on; the operator has no state.
    - Disposal: upstream is disposed; nothing is held.
    - Demand: passes through.

    Args:
        functions: called in order with each chunk; without any, all chunks pass.

    Raises:
        TypeError: a function can't be called, or is asynchronous (use `filter_async`); into
            `on_error`, if one returns anything other than a chunk or `None`, or returns a `Start`,
            `Notice` or `End`.

    >>> from rxllm.chunks import Token, Usage
    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> def no_b(chunk):
    ...     return None if isinstance(chunk, Token) and chunk.text == "b" else chunk
    >>> def capital(chunk):
    ...     return Token(chunk.text.upper()) if isinstance(chunk, Token) else chunk
    >>> source = marbles.cold("S-a-b-c-(u,E)|", lookup={"u": Usage(1, 3)})
    >>> events = marbles.run(source.pipe(filters(no_b, capital)))
    >>> [(time, getattr(event, "text", "")) for time, event in events]
    [(0.0, ''), (2.0, 'A'), (6.0, 'C'), (8.0, ''), (8.0, ''), (13.0, '')]
    """
    for each in functions:
        check_callable("a filter", each, "a function of a chunk", instead="use filter_async")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            upstream = SingleAssignmentDisposable()

            def on_next(chunk: Chunk) -> None:
                if upstream.is_disposed:
                    return  # a synchronous source may still push
                if not chunk.is_structure:
                    try:
                        left = _through(functions, chunk)
                    except Exception as error:
                        upstream.dispose()
                        observer.on_error(error)
                        return
                    if left is None:
                        return
                    chunk = left
                observer.on_next(chunk)

            upstream.disposable = source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )
            return upstream

        return Stream(subscribe, "filters", of_chunks=True)

    return operator


def _through(functions: tuple[Filter, ...], chunk: Chunk) -> Chunk | None:
    for change in functions:
        result = change(chunk)
        if result is None:
            return None
        if result is not chunk:
            if not is_chunk(result) or result.is_structure:
                raise TypeError(
                    f"the filter {change!r} must return a chunk other than Start, Notice and "
                    f"End, or None to drop the chunk, got {result!r}"
                )
            if result.source is None and chunk.source is not None:
                result = _of_source(result, chunk.source)
            chunk = result
    return chunk


def _of_source(chunk: Chunk, source: str) -> Chunk:
    if type(chunk) is Batch:
        parts = tuple(msgspec.structs.replace(part, source=source) for part in chunk.chunks)
        return msgspec.structs.replace(chunk, chunks=parts, source=source)
    return msgspec.structs.replace(chunk, source=source)
