"""`error_boundary`: a failing handler doesn't fail the stream."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Literal

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.transforming._per_chunk import of_source, per_chunk
from rxllm.stream import Stream

__all__ = ["error_boundary"]

_logger = logging.getLogger("rxllm.error_boundary")


def error_boundary(
    handler: Callable[[Chunk], Chunk | None],
    on_error: Callable[[Exception, Chunk], Chunk | None] | None = None,
    *,
    on_failure: Literal["drop", "pass"] = "drop",
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Call a handler with each chunk, and continue the stream if it fails.

    ::

        S-a-b-c-E|
        [ error_boundary(handler) ]       handler: "a" -> "A", raises at "b", "c" -> None
        S-A---c-E|

    The handler receives every chunk, including `Start`, `End` and notices. The chunk it returns
    replaces the original; `None` passes the original on unchanged, so a handler can also be called
    just for its side effect, such as writing the chunk to a database. A returned chunk without a
    `source` gets that of the chunk it replaces.

    If the handler raises, the chunk is dropped if it is content (a token, a tool call, ...); what
    gives the stream its order and figures is passed on unchanged. `on_error` may return a
    replacement for either, or `None`. An exception from `on_error` becomes the error of the
    stream, and upstream is disposed: so `raise error` lets selected errors through. Without
    `on_error`, the first failure of a subscription is logged as a warning with its traceback (to
    the standard library logger `rxllm.error_boundary`), and later ones at debug level.

    Only the handler is guarded. Errors from upstream are passed on, and exceptions from the
    subscriber are not caught. Where the text is cut into chunks is unspecified: put `words()`
    before a handler that needs whole words.

    - Completion, error: passed on.
    - Restart: passed to the handler like any other chunk.
    - Disposal: upstream is disposed; nothing is held.
    - Demand: passes through; nothing is held.

    Args:
        handler: receives a chunk, and returns a chunk or `None`. Any other result is a failure.
        on_error: receives the exception and the chunk, and returns a chunk or `None`.
        on_failure: `"drop"` to leave out content whose handler fails, as a filter of forbidden
            words needs it; `"pass"` to pass it on unchanged.

    Raises:
        TypeError: `handler` or `on_error` can't be called, or is a coroutine function; into
            `on_error`, if the function `on_error` returned anything other than a chunk or `None`.
        ValueError: `on_failure` is unknown.

    >>> from rxllm.chunks import Token
    >>> from rxllm.testing import Marbles
    >>> def divide(chunk):
    ...     return Token(str(12 // int(chunk.text)))
    >>> marbles = Marbles()
    >>> source = marbles.cold("3-0-4|")
    >>> stream = source.pipe(error_boundary(divide, lambda error, chunk: Token("?")))
    >>> [getattr(event, "text", event) for _, event in marbles.run(stream)]
    ['4', '?', '3', |]
    >>> stream = source.pipe(error_boundary(divide, lambda error, _: print(error)))
    >>> [getattr(event, "text", event) for _, event in marbles.run(stream)]
    integer division or modulo by zero
    ['4', '3', |]
    """
    for name, function in (("handler", handler), ("on_error", on_error)):
        if function is None and name == "on_error":
            continue
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"{name} of error_boundary must be a plain function, got {function!r}")

    if on_failure not in ("drop", "pass"):
        raise ValueError(f"on_failure must be 'drop' or 'pass', got {on_failure!r}")

    def change_of() -> Callable[[Chunk], Chunk | None]:
        failed = on_error if on_error is not None else _Log(on_failure == "drop")

        def change(chunk: Chunk) -> Chunk | None:
            try:
                return _replacement(handler(chunk), chunk, "handler")
            except Exception as error:
                replacement = failed(error, chunk)
                if replacement is None and on_failure == "drop" and chunk.is_content:
                    return None
                return _replacement(replacement, chunk, "on_error")

        return change

    return per_chunk("error_boundary", change_of)


def _replacement(changed: Chunk | None, chunk: Chunk, name: str) -> Chunk:
    """The chunk to pass on instead of `chunk`."""
    if changed is None or changed is chunk:
        return chunk
    if not isinstance(changed, Chunk):
        raise TypeError(
            f"{name} of error_boundary must return a chunk or None, got {type(changed).__name__}"
        )
    return of_source(changed, chunk.source)


class _Log:
    """Logs the failures of one subscription."""

    def __init__(self, drops: bool) -> None:
        self._level = logging.WARNING
        self._drops = drops

    def __call__(self, error: Exception, chunk: Chunk) -> None:
        kind = type(chunk).__name__
        fate = "dropped" if self._drops and chunk.is_content else "passed on unchanged"
        _logger.log(
            self._level, "the handler failed for a %s, which is %s", kind, fate, exc_info=error
        )
        self._level = logging.DEBUG
