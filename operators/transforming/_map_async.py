"""`map_async`: apply an async function to each chunk, in order; `None` drops it."""

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
    function: Callable[[Chunk], Awaitable[Chunk | None]], concurrency: int = 1
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Replace each content chunk with the result of an async function, keeping the order.

    A chunk for which the function returns `None` is dropped.

    ::

        S-a-b-c-E-----|
        [ map_async(function, concurrency=2) ]
        S----A-B-(C,E)|           function takes 3 s: b starts while a is running

    The function receives the model's output: `Token`, `Reasoning`, `ToolCall`, `Json` and `Batch`
    (as one chunk). All other chunks pass unchanged, in order, and so wait for the calls before
    them. A returned chunk without a `source` gets that of the chunk it replaces. Each call is a
    separate task. Where the text is cut into chunks is unspecified: put `words()` before this
    operator if that matters.

    - Completion, error: passed on once all earlier calls are done and their results have been sent.
    - An exception from the function becomes the error of the stream once the chunks before it have
      been sent; upstream is disposed, and the other calls are cancelled.
    - Restart: the calls for that stream are cancelled and their results are dropped; the notice is
      passed on behind the pending chunks of other streams.
    - Disposal: the calls are cancelled. The sink waits for their clean-up, as for a source's.
    - Demand: at most `concurrency` chunks are in progress, either running, or done and waiting for
      earlier ones or for the subscriber's valve; at that number upstream is paused. Chunks that a
      source without demand pushes anyway are queued without a bound, and not started.

    Args:
        function: awaited for each content chunk; returns a chunk, or `None` to drop it.
        concurrency: number of chunks in flight at once, 1 or more.

    Raises:
        TypeError: `function` can't be called, or `concurrency` is not an integer; into `on_error`,
            if `function` isn't an async function, or returned anything other than a chunk or
            `None`.
        ValueError: `concurrency` is below 1.
        NoEventLoopError: into `on_error`, if no event loop is running.

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

    async def call(chunk: Chunk) -> Chunk | None:
        changed = await awaited("map_async", function(chunk))
        if changed is None:
            return None
        if not isinstance(changed, Chunk):
            raise TypeError(
                "the function of map_async must return a chunk, or None to drop it, "
                f"got {type(changed).__name__}"
            )
        return of_source(changed, chunk.source)

    return in_order("map_async", call, concurrency)
