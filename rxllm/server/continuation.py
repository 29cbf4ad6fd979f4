"""Continue a stream that a server which has died had begun."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import reactivex
from reactivex import Observable, abc

from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Progress, Start
from rxllm.errors import NodeLostError
from rxllm.requests import Model, Request
from rxllm.stream import Stream, as_stream

__all__ = ["continued", "progress_after"]


def continued(model: Model, request: Request, said: Sequence[Chunk]) -> Stream[Chunk]:
    """Return what follows `said`: a `Notice("resume")`, and the rest of the answer.

    It is continued as `resume` does after a lost connection, or asked again if nothing was said; if
    the answer had ended, nothing follows. Where it can't be continued, it fails with a
    `NodeLostError`.
    """
    if _has_ended(said):
        return as_stream(reactivex.empty(), "ended")
    lost = NodeLostError("the server that ran the stream has died")
    return _new_part(
        said,
        lambda is_first: reactivex.throw(lost) if is_first else model.stream(request),
        ops.resume(model, request, initial=0.0),
    )


def progress_after(
    said: Sequence[Chunk], max_tokens: int | None
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Return an operator that adds the `Progress` of an answer that begins with `said`."""
    progress = ops.progress(max_tokens=max_tokens)
    return lambda source: _new_part(said, lambda _: source, progress)


def _has_ended(said: Sequence[Chunk]) -> bool:
    """Return whether the answer was over, and only the last message is missing."""
    has_ended = False
    for chunk in said:
        if chunk.source is None and isinstance(chunk, Start | End):
            has_ended = isinstance(chunk, End) and not chunk.more
    return has_ended


def _new_part(
    said: Sequence[Chunk],
    rest: Callable[[bool], Observable[Chunk]],
    operator: Callable[[Observable[Chunk]], Observable[Chunk]],
) -> Stream[Chunk]:
    """Apply an operator to `said` and the rest, and leave out what comes of `said`.

    `rest` is called for each subscription of the operator, with whether it is the first; the others
    begin without `said`.
    """

    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        is_new = False

        def replay(
            whole: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            nonlocal is_new
            is_first, is_new = not is_new, False
            if is_first:
                for chunk in said:
                    if not isinstance(chunk, Progress):
                        whole.on_next(chunk)
            is_new = True
            return rest(is_first).subscribe(whole, scheduler=scheduler)

        def on_next(chunk: Chunk) -> None:
            if is_new:
                observer.on_next(chunk)

        return (
            Stream(replay, "said before")
            .pipe(operator)
            .subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)
        )

    return Stream(subscribe, "continued", of_chunks=True)
