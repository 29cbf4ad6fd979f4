"""`filter_async`: chunks that an async predicate lets pass, in order."""

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
    """Drop each chunk of content that an async predicate says no to, in order.

    ::

        S-a-b-c-E-----|
        [ filter_async(predicate, concurrency=2) ]
        S----a---(c,E)|           predicate takes 3 s, and says no to b

    The predicate is given what the model says: `Token`, `Reasoning`, `ToolCall`, `Json` and
    `Batch` (as one chunk). All other chunks pass as they came, in their order, and so wait for the
    calls before them. Each call is a task of its own. Nothing is promised about where the text is
    cut into chunks: put `words()` before it.

    - Completion, error: pass once all calls before them are done, and what they let pass has left.
    - An exception of the predicate is the error of the stream, once what comes before it has left;
      upstream is disposed, and the other calls are cancelled.
    - Restart: the calls for content of that stream are cancelled, its content here is dropped; the
      notice is passed on behind what is under way of other streams.
    - Disposal: the calls are cancelled. The sink waits for their clean-up as for that of a source.
    - Demand: at most `concurrency` chunks are here, running or done and waiting for those before
      them, or for the valve of the subscriber; upstream is held while they are. What a source
      without demand pushes all the same waits, without a bound, and is not begun.

    Args:
        predicate: awaited for each chunk of content; a true value lets it pass.
        concurrency: chunks under way at once, 1 or more.

    Raises:
        TypeError: `predicate` can't be called, or `concurrency` is not an integer; or, into
            `on_error`, it is no async function.
        ValueError: `concurrency` is below 1.
        NoEventLoopError: into `on_error`: no event loop runs.

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
