"""`track_stages`: the current stage of a stream."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import copy_context
from typing import Final, Literal, TypeAlias

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SingleAssignmentDisposable
from reactivex.scheduler import CurrentThreadScheduler

from rxllm.arguments import check_int
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Start, has_output
from rxllm.restart import forget
from rxllm.stream import Stream
from rxllm.valve import clock_of

__all__ = ["Stage", "track_stages"]

Stage: TypeAlias = Literal["initialise", "choose_model", "generate", "complete"]

_BEGINS: Final[dict[Stage, float]] = {
    "initialise": 0.0,
    "choose_model": 10.0,
    "generate": 25.0,
    "complete": 100.0,
}
_GENERATED: Final = 95.0
_USUAL: Final = 100  # tokens after which an answer of unknown length is at about two thirds


def track_stages(
    max_tokens: int | None = None, every: int = 10
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Insert a `Progress` at each stage of the work, with a percentage that never falls.

    ::

        --S-a-b-c-E|
        [ track_stages(every=2) ]
        i-(m,S)-(g,a)-(b,g)-c-(E,c)|

    The stages: `"initialise"` (0 %) at the subscription, `"choose_model"` (10 %) before the first
    `Start` or fallback, `"generate"` (25 to 95 %) before the first content and then after every
    `every` content chunks, `"complete"` (100 %) before the `End` of the whole stream, or else
    before its completion. Within `"generate"`, the percentage grows linearly with the content
    chunks up to `max_tokens`; without that, as `1 - exp(-tokens / 100)`, which never reaches 95 %.

    The percentage covers the work as a whole: it stays constant while a retry, a fallback or a
    restart catches up with earlier progress. A stage is reported again when it is entered again.
    In a merge, a source that restarts does not end `"generate"` while another one generates.

    - Completion, error: passed on; an error without a further `Progress`.
    - Restart: the chunks of that stream are counted from 0 again, the percentage stays.
    - Disposal: upstream is disposed; nothing is held, and there is no timer.
    - Demand: passes through; a `Progress` is sent together with the adjacent chunk. The first one
      is sent at the subscription, even if the valve is closed, and before the source is subscribed
      to: a subscriber that disposes then causes no model call.

    Args:
        max_tokens: expected maximum number of tokens, 1 or more, or `None` if unknown.
        every: content chunks between two reports, 1 or more.

    Raises:
        TypeError: `max_tokens` or `every` is not an integer.
        ValueError: one of them is below 1.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> for _, event in marbles.run(marbles.cold("S-a-b-E|").pipe(track_stages(4, every=2))):
    ...     if isinstance(event, Progress):
    ...         print(event.stage, event.percentage)
    initialise 0.0
    choose_model 10.0
    generate 25.0
    generate 60.0
    complete 100.0
    """
    if max_tokens is not None:
        check_int("max_tokens", max_tokens, "the expected maximum number of tokens, or None")
    check_int("every", every, "the number of chunks between two reports")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            subscription = _Subscription(observer, clock_of(scheduler), max_tokens, every)
            upstream = SingleAssignmentDisposable()
            context = copy_context()  # the source sees the same context (the current span, say)

            def begin(*_: object) -> None:
                subscription.enter("initialise")
                if not upstream.is_disposed:
                    upstream.disposable = context.run(
                        source.subscribe,
                        subscription.on_next,
                        observer.on_error,
                        subscription.on_completed,
                        scheduler=scheduler,
                    )

            # After the current subscribe call: the subscriber can then dispose, and an exception
            # that it raises isn't mistaken for an error of the stream.
            begun = CurrentThreadScheduler.singleton().schedule(begin)
            return CompositeDisposable(upstream, begun)

        return Stream(subscribe, "track_stages", of_chunks=True)

    return operator


class _Subscription:
    """One subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        clock: Callable[[], float],
        max_tokens: int | None,
        every: int,
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._max_tokens = max_tokens
        self._every = every
        self._begun = clock()
        self._stage: Stage | None = None
        self._counts: dict[str | None, int] = {}
        self._ended: set[str | None] = set()
        self._tokens = 0  # of all sources
        self._percentage = 0.0

    def on_next(self, chunk: Chunk) -> None:
        if has_output(chunk):
            self._content(chunk)
            return
        if type(chunk) is Start and self._stage == "initialise":
            self.enter("choose_model")
        elif type(chunk) is Notice:
            self._notice(chunk)
        elif type(chunk) is End:
            self._ended.add(chunk.source)
            if chunk.source is None:
                self.enter("complete")
        self._observer.on_next(chunk)

    def on_completed(self) -> None:
        self.enter("complete")
        self._observer.on_completed()

    def enter(self, stage: Stage) -> None:
        """Enter `stage` and report it, unless it is the current one."""
        if stage != self._stage:
            self._stage = stage
            self._emit_progress(_BEGINS[stage])

    def _notice(self, notice: Notice) -> None:
        if notice.kind == "restart":
            forget(self._counts, notice.source)
            self._tokens = sum(self._counts.values())
        if notice.kind in ("fallback", "restart", "retry"):
            self._ended.discard(notice.source)
            others = self._counts.keys() - self._ended - {notice.source}
            if notice.source is None or not others:
                self.enter("choose_model")

    def _content(self, chunk: Chunk) -> None:
        self.enter("generate")
        self._observer.on_next(chunk)
        before, source = self._tokens, chunk.source
        pieces = len(chunk.chunks) if type(chunk) is Batch else 1
        self._counts[source] = self._counts.get(source, 0) + pieces
        self._tokens = before + pieces
        if self._tokens // self._every > before // self._every:
            begins = _BEGINS["generate"]
            self._emit_progress(begins + (_GENERATED - begins) * self._share())

    def _share(self) -> float:
        """The estimated fraction of the answer generated so far, 0..1."""
        if self._max_tokens is None:
            return 1.0 - math.exp(-self._tokens / _USUAL)
        return min(1.0, self._tokens / self._max_tokens)

    def _emit_progress(self, percentage: float) -> None:
        self._percentage = max(self._percentage, percentage)
        elapsed = self._clock() - self._begun
        self._observer.on_next(
            Progress(
                self._tokens,
                elapsed,
                tokens_per_second=self._tokens / elapsed if elapsed > 0 else None,
                max_tokens=self._max_tokens,
                percentage=self._percentage,
                stage=self._stage,
            )
        )
