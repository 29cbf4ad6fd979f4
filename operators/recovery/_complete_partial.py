"""`complete_partial`: finishes an answer that broke off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from reactivex import Observable

from rxllm.chunks import Chunk, ErrorInfo, Notice
from rxllm.errors import classify_error
from rxllm.operators.recovery._backoff import check_attempts
from rxllm.operators.recovery._continuation import continuation
from rxllm.operators.recovery._plan import Attempt, Plan
from rxllm.operators.recovery._policy import Policy, policy_of
from rxllm.operators.recovery.attempts import attempts_of
from rxllm.requests import Model, Prompt, RequestOptions
from rxllm.stream import Stream

__all__ = ["complete_partial"]


def complete_partial(
    model: Model,
    prompt: Prompt,
    *,
    attempts: int = 1,
    when: Policy = classify_error,
    **options: Unpack[RequestOptions],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Finish an answer that broke off, by a second request that holds the partial text.

    ::

        S-a-#             the source
        T-b-(E,|)         model.stream(request.continuing("a"))
        [ complete_partial(model, request) ]
        S-a-(n,T)-b-(E,|) n: Notice("resume", attempt=2, error=...)

    Errors that are classified as `"retry"` or `"fallback"` (see `rxllm.classify_error`) are
    answered, once content has been passed on; before that, and when it can't be right (a tool call
    or JSON has begun, the text was reasoning alone, the answer has ended, streams were merged), the
    error stays as it is: `retry_with_backoff` and `fallback_to` are for these. If the model says a
    part of the partial text again, that is removed, as far as it can be told: see
    `retry_with_backoff`. If the model can't go on from a partial answer (a `BadRequestError`), the
    error stays too, with a note.

    - Completion, error: passed on. The error has the text that was passed on in `partial`.
    - Restart: passed on; what came before it counts no longer as passed on. In a continuation what
      was said before it is then told again, as one chunk.
    - Disposal: the stream that runs is disposed.
    - Demand: passes through. A continuation holds its beginning while that may repeat the partial
      text: at most as much text as that has. The text passed on is kept.

    Args:
        model: which finishes it; the same one or another.
        prompt: what the source was asked.
        attempts: requests to finish it at most, 1 or more; they follow at once.
        when: classifies an error, in place of `rxllm.classify_error`.
        options: fields of `Request`, as in `Model.stream`.

    Raises:
        ValueError: `attempts` is below 1.
        TypeError: `model` is no model, `attempts` no whole number, or `when` can't be called.
        BadRequestError: the prompt or an option can't be right.

    >>> from rxllm.chunks import text_of
    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> model = ScriptedModel(["Once upon a", ConnectionResetError()], [" time"])
    >>> stream = model.stream("A tale").pipe(complete_partial(model, "A tale"))
    >>> "".join(text_of(event) for _, event in Marbles().run(stream))
    'Once upon a time'
    >>> model.requests[1].messages[-1].text
    'Once upon a'
    """
    check_attempts(attempts)
    policy = policy_of(when)
    continued = continuation(model, prompt, options)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        return attempts_of("complete_partial", source, lambda: _plan(attempts, policy), continued)

    return operator


def _plan(attempts: int, when: Policy) -> Plan:
    requests = 0

    def plan(error: Exception) -> Attempt | Exception:
        nonlocal requests
        requests += 1
        if requests > attempts or when(error) == "raise":
            return error
        notice = Notice("resume", attempt=requests + 1, error=ErrorInfo.of(error))
        return Attempt(None, notice)

    return plan
