"""`map_text`: apply a function to each piece of text."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from reactivex import Observable

from rxllm.chunks import Batch, Chunk, Reasoning, Token
from rxllm.operators.transforming._per_chunk import per_chunk
from rxllm.stream import Stream

__all__ = ["map_text"]


def map_text(
    function: Callable[[str], str],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Replace the text of each chunk with the result of a function.

    ::

        S-a-b-E|
        [ map_text(str.upper) ]
        S-A-B-E|

    The function receives one piece of text at a time, as the model or earlier operators cut it.
    Where the cuts are is unspecified, so the result is too for a function that looks at more than
    one character. Put `words()`, `sentences()` or `lines()` before it to pass it whole ones.

    A token keeps its confidence, number and source. Each token in a `Batch` is changed, and the
    text of the batch is joined again. Empty text, reasoning and all other chunks pass unchanged.

    - Completion, error: passed on.
    - Restart: passed on; the operator has no state.
    - Disposal: upstream is disposed; nothing is held.
    - Demand: passes through; nothing is held.

    Args:
        function: receives a string and returns a string, which may be empty. An exception becomes
            the error of the stream, and upstream is disposed.

    Raises:
        TypeError: `function` can't be called, or is a coroutine function; into `on_error`, if it
            returned anything other than a string.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> for time, event in marbles.run(marbles.cold("S-a-b|").pipe(map_text(str.upper))):
    ...     print(time, getattr(event, "text", event))
    0.0 Start(request_id='request-1', model='model', provider=None, created=None, ...)
    2.0 A
    4.0 B
    5.0 |
    """
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise TypeError(
            f"map_text takes a plain function of a string, got {function!r}: "
            "for a coroutine function, use map_async"
        )

    def change(chunk: Chunk) -> Chunk:
        if type(chunk) is Token:
            return _changed(chunk, function)
        if type(chunk) is Batch:
            return _changed_batch(chunk, function)
        return chunk

    return per_chunk("map_text", lambda: change)


def _changed(token: Token, function: Callable[[str], str]) -> Token:
    if not token.text:
        return token
    text = function(token.text)
    if not isinstance(text, str):
        raise TypeError(
            f"the function of map_text must return a string, got {type(text).__name__}: "
            "to drop a chunk, use filters"
        )
    return Token(
        text, token.confidence, token.number, token.state, tokens=token.tokens, source=token.source
    )


def _changed_batch(batch: Batch, function: Callable[[str], str]) -> Batch:
    parts: list[Token | Reasoning] = [
        _changed(part, function) if type(part) is Token else part for part in batch.chunks
    ]
    text = "".join([part.text for part in parts if type(part) is Token])
    return Batch(tuple(parts), text, source=batch.source)
