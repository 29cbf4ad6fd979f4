"""`map_async`: an async function of each chunk, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.transforming._async_function import awaited, check_asynchronous
from rxllm.operators.transforming._in_order import in_order
from rxllm.operators.transforming._per_chunk import of_source
from rxllm.stream import Stream

__all__ = ["map_async"]


def map_async(
    function: Callable[[Chunk], Awaitable[Chunk]], concurrency: int = 1
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Replace each chunk of content by what an async function makes of it, in order.

    ::

        S-a-b-c-E-----|
        [ map_async(function, concurrency=2) ]
        S----A-B-(C,E)|           function takes 3 s: b is begun while a is under way

    The function is given what the model says: `Token`, `Reasoning`, `ToolCall`, `Json` and `Batch`
    (as one chunk). All other chunks pass as they came, in their order, and so wait for the calls
    before them. A chunk that is returned without a `source` gets that of the chunk it replaces.
    Each call is a task of its own. Nothing is promised about where the text is cut into chunks:
    put `words()` before it.

    - Completion, error: pass once all calls before them are done, and what they gave has left.
    - An exception of the function is the error of the stream, once what comes before it has left;
      upstream is disposed, and the other calls are cancelled.
    - Restart: the calls for content of that stream are cancelled, what they gave is dropped; the
      notice is passed on behind what is under way of other streams.
    - Disposal: the calls are cancelled. The sink waits for their clean-up as for that of a source.
    - Demand: at most `concurrency` chunks are here, running or done and waiting for those before
      them, or for the valve of the subscriber; upstream is held while they are. What a source
      without demand pushes all the same waits, without a bound, and is not begun.

    Args:
        function: awaited for each chunk of content; returns a chunk. To leave some out, use
            `filter_async`.
        concurrency: chunks under way at once, 1 or more.

    Raises:
        TypeError: `function` can't be called, or `concurrency` is not an integer; or, into
            `on_error`, it is no async function, or has returned something else than a chunk
            (None, say).
        ValueError: `concurrency` is below 1.
        NoEventLoopError: into `on_error`: no event loop runs.

    >>> import asyncio
    >>> from rxllm.bridge import run
    >>> from rxllm.iteration import to_async
    >>> from rxllm.chunks import Token
    >>> from rxllm.models.scripted import ScriptedModel
    >>> async def shout(chunk):
    ...     await asyncio.sleep(0.001)
    ...     return Token(chunk.text.upper())
    >>> async def main():
    ...     stream = ScriptedModel("oh no", by="word").stream("Hi").pipe(map_async(shout))
    ...     return [chunk.text async for chunk in to_async(stream) if isinstance(chunk, Token)]
    >>> run(main())
    ['OH', ' NO']
    """
    check_asynchronous("map_async", function, concurrency)

    async def call(chunk: Chunk) -> Chunk:
        changed = await awaited("map_async", function(chunk))
        if not isinstance(changed, Chunk):
            raise TypeError(
                f"the function of map_async returns a chunk, not {type(changed).__name__}: "
                "to leave a chunk out, use filter_async"
            )
        return of_source(changed, chunk.source)

    return in_order("map_async", call, concurrency)
