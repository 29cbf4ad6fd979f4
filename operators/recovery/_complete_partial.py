"""`complete_partial`: finish an interrupted answer."""

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
from rxllm.requests import ContinuedBy, Model, Prompt, RequestOptions
from rxllm.stream import Stream

__all__ = ["complete_partial"]


def complete_partial(
    model: Model,
    prompt: Prompt,
    *,
    attempts: int = 1,
    when: Policy = classify_error,
    by: ContinuedBy | None = None,
    **options: Unpack[RequestOptions],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Finish an interrupted answer with a second request that contains the partial text.

    ::

        S-a-#             the source
        T-b-(E,|)         model.stream(request.continuing("a"))
        [ complete_partial(model, request) ]
        S-a-(n,T)-b-(E,|) n: Notice("resume", attempt=2, error=...)

    Handles errors classified as `"retry"` or `"fallback"` (see `rxllm.classify_error`) once content
    has been passed on. Before that, and where continuing can't be correct (a tool call or JSON has
    started, there was only reasoning, the answer has ended, or streams were merged), the error is
    passed on: use `retry_with_backoff` or `fallback_to` for these. Partial text that the model
    repeats is removed where it is recognized: see `retry_with_backoff`. If the model can't continue
    a partial answer (a `BadRequestError`), the original error is passed on with a note.

    - Completion, error: passed on. The error has the text that was passed on in `partial`.
    - Restart: passed on; earlier chunks no longer count as passed on. In a continuation, the
      earlier text is then sent again as one chunk.
    - Disposal: the running stream is disposed.
    - Demand: passes through. A continuation holds its beginning while that may repeat the partial
      text: at most as much text as the partial text has. The text passed on is kept.

    Args:
        model: the model that finishes the answer, the same one or another.
        prompt: the prompt of the source.
        attempts: the maximum number of further requests, 1 or more, sent without delay.
        when: classifies an error, in place of `rxllm.classify_error`.
        by: how the model is asked to continue, `"prefill"` or `"prompt"`; see
            `Request.continuing`. `None` for `"prefill"` if the model supports it.
        options: fields of `Request`, as in `Model.stream`.

    Raises:
        ValueError: `attempts` is below 1, or `by` is unknown.
        TypeError: `model` is not a model, `attempts` is not an integer, or `when` is not callable.
        BadRequestError: the prompt or an option is invalid.

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
    continued = continuation(model, prompt, options, by)

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
