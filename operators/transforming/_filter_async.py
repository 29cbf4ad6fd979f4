"""`filter_async`: filter chunks with an async predicate, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.transforming._async_function import awaited, check_asynchronous
from rxllm.operators.transforming._in_order import in_order
from rxllm.stream import Stream

__all__ = ["filter_async"]


def filter_async(
    predicate: Callable[[Chunk], Awaitable[bool]], concurrency: int = 1
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Drop each content chunk that an async predicate rejects, keeping the order.

    ::

        S-a-b-c-E-----|
        [ filter_async(predicate, concurrency=2) ]
        S----a---(c,E)|           predicate takes 3 s, and rejects b

    The predicate receives the model's output: `Token`, `Reasoning`, `ToolCall`, `Json` and `Batch`
    (as one chunk). All other chunks pass unchanged, in order, and so wait for the calls before
    them. Each call is a separate task. Where the text is cut into chunks is unspecified: put
    `words()` before this operator if that matters.

    - Completion, error: passed on once all earlier calls are done and their chunks have been sent.
    - An exception from the predicate becomes the error of the stream once the chunks before it have
      been sent; upstream is disposed, and the other calls are cancelled.
    - Restart: the calls for that stream are cancelled and its held content is dropped; the notice
      is passed on behind the pending chunks of other streams.
    - Disposal: the calls are cancelled. The sink waits for their clean-up, as for a source's.
    - Demand: at most `concurrency` chunks are in progress, either running, or done and waiting for
      earlier ones or for the subscriber's valve; at that number upstream is paused. Chunks that a
      source without demand pushes anyway are queued without a bound, and not started.

    Args:
        predicate: awaited for each content chunk; a true value passes the chunk on.
        concurrency: number of chunks in flight at once, 1 or more.

    Raises:
        TypeError: `predicate` can't be called, or `concurrency` is not an integer; into
            `on_error`, if `predicate` isn't an async function.
        ValueError: `concurrency` is below 1.
        NoEventLoopError: into `on_error`, if no event loop is running.

    >>> from rxllm.bridge import run
    >>> from rxllm.iteration import to_async
    >>> from rxllm.chunks import text_of
    >>> from rxllm.models.scripted import ScriptedModel
    >>> async def is_kind(chunk):
    ...     return chunk.text.strip() != "stupid"
    >>> async def main():
    ...     stream = ScriptedModel("my stupid cat", by="word").stream("Hi")
    ...     kind = stream.pipe(filter_async(is_kind))
    ...     return "".join([text_of(chunk) async for chunk in to_async(kind)])
    >>> run(main())
    'my cat'
    """
    check_asynchronous("filter_async", predicate, concurrency)

    async def call(chunk: Chunk) -> Chunk | None:
        return chunk if await awaited("filter_async", predicate(chunk)) else None

    return in_order("filter_async", call, concurrency)
