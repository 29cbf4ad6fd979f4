"""`degrade`: asks for less, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias, Unpack

import msgspec

from rxllm.chunks import Chunk, ErrorInfo, Notice
from rxllm.errors import classify_error
from rxllm.operators.recovery._annotations import add_note
from rxllm.operators.recovery._continuation import check_model
from rxllm.operators.recovery._plan import Attempt, Plan
from rxllm.operators.recovery._policy import Policy, policy_of
from rxllm.operators.recovery.attempts import attempts_of
from rxllm.operators.recovery.commit import AfterOutput, check_after_output
from rxllm.requests import Model, Prompt, Request, RequestOptions, as_request
from rxllm.stream import Stream

__all__ = ["DEGRADING_STEPS", "DegradingStep", "degrade"]

DegradingStep: TypeAlias = Callable[[Request], Request]
"""From the request as it was asked to one that asks for less."""


def _shorter(request: Request) -> Request:
    if request.max_tokens is None:
        return request
    return msgspec.structs.replace(request, max_tokens=max(1, request.max_tokens * 7 // 10))


def _calmer(request: Request) -> Request:
    return msgspec.structs.replace(request, temperature=0.3)


def _short_and_calm(request: Request) -> Request:
    tokens = min(100, request.max_tokens or 100)
    return msgspec.structs.replace(request, max_tokens=tokens, temperature=0.1)


DEGRADING_STEPS: Final[tuple[DegradingStep, ...]] = (_shorter, _calmer, _short_and_calm)
"""0.7 times the tokens; temperature 0.3; 100 tokens (or fewer, if fewer were asked for) at 0.1."""


def degrade(
    model: Model,
    prompt: Prompt,
    *,
    steps: Sequence[DegradingStep] | None = None,
    after_output: AfterOutput = "fail",
    when: Policy = classify_error,
    **options: Unpack[RequestOptions],
) -> Stream[Chunk]:
    """Ask the model, and after each failure ask it for less: a stream that tries step by step.

    ::

        S-#               model.stream(request)
        S-a-(E,|)         model.stream(steps[0](request))
        degrade(model, request)
        S-(n,S)-a-(E,|)   n: Notice("degraded", attempt=2, error=...)

    After the request as it is come 0.7 times its tokens, then temperature 0.3, then 100 tokens at
    temperature 0.1, at once one after another. Each step changes the original request, not the one
    before; a step that changes nothing (0.7 times no limit) is left out. Errors that are
    classified as `"retry"` or `"fallback"` (see `rxllm.classify_error`) are answered; the last one
    is the error of the stream, so that a `fallback_to` behind it can answer that. Put
    `retry_with_backoff` into the model's own streams if each step is to be tried more than once.

    - Completion, error: those of the step that ran last. The error has the text that was passed on
      in `partial`, and a note for each step that failed before.
    - Restart: passed on; what came before it counts no longer as passed on.
    - Disposal: the step that runs is disposed.
    - Demand: passes through; see `retry_with_backoff` for `after_output`. The text passed on is
      kept, for the error.

    Args:
        model: whom to ask, each time.
        prompt: a text, messages, or a whole request.
        steps: functions from the original request to a lesser one; None: those above.
        after_output: what to do once content has been passed on, as in `retry_with_backoff`.
        when: classifies an error, in place of `rxllm.classify_error`.
        options: fields of `Request`, as in `Model.stream`.

    Raises:
        ValueError: `after_output` is none of these.
        TypeError: `model` is no model, or a step or `when` can't be called.
        BadRequestError: the prompt or an option can't be right.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> model = ScriptedModel([ConnectionResetError()], [ConnectionResetError()], "Hello")
    >>> _ = Marbles().run(degrade(model, "Hi", max_tokens=200))
    >>> [(request.max_tokens, request.temperature) for request in model.requests]
    [(200, None), (140, None), (200, 0.3)]
    """
    check_model(model)
    kept = DEGRADING_STEPS if steps is None else tuple(steps)
    for step in kept:
        if not callable(step):
            raise TypeError(f"a step is a function from a request to a lesser one, not {step!r}")
    check_after_output(after_output)
    policy = policy_of(when)
    request = as_request(prompt, **options)
    return attempts_of(
        "degrade",
        partial(model.stream, request),
        lambda: _plan(model, request, kept, policy),
        after_output,
    )


def _plan(model: Model, request: Request, steps: tuple[DegradingStep, ...], when: Policy) -> Plan:
    rest = iter(steps)
    errors: list[Exception] = []

    def plan(error: Exception) -> Attempt | Exception:
        if when(error) == "raise":
            return error
        errors.append(error)
        for step in rest:
            lesser = step(request)
            if lesser != request:
                notice = Notice("degraded", attempt=len(errors) + 1, error=ErrorInfo.of(error))
                return Attempt(partial(model.stream, lesser), notice)
        for earlier in errors[:-1]:
            if earlier is not error:
                add_note(error, f"before that: {type(earlier).__name__}: {earlier}")
        return error

    return plan
