"""`resume`: continue after a lost connection."""

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
from rxllm.requests import ContinuedBy, Model, Prompt, RequestOptions
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
    by: ContinuedBy | None = None,
    **options: Unpack[RequestOptions],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Continue the answer where a lost connection cut it off, a limited number of times.

    ::

        S-a-#               the source: the connection is cut
        S-b-(E,|)           model.stream(request.continuing("a"))
        [ resume(model, request, initial=1, jitter=False) ]
        S-a-n-S-b-(E,|)     n: Notice("resume", attempt=2, delay=1.0, error=...)

    A lost connection is a `ConnectionFailedError`, a `TruncatedStreamError`, or Python's
    `ConnectionError`; any other error is passed on. Before content has been passed on, the source
    is subscribed to again. After that, the model is asked to continue the partial text, and text
    that it repeats is removed where it is recognized. See `retry_with_backoff` for the rule, for
    the cases where continuing isn't possible and the error is passed on, and for the waits.
    Progress doesn't reset the attempts, so a connection that keeps failing ends in an error.

    - Completion, error: passed on. The error has the text that was passed on in `partial`.
    - Restart: passed on; earlier chunks no longer count as passed on. In a continuation, the
      earlier text is then sent again as one chunk.
    - Disposal: the attempt, or the wait for the next one, ends at once.
    - Demand: passes through. A continuation holds its beginning while that may repeat the partial
      text: at most as much text as the partial text has. The text passed on is kept.

    Args:
        model: the model of the source, or another one.
        prompt: the prompt of the source.
        attempts: the maximum number of attempts, the first included, 1 or more.
        initial, factor, max_delay, jitter: the waits, as in `retry_with_backoff`.
        by: how the model is asked to continue, `"prefill"` or `"prompt"`; see
            `Request.continuing`. `None` for `"prefill"` if the model supports it.
        options: fields of `Request`, as in `Model.stream`.

    Raises:
        ValueError: a number is out of range, or `by` is unknown.
        TypeError: `model` is not a model, an argument is not a number, or `jitter` is neither a
            bool nor callable.
        BadRequestError: the prompt or an option is invalid.

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
    continued = continuation(model, prompt, options, by)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        plan = retry_plan(source, attempts, backoff, lambda: _when_lost, "resume")
        return attempts_of("resume", source, plan, continued)

    return operator


def _when_lost(error: Exception) -> ErrorAction:
    return "retry" if isinstance(error, _LOST) else "raise"
