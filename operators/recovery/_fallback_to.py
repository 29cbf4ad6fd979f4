"""`fallback_to`: fall back to other models."""

from __future__ import annotations

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

__all__ = ["fallback_to"]


def fallback_to(
    *streams: StreamOrFactory,
    after_output: AfterOutput = "fail",
    apology: str | None = None,
    when: Policy = classify_error,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Fall back to another stream when the source fails, and to the next one if that fails too.

    ::

        S-#               the source
        T-a-(E,|)         backup
        [ fallback_to(backup) ]
        S-(n,T)-a-(E,|)   n: Notice("fallback", attempt=2, error=...)

    After an error classified as `"retry"` or `"fallback"` (see `rxllm.classify_error`), the next
    stream starts at once; any other error, such as a bad request, is passed on. The answering model
    is named by its own `Start`, after a notice with the previous failure. An authentication error
    is also a warning in the log `rxllm`: a wrong key would go unnoticed while a backup answers.

    Once content has been passed on, `after_output` decides as in `retry_with_backoff`: the error
    (`"fail"`), the next model's answer after a `Notice("restart")` (`"restart"`), the part of it
    beyond the text passed on (`"replay"`), or the stream returned by a function of the partial
    text, which replaces the next stream, as in
    `lambda partial: backup.stream(request.continuing(partial))`.

    - Completion: passed on. Error: an `AllModelsFailedError` with the errors in order, the last one
      as its cause, and the text that was passed on in `partial`. An `apology` is sent in place of
      that error, after a `Start` of the model `apology`, unless part of an answer was passed on
      and `after_output` isn't `"restart"`.
    - Restart: passed on; earlier chunks no longer count as passed on. In a continuation, the
      earlier text is then sent again as one chunk.
    - Disposal: the running stream is disposed.
    - Demand: passes through; a restart holds the `Start` of the new answer, and a replay or
      continuation at most as much text as was passed on. The text passed on is kept for the error.
      An apology is three chunks, sent even while the valve is closed.

    Args:
        streams: Observables, or functions that return one when it is needed; an exception of such a
            function counts as a failure of its stream.
        after_output: what to do once content has been passed on.
        apology: a text to end with when all streams have failed.
        when: classifies an error, in place of `rxllm.classify_error`.

    Raises:
        ValueError: there is neither a stream nor an apology, the apology is empty, or
            `after_output` is invalid.
        TypeError: a stream is neither an Observable nor a function, the apology is not a string, or
            `when` is not callable.

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
        raise ValueError("fallback_to takes at least one stream, or an apology")
    for stream in streams:
        if not isinstance(stream, Observable) and not callable(stream):
            raise TypeError(
                "fallback_to takes streams, such as model.stream(...), or functions that return "
                f"one, got {type(stream).__name__}"
            )
    check_apology(apology)
    check_after_output(after_output)
    policy = policy_of(when)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        return attempts_of(
            "fallback_to", source, lambda: fallback_plan(streams, apology, policy), after_output
        )

    return operator
