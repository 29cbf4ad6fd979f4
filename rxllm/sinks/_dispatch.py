"""Handlers by chunk class, with a shared context."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar, get_args, overload

from reactivex import Observable

from rxllm.chunks import Batch, Carried, Chunk
from rxllm.consumer import check_function, check_stream, consume

_Context = TypeVar("_Context")

_CHUNKS = get_args(Chunk)


@overload
def dispatch(
    stream: Observable[Carried], handlers: Mapping[Any, Callable[[Any, dict[str, Any]], object]]
) -> Coroutine[Any, Any, dict[str, Any]]: ...
@overload
def dispatch(
    stream: Observable[Carried],
    handlers: Mapping[Any, Callable[[Any, _Context], object]],
    context: _Context,
) -> Coroutine[Any, Any, _Context]: ...
def dispatch(
    stream: Observable[Carried],
    handlers: Mapping[Any, Callable[[Any, Any], object]],
    context: Any = None,
) -> Coroutine[Any, Any, Any]:
    """Call a handler for each chunk, chosen by its class, and return the shared context.

    - Subscribes when awaited. Chunks without a handler are skipped. A `Batch` goes to the handler
      of `Batch` if there is one, otherwise piece by piece to those of `Token` and `Reasoning`.
    - Completion: the context is returned. Error: raised by the `await`, with the text so far in
      `partial` if it is an `RxLLMError`; the context, which the caller holds, is kept.
    - A handler that raises stops the stream, and its exception is raised by the `await`; no retry
      upstream sees it. Handlers are plain functions, called on the event loop's thread.
    - Restart: passed on as a `Notice`; its handler must discard what was collected before it.
    - Cancelling the awaiting task disposes the stream at once and waits for its clean-up.
    - Demand: never holds the stream.

    Args:
        stream: the chunks.
        handlers: a function of (chunk, context) for each class, such as `{Token: f, End: g}`.
        context: any object that the handlers share; `None` means a new dictionary.

    Raises:
        TypeError: `stream` is not a stream, a key of `handlers` is not a chunk class, or a handler
            is not a plain function.

    >>> from rxllm import Token, run
    >>> from rxllm.models.scripted import ScriptedModel
    >>> story = ScriptedModel("Once upon a time", by="word").stream("Tell me a story")
    >>> run(dispatch(story, {Token: lambda token, words: words.append(token.text)}, []))
    ['Once', ' upon', ' a', ' time']
    """
    check_stream(stream, "dispatch")
    for kind, handler in handlers.items():
        if kind not in _CHUNKS:
            names = ", ".join(chunk.__name__ for chunk in _CHUNKS)
            raise TypeError(f"the keys of handlers must be chunk classes ({names}), got {kind!r}")
        check_function(handler, f"the handler of {kind.__name__}")
    return _dispatch(stream, dict(handlers), {} if context is None else context)


async def _dispatch(
    stream: Observable[Carried], handlers: dict[type, Callable[[Any, Any], object]], context: Any
) -> Any:
    def on_chunk(chunk: Chunk) -> None:
        handler = handlers.get(type(chunk))
        if handler is not None:
            handler(chunk, context)
        elif isinstance(chunk, Batch):
            for piece in chunk.chunks:
                on_chunk(piece)

    await consume(stream, on_chunk)
    return context
