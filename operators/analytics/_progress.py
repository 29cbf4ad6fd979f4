"""`progress`: progress reports within the stream."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable

from rxllm.answer_counts import AnswerCounts
from rxllm.arguments import check_int
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Notice,
    Progress,
    Reasoning,
    Start,
    Token,
    is_bare_state,
    is_restart,
    tokens_of,
)
from rxllm.expected_tokens import ExpectedTokens
from rxllm.operators.analytics._stages import BEGINS, generated_percentage
from rxllm.restart import forget
from rxllm.stream import Stream
from rxllm.valve import clock_of, valve_of

__all__ = ["progress"]


def progress(
    every: int = 10, max_tokens: int | None = None
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Insert a `Progress` after every `every` tokens, and before `End`.

    ::

        S-a-b-c--E|
        [ progress(every=2) ]
        S-a-(b,P)-c-(P,E)|        P: Progress(tokens=2, ...), Progress(tokens=3, ...)

    The tokens are those that a `Token` or `Reasoning` chunk completes (see `Token.tokens`), alone
    or in a `Batch`; a chunk that crosses several multiples of `every` is followed by one
    `Progress`. Sources are counted separately.
    `elapsed` is in seconds since the subscription. `tokens_per_second` and `characters_per_second`
    are the speed of the model: what came since the last `Start` of their source (or after the first
    token, if there was no `Start`), divided by the time since then. They exclude any wait before
    the stream starts, such as in `limit_concurrency`, and time during which the valve is closed and
    no chunk arrives, such as a pause. They are `None` until there is such a token and time has
    passed. `percentage` is at most 100. `percentage` and `remaining` (seconds, at this speed; 0
    before the last `End`) are `None` without `max_tokens`.

    - Completion, error: passed on.
    - Restart: tokens and speed of that stream are counted from 0 again; `elapsed` continues.
    - Disposal: upstream is disposed; nothing is held, and there is no timer.
    - Demand: passes through; a `Progress` is sent together with the token that it follows.

    Args:
        every: tokens between two `Progress` chunks, 1 or more.
        max_tokens: expected maximum number of tokens, 1 or more, or `None` for that of the request,
            which its `Start` has.

    Raises:
        TypeError: `every` or `max_tokens` is not an integer.
        ValueError: one of them is below 1.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> source = marbles.cold("-a-b-c|")
    >>> events = marbles.run(source.pipe(progress(every=2, max_tokens=8)))
    >>> [(e.tokens, e.tokens_per_second, e.percentage, e.remaining) for _, e in events[2:3]]
    [(2, 0.5, 25.0, 12.0)]
    """
    check_int("every", every, "the number of tokens between two reports")
    if max_tokens is not None:
        check_int("max_tokens", max_tokens, "the expected maximum number of tokens, or None")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            subscription = _Subscription(observer, clock_of(scheduler), every, max_tokens)
            valve = valve_of(scheduler)
            subscription.watch(valve.is_open)
            return CompositeDisposable(
                valve.on_change(subscription.watch),
                source.subscribe(
                    subscription.make_on_next(),
                    observer.on_error,
                    observer.on_completed,
                    scheduler=scheduler,
                ),
            )

        stream = Stream[Chunk](subscribe, "progress", of_chunks=True)
        stream.has_progress = True
        return stream

    return operator


class _Subscription:
    """One subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        clock: Callable[[], float],
        every: int,
        max_tokens: int | None,
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._every = every
        self._expected = ExpectedTokens(max_tokens)
        self._percentages: dict[str | None, float] = {}  # the last ones
        self._work: Progress | None = None  # as a whole, from `track_stages`
        self._subscribed = clock()
        self._counts = AnswerCounts()
        self._characters = AnswerCounts()
        self._begun: dict[str | None, tuple[float, int, int]] = {}  # time, and what came before
        self._held = 0.0  # seconds during which the valve was closed and no chunk arrived
        self._held_since: float | None = None

    def watch(self, is_open: bool) -> None:
        """Called when the valve opens or closes."""
        if self._held_since is not None:
            self._held += self._clock() - self._held_since
        self._held_since = None if is_open else self._clock()

    def make_on_next(self) -> Callable[[Chunk], None]:
        """Return `on_next` as a closure, so that a token costs few attribute lookups."""
        observer, counts, every = self._observer, self._counts, self._every
        characters = self._characters

        def on_next(chunk: Chunk) -> None:
            if self._held_since is not None:
                self._held_since = self._clock()  # a chunk that still arrives counts its time
            source = chunk.source
            if (type(chunk) is Token or type(chunk) is Reasoning) and not is_bare_state(chunk):
                observer.on_next(chunk)
                before = counts.get(source, 0)
                counts[source] = tokens = before + (chunk.tokens if type(chunk) is Token else 1)
                characters[source] = characters.get(source, 0) + len(chunk.text)
                if not before:
                    self._begun.setdefault(source, self._point(source))
                if tokens // every > before // every:
                    self._emit_progress(tokens, source)
            elif type(chunk) is Batch:
                observer.on_next(chunk)
                before = counts.get(source, 0)
                counts[source] = tokens = before + tokens_of(chunk)
                length = sum([len(part.text) for part in chunk.chunks])
                characters[source] = characters.get(source, 0) + length
                if not before:
                    self._begun.setdefault(source, self._point(source))
                if tokens // every > before // every:
                    self._emit_progress(tokens, source)
            elif type(chunk) is Progress:
                observer.on_next(self._noted(chunk))
            else:
                self._on_control_chunk(chunk, source)
                observer.on_next(chunk)

        return on_next

    def _on_control_chunk(self, chunk: Chunk, source: str | None) -> None:
        counts = self._counts
        counts.note(chunk)
        self._characters.note(chunk)
        if type(chunk) is Start:
            self._begun[source] = self._point(source)
            self._expected.start(chunk, counts.get(source, 0))
        elif type(chunk) is Notice:
            self._expected.notice(chunk)
            if is_restart(chunk):
                forget(self._begun, source)
                forget(self._percentages, source)
        elif type(chunk) is End and (source in counts or not counts):
            self._emit_progress(counts.get(source, 0), source, ended=not chunk.more)

    def _noted(self, progress: Progress) -> Progress:
        """Note the progress of the work as a whole, which never falls."""
        if not progress.stages:
            return progress
        if self._work is not None and (self._work.percentage or 0) > (progress.percentage or 0):
            progress = replace(progress, percentage=self._work.percentage)
        self._work = progress
        return progress

    def _point(self, source: str | None) -> tuple[float, int, int]:
        return self._active_time(), self._counts.get(source, 0), self._characters.get(source, 0)

    def _active_time(self) -> float:
        """The current time on a clock that stops while the valve is closed and nothing arrives."""
        now = self._clock() if self._held_since is None else self._held_since
        return now - self._held

    def _emit_progress(self, tokens: int, source: str | None, *, ended: bool = False) -> None:
        now, _, characters = point = self._point(source)
        since, before, characters_before = self._begun.get(source, point)
        is_measured = tokens > before and now > since
        progress = Progress.of(
            tokens,
            self._clock() - self._subscribed,
            (tokens - before) / (now - since) if is_measured else None,
            self._expected.of(source),
            ended=ended,
            characters_per_second=(
                (characters - characters_before) / (now - since) if is_measured else None
            ),
            source=source,
        )
        if self._work is not None:
            progress = self._of_the_work(progress, self._work)
        elif progress.percentage is not None:
            percentage = max(progress.percentage, self._percentages.get(source, 0.0))
            self._percentages[source] = percentage
            if percentage > progress.percentage:
                progress = replace(progress, percentage=percentage)
        self._observer.on_next(progress)

    def _of_the_work(self, progress: Progress, work: Progress) -> Progress:
        tokens = sum(self._counts.values())
        percentage = work.percentage or 0.0
        if BEGINS["generate"] <= percentage < BEGINS["complete"]:
            expected = work.max_tokens if work.max_tokens is not None else self._expected.total
            percentage = max(percentage, generated_percentage(tokens, expected))
        progress = replace(progress, percentage=percentage, stage=work.stage, stages=work.stages)
        self._work = replace(work, percentage=percentage)
        return progress
