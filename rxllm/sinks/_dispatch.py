"""Handlers by chunk class, with a shared context."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias, TypeVar, get_args, overload

from reactivex import Observable
from reactivex import operators as rxo

from rxllm.arguments import refuse_coroutine
from rxllm.chunks import Batch, Carried, Chunk, carried
from rxllm.consumer import Consumer, check_stream
from rxllm.iteration import to_async
from rxllm.transcript import Transcript

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
    - Completion: the context is returned.
    - Error: passed to the handler of its class, or of the nearest base class, and the context is
      returned. Without such a handler, the `await` raises it, and the context, which the caller
      holds, is kept. The text so far is in `partial` if it is an `RxLLMError`.
    - A handler that raises stops the stream, and its exception is raised by the `await`; neither a
      retry upstream nor a handler of errors sees it. Handlers are called on the event loop's
      thread.
    - Restart: passed on as a `Notice`; its handler must discard what was collected before it.
    - Cancelling the awaiting task disposes the stream at once and waits for its clean-up.
    - Demand: an async handler holds the stream until it is done. With plain functions alone, the
      stream is never held.

    Args:
        stream: the chunks.
        handlers: a function of (chunk, context) for each class of chunks, such as
            `{Token: f, End: g}`, and one of (error, context) for each class of exceptions. They may
            be async functions.
        context: any object that the handlers share; `None` means a new dictionary.

    Raises:
        TypeError: `stream` is not a stream, a key of `handlers` is neither a chunk class nor an
            exception class, or a handler can't be called. Also if a plain function among plain
            functions returns a coroutine, which nothing would await.

    >>> from rxllm import Token, run
    >>> from rxllm.models.scripted import ScriptedModel
    >>> story = ScriptedModel("Once upon a time", by="word").stream("Tell me a story")
    >>> run(dispatch(story, {Token: lambda token, words: words.append(token.text)}, []))
    ['Once', ' upon', ' a', ' time']
    """
    check_stream(stream, "dispatch")
    for kind, handler in handlers.items():
        is_error = isinstance(kind, type) and issubclass(kind, Exception)
        if kind not in _CHUNKS and not is_error:
            names = ", ".join(chunk.__name__ for chunk in _CHUNKS)
            raise TypeError(
                f"the keys of handlers must be chunk classes ({names}) or exception classes, "
                f"got {kind!r}"
            )
        if not callable(handler):
            raise TypeError(
                f"the handler of {kind.__name__} must be a function, got {type(handler).__name__}"
            )
    return _dispatch(stream, dict(handlers), {} if context is None else context)


_Handlers: TypeAlias = Mapping[type, Callable[[Any, Any], object]]


async def _dispatch(stream: Observable[Carried], handlers: _Handlers, context: Any) -> Any:
    calls = [getattr(handler, "__call__", None) for handler in handlers.values()]  # noqa: B004
    is_async = any(map(inspect.iscoroutinefunction, (*handlers.values(), *calls)))
    read = _call_in_turn if is_async else _call_at_once
    error = await read(stream, handlers, context)
    if error is None:
        return context
    handler = next((handlers[kind] for kind in type(error).__mro__ if kind in handlers), None)
    if handler is None:
        raise error
    await _call(handler, error, context)
    return context


async def _call_at_once(
    stream: Observable[Carried], handlers: _Handlers, context: Any
) -> Exception | None:
    """Call plain functions as the chunks arrive. Returns the error of the stream."""

    def on_chunk(chunk: Chunk) -> None:
        handler = handlers.get(type(chunk))
        if handler is not None:
            refuse_coroutine(handler(chunk, context), handler)
        elif isinstance(chunk, Batch):
            for piece in chunk.chunks:
                on_chunk(piece)

    consumer = Consumer(stream, on_chunk)
    try:
        await consumer.run()
    except Exception as error:
        if error is not consumer.error:
            raise  # it is a handler's
        return error
    return None


async def _call_in_turn(
    stream: Observable[Carried], handlers: _Handlers, context: Any
) -> Exception | None:
    """Await one handler after the other. Returns the error of the stream."""

    async def take(chunk: Chunk) -> None:
        handler = handlers.get(type(chunk))
        if handler is not None:
            await _call(handler, chunk, context)
        elif isinstance(chunk, Batch):
            for piece in chunk.chunks:
                await take(piece)

    transcript = Transcript()
    failures: list[Exception] = []
    watched = stream.pipe(rxo.do_action(on_error=failures.append))
    async with aclosing(to_async(watched, capacity=1)) as items:
        while True:
            try:
                chunk = carried(await anext(items))
            except StopAsyncIteration:
                return None
            except Exception as error:
                if error not in failures:
                    raise  # it is an operator's
                transcript.write_partial(error)
                return error
            transcript.add(chunk)
            await take(chunk)


async def _call(handler: Callable[[Any, Any], object], event: object, context: Any) -> None:
    result = handler(event, context)
    if inspect.isawaitable(result):
        await result
