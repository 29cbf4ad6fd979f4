"""`timeouts`: limits on the first token, between tokens, and in total."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SingleAssignmentDisposable

from rxllm.answer_counts import nested_in
from rxllm.arguments import check_number
from rxllm.chunks import Chunk, End, Notice, Start, Token, ToolResult, has_output, is_restart
from rxllm.errors import (
    FirstTokenTimeoutError,
    StallTimeoutError,
    StreamTimeoutError,
    TotalTimeoutError,
)
from rxllm.operators._deadline_timer import RESOLUTION, DeadlineTimer
from rxllm.restart import matching_sources
from rxllm.stream import Stream
from rxllm.transcript import Transcript
from rxllm.valve import Waits, clock_of, scheduler_or_default, valve_of, waits_of, with_waits

__all__ = ["timeouts"]

_NEVER: Final = float("inf")


def timeouts(
    first: float | None = None, between: float | None = None, total: float | None = None
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Fail when the first token, the next token, or the end takes too long.

    ::

        S-a-b----------c
        [ timeouts(between=5) ]
        S-a-b----#          StallTimeoutError, 5 s after b

    The timeouts are driven by the clock, whether or not chunks arrive. Only content (`Token`,
    `Reasoning`, `ToolCall`, `Json`, `Batch`) ends the wait for the first token and resets the limit
    between tokens; a `Start`, a notice or a heartbeat doesn't. After an `End` (of the stream, not
    of one source of a merge) only the total runs, until another answer starts. The time to connect
    is limited by the remote model itself (`connect_timeout`), and is part of `first`.

    None of the limits runs while the stream, or one of those of a merge, waits for its slot in
    `limit_concurrency` or for `limit`, wherever these stand in the pipe: waiting for a slot isn't
    waiting for a token.

    First-token and stall timeouts are classified as `"fallback"`: a fallback handles them, and a
    retry doesn't, since asking a silent model again multiplies the wait. A total timeout is
    classified as `"raise"`. Put this before those operators, or `total` after them to limit all
    attempts together.

    - Completion, error: passed on, and the timer is cancelled.
    - Restart: passed on. The clocks continue: the total keeps running, and the next content is due
      `between` seconds after the last one (or after the restart, if an `End` came before it), or
      within `first` if there was none.
    - Disposal: the timer is cancelled.
    - Demand: passes through; nothing is held back, the text passed on is kept for the error. While
      the valve is closed, `first` and `between` don't run; `total` does. The same while a local
      model is loaded (from `Notice("loading")` to the next chunk).

    Each subscription has one timer, which isn't rescheduled for each token. If it fires late, the
    process was stopped (a closed lid, SIGSTOP, a blocked loop): it waits 0.1 s, so that the tokens
    that arrived in the meantime are read before a limit counts.

    Args:
        first: seconds from the subscription to the first content, or `None` for no limit.
        between: seconds between two pieces of content, or `None` for no limit.
        total: seconds from the subscription to the end, or `None` for no limit.

    Raises:
        ValueError: a limit is not above 0, or no limit is given.
        TypeError: a limit is not a number.
        FirstTokenTimeoutError, StallTimeoutError, TotalTimeoutError: into `on_error`, with the
            text that was passed on in `partial`, after the source was disposed.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> for time, event in marbles.run(marbles.cold("S-a-b").pipe(timeouts(between=5))):
    ...     print(time, getattr(event, "text", None) or repr(event)[:20])
    0.0 Start(request_id='re
    2.0 a
    4.0 b
    9.0 StallTimeoutError('n
    """
    limits = (first, between, total)
    for name, limit in zip(("first", "between", "total"), limits, strict=True):
        if limit is not None:
            check_number(name, limit, "a limit in seconds, or None", above=0)
    if limits == (None, None, None):
        raise ValueError("timeouts takes at least one limit: first, between or total")
    seconds = [_NEVER if limit is None else float(limit) for limit in limits]

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Subscription(observer, scheduler, *seconds).start(source)

        return Stream(subscribe, "timeouts", of_chunks=True)

    return operator


class _Subscription:
    """One subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        first: float,
        between: float,
        total: float,
    ) -> None:
        self._observer = observer
        self._given_scheduler = scheduler
        self._scheduler = scheduler_or_default(scheduler)
        self._clock = clock_of(self._scheduler)
        self._first, self._between, self._total = first, between, total
        self._transcript = Transcript()
        self._has_begun = False
        self._has_ended = False
        self._open: dict[str | None, None] = {}  # sources of answers that have started
        self._begun = self._fed = self._clock()  # the subscription, and the last content
        self._valve = valve_of(self._scheduler)
        self._stopped_at: float | None = None if self._valve.is_open else self._begun
        self._is_loading = False
        self._waiting_since: float | None = None
        self._timer = DeadlineTimer(self._scheduler, self._check, is_patient=True)
        self._upstream = SingleAssignmentDisposable()
        self._subscription = CompositeDisposable(
            self._upstream, self._timer, self._valve.on_change(self._on_valve)
        )

    def start(self, source: Observable[Chunk]) -> abc.DisposableBase:
        self._set_timer()
        self._upstream.disposable = source.subscribe(
            self._make_on_next(),
            self._observer.on_error,
            self._observer.on_completed,
            scheduler=with_waits(
                self._given_scheduler, Waits(waits_of(self._given_scheduler), self._on_wait)
            ),
        )
        return self._subscription

    def _make_on_next(self) -> Callable[[Chunk], None]:
        """The `on_next` of the subscription: a closure, which saves attribute look-ups."""
        add, observer, clock = self._transcript.add, self._observer, self._clock

        def on_next(chunk: Chunk) -> None:
            add(chunk)
            if self._is_loading:
                self._is_loading = False
                self._go_on()
            if (type(chunk) is Token and chunk.text) or has_output(chunk):
                self._fed = now = clock()
                if self._stopped_at is not None:
                    self._stopped_at = now  # the time in which it was stopped no longer counts
                if not self._has_begun:
                    self._has_begun = True
                    self._set_timer()
            elif type(chunk) is End:
                self._has_ended = self._has_ended or chunk.source is None
                self._close(matching_sources(self._open, chunk.source))
            elif type(chunk) is ToolResult:
                self._close(nested_in(self._open, chunk))
                self._has_ended = self._has_ended or not self._open
            elif type(chunk) is Notice and chunk.kind == "loading":
                self._is_loading = True
                self._stop()
            elif type(chunk) is Start or is_restart(chunk):
                self._open[chunk.source] = None
                if self._has_ended:
                    self._begin_again()
            try:
                observer.on_next(chunk)
            except BaseException:
                self._subscription.dispose()  # or the timer would start a fallback
                raise

        return on_next

    def _close(self, sources: Sequence[str | None]) -> None:
        """No content is due once all answers have ended: tools may run, or people decide."""
        for source in sources:
            del self._open[source]
        if sources and not self._open:
            self._has_ended = True

    def _begin_again(self) -> None:
        self._has_ended = False
        self._fed = self._clock()
        if self._stopped_at is not None:
            self._stopped_at = self._fed
        self._set_timer()

    def _on_valve(self, is_open: bool) -> None:
        self._stop() if not is_open else self._go_on()

    def _on_wait(self, is_waiting: bool) -> None:
        if self._subscription.is_disposed:
            return
        if is_waiting:
            self._waiting_since = self._clock()
            self._stop()
        elif self._waiting_since is not None:
            self._begun += self._clock() - self._waiting_since
            self._waiting_since = None
            self._go_on()
            self._set_timer()

    def _stop(self) -> None:
        if self._stopped_at is None:
            self._stopped_at = self._clock()

    def _go_on(self) -> None:
        is_held = self._is_loading or self._waiting_since is not None or not self._valve.is_open
        if self._stopped_at is not None and not is_held:
            self._fed += self._clock() - self._stopped_at
            self._stopped_at = None
            self._set_timer()

    def _deadlines(self) -> tuple[float, float]:
        """When the next content and the end are due."""
        wait = self._between if self._has_begun else self._first
        is_awaited = self._stopped_at is None and not self._has_ended
        content = self._fed + wait if is_awaited else _NEVER
        return content, self._begun + self._total if self._waiting_since is None else _NEVER

    def _set_timer(self) -> None:
        self._timer.set(min(self._deadlines()))

    def _check(self) -> None:
        content, end = self._deadlines()
        now = self._clock() + RESOLUTION
        if end <= now and end <= content:
            self._fail(TotalTimeoutError(f"the stream took more than {self._total:g} s"))
        elif content <= now and self._has_begun:
            self._fail(StallTimeoutError(f"no token for {self._between:g} s"))
        elif content <= now:
            self._fail(FirstTokenTimeoutError(f"no token within {self._first:g} s"))
        else:
            self._set_timer()

    def _fail(self, error: StreamTimeoutError) -> None:
        self._subscription.dispose()
        self._transcript.write_partial(error)
        self._observer.on_error(error)
