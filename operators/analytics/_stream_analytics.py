"""`StreamAnalytics` and `analyze`: figures over many streams."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from statistics import fmean
from typing import Literal

import msgspec
from reactivex import Observable

from rxllm.arguments import check_int
from rxllm.chunks import Chunk, ErrorInfo, Outcome
from rxllm.operators.analytics._measure import measure
from rxllm.operators.analytics._measurement import Measurement
from rxllm.stream import Stream

__all__ = ["AnalyticsReport", "StreamAnalytics", "StreamRecord", "analyze"]


class StreamRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One stream, as it stands.

    Attributes:
        id: given to `analyze`, or `"stream-1"`, `"stream-2"`, ...
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
    outcome: Outcome | Literal["running"]
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
    """Figures over all streams that have `analyze(analytics)` in their pipe.

    A chunk costs the same however many streams there are and have been; memory is bounded by the
    active streams and the history.

    Args:
        history: how many ended streams are kept; older ones go first. 1 or more.

    Attributes:
        created: how many streams were subscribed to.
        completed, failed, cancelled: how many of them ended so.

    Raises:
        TypeError: `history` is not an integer.
        ValueError: it is below 1.

    >>> analytics = StreamAnalytics()
    >>> analytics.active, analytics.report().success_rate
    (0, None)
    """

    def __init__(self, history: int = 100) -> None:
        kept = check_int("history", history, "the number of ended streams to keep")
        self.created: int = 0
        self.completed: int = 0
        self.failed: int = 0
        self.cancelled: int = 0
        self._active: dict[Measurement, _Stream] = {}
        self._history: deque[_Stream] = deque(maxlen=kept)
        self._streams: dict[str, dict[_Stream, None]] = {}  # the same ones by id, the latest last

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
        """The active or ended stream of that id, the latest to begin if there are several."""
        streams = self._streams.get(stream_id)
        return next(reversed(streams)).record if streams else None

    def report(self, last: int = 50) -> AnalyticsReport:
        """How things stand, with figures of the `last` streams that have ended.

        Raises:
            TypeError: `last` is not an integer.
            ValueError: it is below 1.
        """
        counted = check_int("last", last, "the number of ended streams to look at")
        ended = [stream.record for stream in islice(reversed(self._history), counted)]
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

    def begin(self, stream_id: str | None, measurement: Measurement) -> None:
        """A stream begins. Called by `analyze`."""
        self.created += 1
        stream = _Stream(f"stream-{self.created}" if stream_id is None else stream_id, measurement)
        self._active[measurement] = stream
        self._streams.setdefault(stream.id, {})[stream] = None

    def end(self, measurement: Measurement) -> None:
        """A stream has ended. Called by `analyze`."""
        stream = self._active.pop(measurement)
        outcome = measurement.outcome
        self.completed += outcome == "completed"
        self.failed += outcome == "failed"
        self.cancelled += outcome == "cancelled"
        if len(self._history) == self._history.maxlen:
            self._forget(self._history[0])
        self._history.append(stream)

    def _forget(self, stream: _Stream) -> None:
        streams = self._streams[stream.id]
        del streams[stream]
        if not streams:
            del self._streams[stream.id]


class _Stream:
    """One subscription."""

    def __init__(self, stream_id: str, measurement: Measurement) -> None:
        self.id = stream_id
        self._measurement = measurement
        self._started = time.time()

    @property
    def record(self) -> StreamRecord:
        measured = self._measurement
        return StreamRecord(
            id=self.id,
            outcome=measured.outcome,
            started=self._started,
            duration=measured.elapsed,
            tokens=measured.tokens,
            model=measured.model,
            time_to_first_token=measured.time_to_first_token,
            tokens_per_second=measured.tokens_per_second,
            error=measured.error,
        )


def analyze(
    analytics: StreamAnalytics, stream_id: str | None = None
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Count the stream in `analytics`, and pass everything on.

    ::

        S--a-b-E|
        [ analyze(analytics) ]
        S--a-b-E|                 analytics: created 1, active 1, then completed 1

    - Completion, error, disposal: the stream is counted as completed, failed or cancelled.
    - Restart: the tokens of that stream are counted from 0 again.
    - Demand: passes through; nothing is held.

    Args:
        analytics: shared by all streams that are to be counted together.
        stream_id: to find this stream by; counted from `"stream-1"` if None.

    Raises:
        TypeError: `analytics` is no `StreamAnalytics`, or `stream_id` no string.

    >>> from rxllm.testing import Marbles
    >>> marbles, analytics = Marbles(), StreamAnalytics()
    >>> _ = marbles.run(marbles.cold("S--a-b-E|").pipe(analyze(analytics, "story")))
    >>> record = analytics.find("story")
    >>> record.outcome, record.tokens, record.time_to_first_token
    ('completed', 2, 3.0)
    """
    if not isinstance(analytics, StreamAnalytics):
        raise TypeError(f"analyzed takes a StreamAnalytics, not {type(analytics).__name__}")
    if stream_id is not None and not isinstance(stream_id, str):
        raise TypeError(f"stream_id is the name of the stream, a string, not {stream_id!r}")
    return measure(analytics.end, on_start=partial(analytics.begin, stream_id))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
