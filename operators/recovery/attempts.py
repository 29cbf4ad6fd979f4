"""The machinery of recovery operators: successive attempts as one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from reactivex import Observable, abc
from reactivex.disposable import (
    CompositeDisposable,
    SerialDisposable,
    SingleAssignmentDisposable,
)

from rxllm.chunks import Chunk, is_restart
from rxllm.errors import BadRequestError
from rxllm.operators.recovery._annotations import add_note
from rxllm.operators.recovery._plan import Attempt, Plan, StreamOrFactory
from rxllm.operators.recovery.commit import (
    AfterOutput,
    AnswerDiffersError,
    ContinuingFilter,
    ReplayFilter,
    replay_filter_after,
)
from rxllm.stream import Stream
from rxllm.trampoline import Trampoline
from rxllm.transcript import Transcript
from rxllm.valve import scheduler_or_default

__all__ = ["attempts_of"]


def attempts_of(
    name: str, first: StreamOrFactory, plan_of: Callable[[], Plan], after_output: AfterOutput
) -> Stream[Chunk]:
    """A stream that starts with `first`, and continues with the attempts of the plan.

    Args:
        name: the name of the stream.
        first: the first attempt.
        plan_of: creates the plan of a subscription.
        after_output: what may follow once content has been passed on; see `commit`.
    """

    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        attempts = _Attempts(observer, scheduler, plan_of(), after_output)
        attempts.begin(first)
        return attempts.subscription

    return Stream(subscribe, name, of_chunks=True)


class _Attempts:
    """One subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        plan: Plan,
        after_output: AfterOutput,
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler
        self._plan = plan
        self._after_output = after_output
        self._transcript = Transcript()
        self._add = self._transcript.add
        self._filter: ReplayFilter | None = None
        self._continuing: ContinuingFilter | None = None
        self._is_direct = True  # nothing is compared, held or queued
        self._ending: Callable[[], None] | None = None  # arrived while guarded chunks were sent
        self._failure: Exception | None = None  # the failure before the running attempt
        self._raised: Exception | None = None  # by the subscriber, in its on_next
        self._upstream = SerialDisposable()
        self._timer = SerialDisposable()
        self.subscription = CompositeDisposable(self._upstream, self._timer)
        self._guarded = Trampoline(self.subscription)
        self._starts = Trampoline(self.subscription)

    def begin(self, stream: StreamOrFactory) -> None:
        """Subscribe to `stream`. Attempts that fail synchronously don't grow the stack."""
        self._starts.run(self._subscribe, stream)

    def _subscribe(self, stream: StreamOrFactory) -> None:
        attempt = SingleAssignmentDisposable()
        self._upstream.disposable = attempt  # disposes the previous one
        source = self._create(stream)
        if source is not None:
            attempt.disposable = source.subscribe(
                self._on_next, self._on_error, self._on_completed, scheduler=self._scheduler
            )

    def _create(self, stream: StreamOrFactory) -> Observable[Chunk] | None:
        try:
            source = stream if isinstance(stream, Observable) else stream()
            if not isinstance(source, Observable):
                raise TypeError(f"the function must return a stream, and returned {source!r}")
            return source
        except Exception as error:
            self._on_error(error)
            return None

    def _on_next(self, chunk: Chunk) -> None:
        if not self._is_direct or (self._continuing is not None and is_restart(chunk)):
            self._on_guarded(chunk)
            return
        self._add(chunk)  # from here on as in `_send`, inlined for speed
        try:
            self._observer.on_next(chunk)
        except Exception as error:
            self._raised = error
            raise

    def _on_guarded(self, chunk: Chunk) -> None:
        """Pass the chunk through the filter. Chunks that arrive in the meantime are queued."""
        self._guarded.run(self._let_through, chunk)
        if self._ending is not None and not self._guarded.is_running:
            ending, self._ending = self._ending, None
            if not self.subscription.is_disposed:
                ending()

    def _let_through(self, chunk: Chunk) -> None:
        self._is_direct = False
        for each in self._passed(chunk):
            self._send(each)
        self._is_direct = self._filter is None

    def _passed(self, chunk: Chunk) -> Iterable[Chunk]:
        if self._continuing is not None and is_restart(chunk):
            self._filter = self._continuing
            return self._continuing.again()
        if self._filter is None:
            return (chunk,)
        try:
            chunks = self._filter.feed(chunk)
        except AnswerDiffersError as error:
            self._fail_as_different(error)
            return ()
        if self._filter.is_open:
            self._filter = None
        return chunks

    def _send(self, chunk: Chunk) -> None:
        if self.subscription.is_disposed:
            return
        self._add(chunk)
        try:
            self._observer.on_next(chunk)
        except Exception as error:
            self._raised = error
            raise

    def _on_error(self, error: Exception) -> None:
        if error is self._raised:
            # RxPY passes an exception of a subscriber to on_error if the source sends while it is
            # being subscribed to. It isn't a failure of the source and must not be retried.
            self.subscription.dispose()
            raise error
        if self._guarded.is_running:
            self._ending = partial(self._on_error, error)
            return
        if self._failure is not None and self._is_refused(error):
            add_note(self._failure, f"the answer could not be continued: {error}")
            self._fail(self._failure)
            return
        after_output = self._after_output
        has_begun = self._transcript.has_begun
        replay = replay_filter_after(self._transcript, after_output) if has_begun else None
        if has_begun and replay is None:
            self._fail(error)
            return
        try:
            attempt = self._plan(error)
        except Exception as failure:
            self._fail(failure)
            return
        if isinstance(attempt, Exception):
            self._fail(attempt)
        elif attempt.stream is None and not isinstance(replay, ContinuingFilter):
            self._fail(error)
        elif has_begun and attempt.otherwise is not None and after_output != "restart":
            self._fail(attempt.otherwise)
        else:
            self._follow(attempt, replay, error)

    def _is_refused(self, error: Exception) -> bool:
        """True if a model refuses to continue a partial answer before it sends more."""
        is_first = self._continuing is not None and self._filter is self._continuing
        return is_first and isinstance(error, BadRequestError)

    def _follow(self, attempt: Attempt, replay: ReplayFilter | None, error: Exception) -> None:
        self._filter, self._failure, self._is_direct = replay, error, replay is None
        self._continuing = replay if isinstance(replay, ContinuingFilter) else None
        stream = attempt.stream
        if self._continuing is not None and callable(self._after_output):
            stream = partial(self._after_output, self._transcript.text)
        assert stream is not None  # noqa: S101 - checked in `_on_error`
        self._send(attempt.notice)
        if attempt.delay <= 0:
            self.begin(stream)
        elif not self.subscription.is_disposed:
            self._begin_after(attempt.delay, stream)

    def _begin_after(self, delay: float, stream: StreamOrFactory) -> None:
        self._upstream.disposable = SingleAssignmentDisposable()  # disposes the failed one
        self._timer.disposable = scheduler_or_default(self._scheduler).schedule_relative(
            delay, lambda *_: self.begin(stream)
        )

    def _on_completed(self) -> None:
        if self._guarded.is_running:
            self._ending = self._on_completed
            return
        if self._filter is not None:
            try:
                chunks = self._filter.end()
            except AnswerDiffersError as error:
                self._fail_as_different(error)
                return
            for each in chunks:
                self._send(each)
        self._observer.on_completed()

    def _fail_as_different(self, difference: AnswerDiffersError) -> None:
        failure = self._failure
        assert failure is not None  # noqa: S101 - only attempts after a failure are compared
        add_note(failure, f"the replayed answer differs: {difference}")
        self._fail(failure)

    def _fail(self, error: Exception) -> None:
        self.subscription.dispose()
        self._transcript.write_partial(error)
        self._observer.on_error(error)
