"""Conversations that are too long for a model."""

from __future__ import annotations

from collections.abc import Callable

import reactivex as rx
from reactivex import Observable
from reactivex import operators as rxo

from rxllm.chunks import Chunk, ErrorInfo, Notice, ToolResult, has_output
from rxllm.errors import ContextLengthError

__all__ = ["with_history"]


def with_history(
    ask: Callable[[int], Observable[Chunk]],
    length: int,
    too_long: type[Exception] = ContextLengthError,
) -> Observable[Chunk]:
    """Return a stream that answers a conversation, with as much history as the model can take.

    If the conversation is too long for the model, before any output and before a tool has run, it
    is asked again with half of the history.

    Args:
        ask: returns the answer to the newest message, preceded by that many turns.
        length: the maximum number of turns before the newest message.
        too_long: also an error raised by `ask` if the conversation is too long.

    Raises:
        Exception: those of `ask`.
    """
    try:
        stream = ask(length)
    except too_long:
        if not length:
            raise
        return with_history(ask, length // 2, too_long)
    if not length:
        return stream
    begun = answered = False

    def note(chunk: Chunk) -> None:
        nonlocal begun, answered
        begun = True
        answered = answered or has_output(chunk) or type(chunk) is ToolResult

    def retry(error: Exception, _: Observable[Chunk]) -> Observable[Chunk]:
        if answered or not isinstance(error, ContextLengthError):
            return rx.throw(error)
        # A second `Start` must be preceded by a `Notice`.
        notices = [Notice("retry", error=ErrorInfo.of(error))] if begun else []
        return with_history(ask, length // 2, too_long).pipe(rxo.start_with(*notices))

    return stream.pipe(rxo.do_action(note), rxo.catch(retry))
