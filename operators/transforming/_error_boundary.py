"""`error_boundary`: a failing handler is not a failing stream."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.transforming._per_chunk import of_source, per_chunk
from rxllm.stream import Stream

__all__ = ["error_boundary"]

_logger = logging.getLogger("rxllm.error_boundary")


def error_boundary(
    handler: Callable[[Chunk], Chunk | None],
    on_error: Callable[[Exception, Chunk], Chunk | None] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Call a handler with each chunk, and let the stream go on where it fails.

    ::

        S-a-b-c-E|
        [ error_boundary(handler) ]       handler: "a" -> "A", raises at "b", "c" -> None
        S-A-b-c-E|

    The handler sees every chunk, `Start`, `End` and notices too. What it returns goes on in place
    of the chunk; None lets the chunk go on as it came, so that a handler may as well be there for
    what it does, such as writing the chunk to a database. No chunk is ever dropped: that is what
    `filters` is for. A chunk that is returned without a `source` gets that of the chunk it
    replaces.

    If the handler raises, `on_error` is asked in the same way: it returns a chunk to go on in its
    place, or None for the chunk as it came. What `on_error` raises is the error of the stream, and
    upstream is disposed: so `raise error` lets some errors through. Without `on_error` the first
    failure of a subscription is logged as a warning with its traceback (logger
    `rxllm.error_boundary` of the standard library), the later ones at the level of debugging.

    Only the handler is guarded. An error of upstream is passed on, and what a subscriber raises is
    its own affair. Nothing is promised about where the text is cut into chunks: put `words()`
    before a handler that has to see whole words.

    - Completion, error: passed on.
    - Restart: the handler sees it as it does every chunk.
    - Disposal: upstream is disposed; nothing is held.
    - Demand: passes through; nothing is held.

    Args:
        handler: given a chunk, returns one, or None. Returning something else is a failure too.
        on_error: given the exception and the chunk, returns a chunk, or None.

    Raises:
        TypeError: `handler` or `on_error` can't be called, or is a coroutine function; or, into
            `on_error`, the function `on_error` has returned something else than a chunk or None.

    >>> from rxllm.chunks import Token
    >>> from rxllm.testing import Marbles
    >>> def divide(chunk):
    ...     return Token(str(12 // int(chunk.text)))
    >>> marbles = Marbles()
    >>> source = marbles.cold("3-0-4|")
    >>> stream = source.pipe(error_boundary(divide, lambda error, chunk: Token("?")))
    >>> [getattr(event, "text", event) for _, event in marbles.run(stream)]
    ['4', '?', '3', |]
    """
    for name, function in (("handler", handler), ("on_error", on_error)):
        if function is None and name == "on_error":
            continue
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"{name} of error_boundary is a plain function, not {function!r}")

    def change_of() -> Callable[[Chunk], Chunk]:
        failed = on_error if on_error is not None else _Log()

        def change(chunk: Chunk) -> Chunk:
            try:
                return _instead(handler(chunk), chunk, "handler")
            except Exception as error:
                return _instead(failed(error, chunk), chunk, "on_error")

        return change

    return per_chunk("error_boundary", change_of)


def _instead(changed: Chunk | None, chunk: Chunk, name: str) -> Chunk:
    """What goes on in place of `chunk`."""
    if changed is None or changed is chunk:
        return chunk
    if not isinstance(changed, Chunk):
        raise TypeError(
            f"{name} of error_boundary returns a chunk or None, not {type(changed).__name__}"
        )
    return of_source(changed, chunk.source)


class _Log:
    """Logs the failures of one subscription."""

    def __init__(self) -> None:
        self._level = logging.WARNING

    def __call__(self, error: Exception, chunk: Chunk) -> None:
        kind = type(chunk).__name__
        _logger.log(self._level, "a handler failed at a %s, which goes on", kind, exc_info=error)
        self._level = logging.DEBUG
