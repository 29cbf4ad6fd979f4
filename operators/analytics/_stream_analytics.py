"""`StreamAnalytics` and `analyzed`: figures over many streams."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import count, islice
from statistics import fmean

import msgspec
from reactivex import Observable, abc

from rxllm.chunks import Chunk, ErrorInfo, Start
from rxllm.operators.analytics._measure import measure
from rxllm.operators.analytics._measurement import Measurement, Outcome
from rxllm.operators.analytics._watching import Watcher, watching

__all__ = ["AnalyticsReport", "StreamAnalytics", "StreamRecord", "analyzed"]


class StreamRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One stream, as it stands.

    Attributes:
        id: given to `analyzed`, or `"stream-1"`, `"stream-2"`, ...
        outcome: `"running"`, then `"completed"`, `"failed"` or `"cancelled"`.
        model: of the last `Start`.
        started: in Unix seconds.
        duration: seconds so far, or until its end.
        time_to_first_token: seconds; None before it.
        tokens: pieces of text and reasoning, or what `Usage` said.
        tokens_per_second: None as long as no time has passed.
        error: of a stream that failed.
    """

    id: str
    outcome: Outcome
    started: float
    duration: float
    tokens: int
    model: str | None = None
    time_to_first_token: float | None = None
    tokens_per_second: float | None = None
    error: ErrorInfo | None = None


class AnalyticsReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of all streams, and how the last ones did.

    Attributes:
        created, active, completed, failed, cancelled: how many streams, since the beginning.
        success_rate: completed / (completed + failed), 0..1; None before one of them has ended.
        streams: the ended streams that the following figures are of.
        mean_duration, mean_time_to_first_token: in seconds; None where there is nothing to count.
        mean_tokens_per_second: over the completed ones of these streams.
        fastest, slowest: by tokens a second, among the completed ones of these.
        errors: how many of these failed, by class of error.
    """

    created: int
    active: int
    completed: int
    failed: int
    cancelled: int
    success_rate: float | None
    streams: int
    mean_duration: float | None
    mean_time_to_first_token: float | None
    mean_tokens_per_second: float | None
    fastest: StreamRecord | None
    slowest: StreamRecord | None
    errors: dict[str, int]


class StreamAnalytics:
    """Figures over all streams that have `analyzed(analytics)` in their pipe.

    A chunk costs the same however many streams there are and have been; memory is bounded by the
    active streams and the history.

    Args:
        history: how many ended streams are kept; older ones go first. 1 or more.

    Attributes:
        created: how many streams were subscribed to.
        completed, failed, cancelled: how many of them ended so.

    Raises:
        ValueError: `history` is below 1.

    >>> analytics = StreamAnalytics()
    >>> analytics.active, analytics.report().success_rate
    (0, None)
    """

    def __init__(self, history: int = 100) -> None:
        if history < 1:
            raise ValueError(f"history is the number of streams to keep, 1 or more: {history}")
        self.created = self.completed = self.failed = self.cancelled = 0
        self._active: dict[int, _Analyzed] = {}
        self._latest: dict[str, _Analyzed] = {}  # by id: the active and those of the history
        self._history: deque[_Analyzed] = deque()
        self._size = history
        self._numbers = count(1)

    @property
    def active(self) -> int:
        """How many streams run now."""
        return len(self._active)

    @property
    def streams(self) -> list[StreamRecord]:
        """The active streams, in the order in which they began."""
        return [stream.record for stream in self._active.values()]

    @property
    def history(self) -> list[StreamRecord]:
        """The last streams that have ended, in the order in which they did."""
        return [stream.record for stream in self._history]

    def find(self, stream_id: str) -> StreamRecord | None:
        """The active or ended stream of that id, the latest if there were several."""
        stream = self._latest.get(stream_id)
        return None if stream is None else stream.record

    def report(self, last: int = 50) -> AnalyticsReport:
        """How things stand, with figures of the `last` streams that have ended.

        Raises:
            ValueError: `last` is below 1.
        """
        if last < 1:
            raise ValueError(f"last is a number of streams, 1 or more: {last}")
        ended = [stream.record for stream in islice(reversed(self._history), last)]
        fast = [each for each in ended if each.outcome == "completed" and each.tokens_per_second]
        fast.sort(key=lambda each: each.tokens_per_second or 0.0)
        judged = self.completed + self.failed
        return AnalyticsReport(
            created=self.created,
            active=self.active,
            completed=self.completed,
            failed=self.failed,
            cancelled=self.cancelled,
            success_rate=self.completed / judged if judged else None,
            streams=len(ended),
            mean_duration=_mean(each.duration for each in ended),
            mean_time_to_first_token=_mean(each.time_to_first_token for each in ended),
            mean_tokens_per_second=_mean(each.tokens_per_second for each in fast),
            fastest=fast[-1] if fast else None,
            slowest=fast[0] if fast else None,
            errors=dict(Counter(each.error.type for each in ended if each.error is not None)),
        )

    def begin(self, stream_id: str | None) -> _Analyzed:
        """A stream begins. Called by `analyzed`."""
        number = next(self._numbers)
        stream = _Analyzed(self, number, f"stream-{number}" if stream_id is None else stream_id)
        self.created += 1
        self._active[number] = self._latest[stream.id] = stream
        return stream

    def end(self, stream: _Analyzed, outcome: Outcome) -> None:
        """A stream has ended. Called by `analyzed`."""
        del self._active[stream.number]
        self.completed += outcome == "completed"
        self.failed += outcome == "failed"
        self.cancelled += outcome == "cancelled"
        self._history.append(stream)
        if len(self._history) > self._size:
            oldest = self._history.popleft()
            if self._latest.get(oldest.id) is oldest:
                del self._latest[oldest.id]


class _Analyzed(Watcher):
    """One subscription."""

    def __init__(self, analytics: StreamAnalytics, number: int, stream_id: str) -> None:
        self.number = number
        self.id = stream_id
        self._analytics = analytics
        self._started = time.time()
        self._model: str | None = None
        self._error: ErrorInfo | None = None
        self._measurement: Measurement | None = None

    def measured(self, measurement: Measurement) -> None:
        """The measurement of this stream has begun."""
        self._measurement = measurement

    def ended(self, measurement: Measurement) -> None:
        """The measurement of this stream is done."""
        self._analytics.end(self, measurement.outcome)

    def chunk(self, chunk: Chunk) -> None:
        if type(chunk) is Start:
            self._model = chunk.model

    def failed(self, error: Exception) -> None:
        self._error = ErrorInfo.of(error)

    @property
    def record(self) -> StreamRecord:
        measured = self._measurement
        assert measured is not None  # noqa: S101 - made before anything else can happen
        return StreamRecord(
            id=self.id,
            outcome=measured.outcome,
            started=self._started,
            duration=measured.elapsed,
            tokens=measured.tokens,
            model=self._model,
            time_to_first_token=measured.time_to_first_token,
            tokens_per_second=measured.tokens_per_second,
            error=self._error,
        )


def analyzed(
    analytics: StreamAnalytics, stream_id: str | None = None
) -> Callable[[Observable[Chunk]], Observable[Chunk]]:
    """Count the stream in `analytics`, and pass everything on.

    ::

        S--a-b-E|
        [ analyzed(analytics) ]
        S--a-b-E|                 analytics: created 1, active 1, then completed 1

    - Completion, error, disposal: the stream is counted as completed, failed or cancelled.
    - Restart: the tokens of that stream are counted from 0 again.
    - Demand: passes through; nothing is held.

    Args:
        analytics: shared by all streams that are to be counted together.
        stream_id: to find this stream by; counted from `"stream-1"` if None.

    Raises:
        TypeError: `analytics` is no `StreamAnalytics`.

    >>> from rxllm.testing import Marbles
    >>> marbles, analytics = Marbles(), StreamAnalytics()
    >>> _ = marbles.run(marbles.cold("S--a-b-E|").pipe(analyzed(analytics, "story")))
    >>> record = analytics.find("story")
    >>> record.outcome, record.tokens, record.time_to_first_token
    ('completed', 2, 3.0)
    """
    if not isinstance(analytics, StreamAnalytics):
        raise TypeError(f"analyzed takes a StreamAnalytics, not {type(analytics).__name__}")

    def operator(source: Observable[Chunk]) -> Observable[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            stream = analytics.begin(stream_id)
            watched = source.pipe(
                watching(lambda _: stream), measure(stream.ended, on_start=stream.measured)
            )
            return watched.subscribe(observer, scheduler=scheduler)

        return Observable(subscribe)

    return operator


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
