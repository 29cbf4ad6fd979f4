"""`resume`: goes on after a lost connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Unpack

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.errors import ConnectionFailedError, ErrorAction, TruncatedStreamError
from rxllm.operators.recovery._backoff import Backoff, Jitter, check_attempts
from rxllm.operators.recovery._continuation import continuation
from rxllm.operators.recovery._retry_with_backoff import retry_plan
from rxllm.operators.recovery.attempts import attempts_of
from rxllm.requests import Model, Prompt, RequestOptions
from rxllm.stream import Stream

__all__ = ["resume"]

_LOST: Final = (ConnectionFailedError, TruncatedStreamError, ConnectionError)


def resume(
    model: Model,
    prompt: Prompt,
    *,
    attempts: int = 3,
    initial: float = 1.0,
    factor: float = 2.0,
    max_delay: float = 60.0,
    jitter: Jitter = True,
    **options: Unpack[RequestOptions],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Go on from where the answer was after a lost connection, a bounded number of times.

    ::

        S-a-#               the source: the connection is cut
        S-b-(E,|)           model.stream(request.continuing("a"))
        [ resume(model, request, initial=1, jitter=False) ]
        S-a-n-S-b-(E,|)     n: Notice("resume", attempt=2, delay=1.0, error=...)

    A lost connection is a `ConnectionFailedError`, a `TruncatedStreamError`, or one of Python's
    `ConnectionError`s; another error stays as it is. Before content has been passed on, the source
    is asked again. After it, the model is asked to go on from the partial text; what it repeats of
    that is removed, as far as it can be told: see `retry_with_backoff`, which also says when it
    can't be done and the error stays. Waits are those of `retry_with_backoff`. Attempts are not
    given back by progress, so that a connection that is cut again and again comes to its end.

    - Completion, error: passed on. The error has the text that was passed on in `partial`.
    - Restart: passed on; what came before it counts no longer as passed on. In a continuation what
      was said before it is then told again, as one chunk.
    - Disposal: the attempt, or the wait for the next one, ends at once.
    - Demand: passes through. A continuation holds its beginning while that may repeat the partial
      text: at most as much text as that has. The text passed on is kept.

    Args:
        model: the one that the source is a stream of, or another one.
        prompt: what the source was asked.
        attempts: how often it is asked in all, the first time included, 1 or more.
        initial, factor, max_delay, jitter: of the waits, as in `retry_with_backoff`.
        options: fields of `Request`, as in `Model.stream`.

    Raises:
        ValueError: a number is out of its range.
        TypeError: `model` is no model, a number is none, or `jitter` can't be called.
        BadRequestError: the prompt or an option can't be right.

    >>> from rxllm.chunks import text_of
    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> model = ScriptedModel(["Once upon a", ConnectionResetError()], [" time"])
    >>> stream = model.stream("A tale").pipe(resume(model, "A tale"))
    >>> "".join(text_of(event) for _, event in Marbles().run(stream))
    'Once upon a time'
    """
    check_attempts(attempts)
    backoff = Backoff(initial, factor, max_delay, jitter)
    continued = continuation(model, prompt, options)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        plan = retry_plan(source, attempts, backoff, _when_lost, "resume")
        return attempts_of("resume", source, plan, continued)

    return operator


def _when_lost(error: Exception) -> ErrorAction:
    return "retry" if isinstance(error, _LOST) else "raise"
