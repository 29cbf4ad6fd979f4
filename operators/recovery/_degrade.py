"""`degrade`: ask for less after each failure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, Unpack

import msgspec

from rxllm.chunks import Chunk
from rxllm.errors import classify_error
from rxllm.operators.recovery._continuation import check_model
from rxllm.operators.recovery._degrade_plan import DegradePlan, DegradingStep
from rxllm.operators.recovery._policy import Policy, policy_of
from rxllm.operators.recovery.attempts import attempts_of
from rxllm.operators.recovery.commit import AfterOutput, check_after_output
from rxllm.requests import Model, Prompt, Request, RequestOptions, as_request
from rxllm.stream import Stream

__all__ = ["DEGRADING_STEPS", "DegradingStep", "degrade"]


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
"""0.7 times the tokens; temperature 0.3; at most 100 tokens at temperature 0.1."""


def degrade(
    model: Model,
    prompt: Prompt,
    *,
    steps: Sequence[DegradingStep] | None = None,
    after_output: AfterOutput = "fail",
    when: Policy = classify_error,
    **options: Unpack[RequestOptions],
) -> Stream[Chunk]:
    """Ask a model, and ask it for less after each failure.

    ::

        S-#               model.stream(request)
        S-a-(E,|)         model.stream(steps[0](request))
        degrade(model, request)
        S-(n,S)-a-(E,|)   n: Notice("degraded", attempt=2, error=..., options={"max_tokens": 140})

    The default steps after the original request are 0.7 times its tokens, then temperature 0.3,
    then at most 100 tokens at temperature 0.1, without delay. Each step changes the original
    request, not the previous one; a step that changes nothing (0.7 times no limit) is skipped. The
    notice has the options that are tried.

    An option that the model doesn't take (`UnsupportedError.field`) is left out from then on, which
    the notice says, but never the messages or tools. If only a step has set it, or set it to such a
    value, the step is taken without that change, and the refusal isn't the error of the stream.

    Handles errors classified as `"retry"` or `"fallback"` (see `rxllm.classify_error`); the last
    one is the error of the stream, so a `fallback_to` after it can handle that. To try each step
    more than once, put `retry_with_backoff` into the model's own streams.

    - Completion, error: those of the last step that ran. The error has the text that was passed on
      in `partial`, and a note for each earlier step that failed.
    - Restart: passed on; earlier chunks no longer count as passed on.
    - Disposal: the running step is disposed.
    - Demand: passes through; see `retry_with_backoff` for `after_output`. The text passed on is
      kept for the error.

    Args:
        model: the model to ask each time.
        prompt: a string, messages, or a whole request.
        steps: functions from the original request to a lesser one, or `None` for the default steps.
        after_output: what to do once content has been passed on, as in `retry_with_backoff`.
        when: classifies an error, in place of `rxllm.classify_error`.
        options: fields of `Request`, as in `Model.stream`.

    Raises:
        ValueError: `after_output` is invalid.
        TypeError: `model` is not a model, or a step or `when` is not callable.
        BadRequestError: the prompt or an option is invalid.

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
            raise TypeError(f"a step must be a function from a request to a request, got {step!r}")
    check_after_output(after_output)
    policy = policy_of(when)
    request = as_request(prompt, **options)
    stream = attempts_of(
        "degrade",
        partial(model.stream, request),
        lambda: DegradePlan(model, request, kept, policy),
        after_output,
    )
    stream.answer_schema = request.answer_schema
    return stream
