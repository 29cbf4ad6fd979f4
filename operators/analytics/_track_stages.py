"""`track_stages`: which part of the work a stream is in."""

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
_USUAL: Final = 100  # tokens after which an answer of unknown length stands at two thirds


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
    `every` chunks of content, `"complete"` (100 %) before the `End` of the whole stream, or else
    before its completion. Within `"generate"` the percentage grows with the chunks of content up
    to `max_tokens`; without that, by `1 - exp(-tokens / 100)`: always forward, and never there.

    The percentage tells of the work as a whole: it stays where it is while a retry, a fallback or
    a restart catches up with what was done before. A stage is told again when it is entered again.
    Of a merge, one source that begins again does not end `"generate"` while another one generates.

    - Completion, error: passed on; an error without a further `Progress`.
    - Restart: the chunks of that stream are counted from 0 again, the percentage stays.
    - Disposal: upstream is disposed; nothing is held, and there is no timer.
    - Demand: passes through; a `Progress` is sent together with the chunk beside it. The first
      one is sent at the subscription, whatever the valve says, and before the source is subscribed
      to: a subscriber that leaves at it costs no model call.

    Args:
        max_tokens: the tokens expected at most, 1 or more; None if not known.
        every: chunks of content between two reports, 1 or more.

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
        check_int("max_tokens", max_tokens, "the number of tokens expected at most, or None")
    check_int("every", every, "the number of chunks between two reports")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            staging = _Staging(observer, clock_of(scheduler), max_tokens, every)
            upstream = SingleAssignmentDisposable()
            context = copy_context()  # what is current here (a span, say) is so for the source

            def begin(*_: object) -> None:
                staging.enter("initialise")
                if not upstream.is_disposed:
                    upstream.disposable = context.run(
                        source.subscribe,
                        staging.on_next,
                        observer.on_error,
                        staging.on_completed,
                        scheduler=scheduler,
                    )

            # Behind the subscribing that goes on now: then the subscriber can leave, and what it
            # raises is not taken for an error of the stream.
            begun = CurrentThreadScheduler.singleton().schedule(begin)
            return CompositeDisposable(upstream, begun)

        return Stream(subscribe, "track_stages", of_chunks=True)

    return operator


class _Staging:
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
        """Tell of `stage`, unless it is the present one."""
        if stage != self._stage:
            self._stage = stage
            self._tell(_BEGINS[stage])

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
            self._tell(begins + (_GENERATED - begins) * self._share())

    def _share(self) -> float:
        """How much of the answer is there, 0..1, as far as one can tell."""
        if self._max_tokens is None:
            return 1.0 - math.exp(-self._tokens / _USUAL)
        return min(1.0, self._tokens / self._max_tokens)

    def _tell(self, percentage: float) -> None:
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
