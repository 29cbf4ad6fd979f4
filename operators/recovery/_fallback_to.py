"""`fallback_to`: asks another model."""

from __future__ import annotations

import logging
from collections.abc import Callable

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.errors import classify_error
from rxllm.operators.recovery._plan import StreamOrFactory
from rxllm.operators.recovery._policy import Policy, policy_of
from rxllm.operators.recovery.attempts import attempts_of
from rxllm.operators.recovery.commit import AfterOutput, check_after_output
from rxllm.operators.recovery.fallback_plan import check_apology, fallback_plan
from rxllm.stream import Stream

__all__ = ["check_apology", "fallback_plan", "fallback_to"]

_logger = logging.getLogger("rxllm.recovery")


def fallback_to(
    *streams: StreamOrFactory,
    after_output: AfterOutput = "fail",
    apology: str | None = None,
    when: Policy = classify_error,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Go on with another stream when the source fails, and with the next when that one does.

    ::

        S-#               the source
        T-a-(E,|)         backup
        [ fallback_to(backup) ]
        S-(n,T)-a-(E,|)   n: Notice("fallback", attempt=2, error=...)

    Errors that are classified as `"retry"` or `"fallback"` (see `rxllm.classify_error`) are
    answered with the next stream, at once; another one (a bad request, say) is the error. The model
    that answers is named by its own `Start`, after the notice with the failure of the one before. A
    wrong key is a warning in the log `rxllm.recovery` besides: nobody looks for it while a backup
    answers.

    Once content has been passed on, `after_output` decides as in `retry_with_backoff`: it is the
    error (`"fail"`), the next model's answer after a `Notice("restart")`, the part of it that goes
    beyond what was passed on (`"replay"`), or what a function of the partial text gives, which
    then takes the place of the next stream, as in
    `lambda partial: backup.stream(request.continuing(partial))`.

    - Completion: passed on. Error: an `AllModelsFailedError` with the errors in their order, the
      last of them its cause, and the text that was passed on in `partial`. With an `apology` it is
      said in place of that error, after a `Start` of the model `apology`, unless a part of an
      answer was passed on that no restart takes back.
    - Restart: passed on; what came before it counts no longer as passed on. In a continuation what
      was said before it is then told again, as one chunk.
    - Disposal: the stream that runs is disposed.
    - Demand: passes through; a restart holds the `Start` of the answer that comes, a replay or
      continuation no more text than was passed on. The
      text passed on is kept, for the error. An apology is three chunks, which wait for no valve.

    Args:
        streams: Observables, or functions that give one when it is needed; what such a function
            raises is answered as a failure of its stream.
        after_output: what to do once content has been passed on.
        apology: a text to end with when all have failed.
        when: classifies an error, in place of `rxllm.classify_error`.

    Raises:
        ValueError: there is neither a stream nor an apology, the apology is empty, or
            `after_output` is none of these.
        TypeError: a stream is neither an Observable nor a function, the apology is not a string, or
            `when` can't be called.

    >>> from rxllm.chunks import Start
    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> model = ScriptedModel([ConnectionRefusedError()], name="large")
    >>> backup = ScriptedModel("Hello", name="small")
    >>> stream = model.stream("Hi").pipe(fallback_to(backup.stream("Hi")))
    >>> [event.model for _, event in Marbles().run(stream) if isinstance(event, Start)]
    ['large', 'small']
    """
    if not streams and apology is None:
        raise ValueError("fallback_to takes one stream or more to go on with, or an apology")
    for stream in streams:
        if not isinstance(stream, Observable) and not callable(stream):
            raise TypeError(
                "fallback_to takes streams, or functions that give one: "
                f"model.stream(...), not {type(stream).__name__}"
            )
    check_apology(apology)
    check_after_output(after_output)
    policy = policy_of(when)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        return attempts_of(
            "fallback_to", source, lambda: fallback_plan(streams, apology, policy), after_output
        )

    return operator
