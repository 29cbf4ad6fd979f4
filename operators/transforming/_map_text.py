"""`map_text`: a function of each piece of text."""

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
    """Replace the text of each chunk by what a function makes of it.

    ::

        S-a-b-E|
        [ map_text(str.upper) ]
        S-A-B-E|

    The function is given one piece of text at a time, as the model or the operators before this
    one have cut it: nothing is promised about where the cuts are, and so nothing about what comes
    of a function that looks at more than a character. Put `words()`, `sentences()` or `lines()`
    before it to give it these.

    A token keeps its confidence, number and source. Each token in a `Batch` is changed, and the
    text of the batch joined anew. Empty text, reasoning and all other chunks pass as they came.

    - Completion, error: passed on.
    - Restart: passed on; nothing is kept of the text before it.
    - Disposal: upstream is disposed; nothing is held.
    - Demand: passes through; nothing is held.

    Args:
        function: given a text, returns a text, which may be empty. What it raises is the error of
            the stream, and upstream is disposed.

    Raises:
        TypeError: `function` can't be called, or is a coroutine function; or, into `on_error`, it
            has returned something else than a text.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> for time, event in marbles.run(marbles.cold("S-a-b|").pipe(map_text(str.upper))):
    ...     print(time, getattr(event, "text", event))
    0.0 Start(request_id='request-1', model='model', provider=None, created=None, source=None)
    2.0 A
    4.0 B
    5.0 |
    """
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise TypeError(
            "map_text takes a plain function of a text: map_async takes a coroutine function"
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
            f"the function of map_text returns a text, not {type(text).__name__}: "
            "to leave a chunk out, use filters"
        )
    return Token(text, token.confidence, token.number, source=token.source)


def _changed_batch(batch: Batch, function: Callable[[str], str]) -> Batch:
    parts: list[Token | Reasoning] = [
        _changed(part, function) if type(part) is Token else part for part in batch.chunks
    ]
    text = "".join([part.text for part in parts if type(part) is Token])
    return Batch(tuple(parts), text, source=batch.source)
