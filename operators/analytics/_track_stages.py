"""`track_stages`: the current stage of a stream."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context

from msgspec.structs import replace
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SingleAssignmentDisposable
from reactivex.scheduler import CurrentThreadScheduler

from rxllm.answer_counts import AnswerCounts
from rxllm.arguments import check_int
from rxllm.chunks import (
    Chunk,
    End,
    Notice,
    Progress,
    Start,
    Token,
    ToolResult,
    has_output,
    tokens_of,
)
from rxllm.expected_tokens import ExpectedTokens
from rxllm.operators.analytics._stages import (
    BEGINS,
    Stage,
    StageTimes,
    generated_percentage,
    prompt_percentage,
)
from rxllm.stream import Stream
from rxllm.valve import clock_of

__all__ = ["track_stages"]


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
    `remaining` is in seconds, at the speed since the first content. `stages` has the status of each
    stage, and the seconds since the subscription at which it began and ended.

    The percentage covers the work as a whole: it stays constant while a retry, a fallback or a
    restart catches up with earlier progress. A stage is reported again when it is entered again.
    In a merge, a source that restarts does not end `"generate"` while another one generates. A
    `Progress` from upstream (of `progress`, of a queue, of a prompt that is read) gets the stages
    and the percentage of the work; while there are some of `progress`, this operator sends its own
    only at a new stage. Put it after a retry: each subscription begins at 0 %.

    - Completion: passed on.
    - Error: passed on, after a `Progress` in whose `stages` the current one has failed with it.
    - Restart: the chunks of that stream are counted from 0 again, the percentage stays.
    - Disposal: upstream is disposed; nothing is held, and there is no timer.
    - Demand: passes through; a `Progress` is sent together with the adjacent chunk. The first one
      is sent at the subscription, even if the valve is closed, and before the source is subscribed
      to: a subscriber that disposes then causes no model call.

    Args:
        max_tokens: expected maximum number of tokens, 1 or more, or `None` for that of the request,
            which its `Start` has.
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
                        subscription.on_error,
                        subscription.on_completed,
                        scheduler=scheduler,
                    )

            # After the current subscribe call: the subscriber can then dispose, and an exception
            # that it raises isn't mistaken for an error of the stream.
            begun = CurrentThreadScheduler.singleton().schedule(begin)
            return CompositeDisposable(upstream, begun)

        stream = Stream[Chunk](subscribe, "track_stages", of_chunks=True)
        stream.has_progress = True
        return stream

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
        self._expected = ExpectedTokens(max_tokens)
        self._every = every
        self._begun = clock()
        self._stages = StageTimes()
        self._counts = AnswerCounts()
        self._ended: set[str | None] = set()
        self._tokens = 0  # of all sources
        self._due = every  # the number of tokens at which to report
        self._generated_since: float | None = None
        self._percentage = 0.0
        self._has_progress = False  # from upstream

    def on_next(self, chunk: Chunk) -> None:
        if has_output(chunk):
            self._content(chunk)
            return
        if type(chunk) is Start:
            self._expected.start(chunk, self._counts.get(chunk.source, 0))
            if self._stages.current == "initialise":
                self.enter("choose_model")
        elif type(chunk) is Notice:
            self._notice(chunk)
        elif type(chunk) is Progress:
            chunk = self._of_the_work(chunk)
        elif type(chunk) is End or type(chunk) is ToolResult:
            self._counts.note(chunk)
            if type(chunk) is End and not chunk.more:
                self._ended.add(chunk.source)
                if chunk.source is None:
                    self.enter("complete")
        self._observer.on_next(chunk)

    def on_completed(self) -> None:
        self.enter("complete")
        self._observer.on_completed()

    def on_error(self, error: Exception) -> None:
        self._stages.fail(error, self._elapsed)
        self._emit_progress(self._percentage)
        self._observer.on_error(error)

    def enter(self, stage: Stage) -> None:
        """Enter `stage` and report it, unless it is the current one."""
        if stage != self._stages.current:
            self._stages.enter(stage, self._elapsed)
            self._emit_progress(BEGINS[stage])

    def _notice(self, notice: Notice) -> None:
        self._expected.notice(notice)
        if notice.kind == "restart":
            self._counts.note(notice)
            self._tokens = sum(self._counts.values())
            self._set_due()
            self._generated_since = None
        if notice.kind in ("fallback", "restart", "retry"):
            self._ended.discard(notice.source)
            others = self._counts.keys() - self._ended - {notice.source}
            if notice.source is None or not others:
                self.enter("choose_model")

    def _content(self, chunk: Chunk) -> None:
        if self._stages.current != "generate" or self._generated_since is None:
            self.enter("generate")
            self._generated_since = self._elapsed
        self._observer.on_next(chunk)
        source = chunk.source
        tokens = chunk.tokens if type(chunk) is Token else tokens_of(chunk)
        self._counts[source] = self._counts.get(source, 0) + tokens
        self._tokens += tokens
        if self._tokens >= self._due:
            self._set_due()
            if not self._has_progress:
                self._emit_progress(generated_percentage(self._tokens, self._expected.total))

    def _set_due(self) -> None:
        self._due = (self._tokens // self._every + 1) * self._every

    @property
    def _elapsed(self) -> float:
        return self._clock() - self._begun

    def _of_the_work(self, progress: Progress) -> Progress:
        """Return a `Progress` from upstream with the percentage of the work as a whole."""
        if progress.stage == "prompt":
            percentage = prompt_percentage(progress.percentage)
        elif progress.stage is None:
            self._has_progress = True
            expected = self._expected.total or progress.max_tokens
            percentage = generated_percentage(self._tokens, expected) if self._tokens else 0.0
        else:
            percentage = (progress.percentage or 0.0) if progress.stages else 0.0
        self._percentage = max(self._percentage, percentage)
        return replace(
            progress,
            percentage=self._percentage,
            stage=progress.stage or self._stages.current,
            stages=self._stages.infos(),
        )

    def _emit_progress(self, percentage: float) -> None:
        self._percentage = max(self._percentage, percentage)
        elapsed, since = self._elapsed, self._generated_since
        speed = None
        if since is not None and elapsed > since:
            speed = self._tokens / (elapsed - since)
        progress = Progress.of(
            self._tokens,
            elapsed,
            speed,
            self._expected.total,
            ended=self._stages.current == "complete",
        )
        self._observer.on_next(
            replace(
                progress,
                percentage=self._percentage,
                stage=self._stages.current,
                stages=self._stages.infos(),
            )
        )
