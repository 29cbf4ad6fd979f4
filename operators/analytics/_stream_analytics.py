"""`StreamAnalytics` and `analyze`: statistics over many streams."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from statistics import fmean
from typing import Any, Literal

import msgspec
from reactivex import Observable

from rxllm.arguments import check_int
from rxllm.chunks import Chunk, ErrorInfo, Outcome
from rxllm.operators.analytics._measure import measure
from rxllm.operators.analytics._measurement import Measurement
from rxllm.stream import Stream

__all__ = ["AnalyticsReport", "StreamAnalytics", "StreamRecord", "analyze"]


class StreamRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The current state of one stream.

    Attributes:
        id: given to `analyze`, or `"stream-1"`, `"stream-2"`, ...
        outcome: `"running"`, then `"completed"`, `"failed"` or `"cancelled"`.
        model: from the last `Start`.
        started: in Unix seconds.
        duration: seconds until now, or until the end.
        time_to_first_token: seconds; `None` before it.
        tokens: number of text and reasoning chunks, or the count reported by `Usage`.
        chunks: number of text and reasoning chunks.
        tokens_per_second: `None` until time has passed.
        steps: number of answers: several in a run of an agent, without those of nested runs.
        tool_calls: number of tool calls with a result, likewise.
        error: the error of a failed stream.
        metadata: what was given to `analyze`.
    """

    id: str
    outcome: Outcome | Literal["running"]
    started: float
    duration: float
    tokens: int
    chunks: int = 0
    model: str | None = None
    time_to_first_token: float | None = None
    tokens_per_second: float | None = None
    steps: int = 0
    tool_calls: int = 0
    error: ErrorInfo | None = None
    metadata: Mapping[str, Any] = {}

    @property
    def ended(self) -> float | None:
        """When it ended, in Unix seconds; `None` while it runs."""
        return None if self.outcome == "running" else self.started + self.duration


class AnalyticsReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The outcomes of all streams, and the performance of the latest ones.

    Attributes:
        created, active, completed, failed, cancelled: number of streams since the beginning.
        success_rate: completed / (completed + failed), 0..1; `None` before one of them has ended.
        total_tokens: tokens of all streams since the beginning.
        total_seconds: the sum of their durations.
        tokens_per_second: `total_tokens / total_seconds`; `None` until time has passed.
        streams: number of ended streams that the following figures cover.
        mean_duration, mean_time_to_first_token: in seconds; `None` if no stream has a value.
        mean_chunks: text and reasoning chunks of a stream; `None` if there are no streams.
        mean_tokens_per_second: over the completed ones of these streams.
        fastest, slowest: by tokens per second, among the completed ones of these streams.
        errors: number of failed ones among these streams, by error class.
        failures: the failed ones among these streams, the latest first, with their ids, times and
            errors.
    """

    created: int
    active: int
    completed: int
    failed: int
    cancelled: int
    success_rate: float | None
    total_tokens: int
    total_seconds: float
    tokens_per_second: float | None
    streams: int
    mean_duration: float | None
    mean_chunks: float | None
    mean_time_to_first_token: float | None
    mean_tokens_per_second: float | None
    fastest: StreamRecord | None
    slowest: StreamRecord | None
    errors: dict[str, int]
    failures: tuple[StreamRecord, ...]


class StreamAnalytics:
    """Statistics over all streams that have `analyze(analytics)` in their pipe.

    The cost of a chunk doesn't depend on the number of streams; memory is bounded by the active
    streams and the history.

    Args:
        history: number of ended streams to keep, 1 or more; the oldest are dropped first.

    Attributes:
        created: number of subscriptions.
        completed, failed, cancelled: number of streams with that outcome.

    Raises:
        TypeError: `history` is not an integer.
        ValueError: `history` is below 1.

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
        self._tokens = 0  # of ended streams
        self._seconds = 0.0
        self._active: dict[Measurement, _Stream] = {}
        self._history: deque[_Stream] = deque(maxlen=kept)
        self._streams: dict[str, dict[_Stream, None]] = {}  # the same streams by id, latest last

    @property
    def active(self) -> int:
        """The number of running streams."""
        return len(self._active)

    @property
    def streams(self) -> list[StreamRecord]:
        """The active streams, in the order in which they started."""
        return [stream.record for stream in self._active.values()]

    @property
    def history(self) -> list[StreamRecord]:
        """The latest ended streams, in the order in which they ended."""
        return [stream.record for stream in self._history]

    def find(self, stream_id: str) -> StreamRecord | None:
        """Return the active or ended stream with that id, the latest to start, or `None`."""
        streams = self._streams.get(stream_id)
        return next(reversed(streams)).record if streams else None

    def report(self, last: int = 50) -> AnalyticsReport:
        """Return the current totals, with figures over the `last` streams that have ended.

        Raises:
            TypeError: `last` is not an integer.
            ValueError: `last` is below 1.
        """
        counted = check_int("last", last, "the number of ended streams to include")
        ended = [stream.record for stream in islice(reversed(self._history), counted)]
        fast = [each for each in ended if each.outcome == "completed" and each.tokens_per_second]
        fast.sort(key=lambda each: each.tokens_per_second or 0.0)
        failures = tuple([each for each in ended if each.error is not None])
        judged = self.completed + self.failed
        tokens = self._tokens + sum(measured.tokens for measured in self._active)
        seconds = self._seconds + sum(measured.elapsed for measured in self._active)
        return AnalyticsReport(
            created=self.created,
            active=self.active,
            completed=self.completed,
            failed=self.failed,
            cancelled=self.cancelled,
            success_rate=self.completed / judged if judged else None,
            total_tokens=tokens,
            total_seconds=seconds,
            tokens_per_second=tokens / seconds if seconds > 0 else None,
            streams=len(ended),
            mean_duration=_mean(each.duration for each in ended),
            mean_chunks=_mean(each.chunks for each in ended),
            mean_time_to_first_token=_mean(each.time_to_first_token for each in ended),
            mean_tokens_per_second=_mean(each.tokens_per_second for each in fast),
            fastest=fast[-1] if fast else None,
            slowest=fast[0] if fast else None,
            errors=dict(Counter(each.error.type for each in failures if each.error is not None)),
            failures=failures,
        )

    def begin(
        self, stream_id: str | None, metadata: Mapping[str, Any], measurement: Measurement
    ) -> None:
        """Record that a stream has started. Called by `analyze`."""
        self.created += 1
        stream_id = f"stream-{self.created}" if stream_id is None else stream_id
        stream = _Stream(stream_id, metadata, measurement)
        self._active[measurement] = stream
        self._streams.setdefault(stream.id, {})[stream] = None

    def end(self, measurement: Measurement) -> None:
        """Record that a stream has ended. Called by `analyze`."""
        stream = self._active.pop(measurement)
        self._tokens += measurement.tokens
        self._seconds += measurement.elapsed
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

    def __init__(
        self, stream_id: str, metadata: Mapping[str, Any], measurement: Measurement
    ) -> None:
        self.id = stream_id
        self._metadata = metadata
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
            chunks=measured.pieces,
            model=measured.model,
            time_to_first_token=measured.time_to_first_token,
            tokens_per_second=measured.tokens_per_second,
            steps=measured.steps,
            tool_calls=measured.tool_calls,
            error=measured.error,
            metadata=self._metadata,
        )


def analyze(
    analytics: StreamAnalytics,
    stream_id: str | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Include the stream in the statistics of `analytics`.

    ::

        S--a-b-E|
        [ analyze(analytics) ]
        S--a-b-E|                 analytics: created 1, active 1, then completed 1

    All chunks pass through unchanged.

    - Completion, error, disposal: the stream is counted as completed, failed or cancelled.
    - Restart: the tokens of that stream are counted from 0 again.
    - Demand: passes through; nothing is held.

    Args:
        analytics: shared by all streams to be counted together.
        stream_id: the id to find this stream by, or `None` to number it (`"stream-1"`, ...).
        metadata: kept with the record, such as the prompt and the options; nothing is kept of them
            otherwise.

    Raises:
        TypeError: `analytics` is not a `StreamAnalytics`, `stream_id` is not a string, or
            `metadata` is not a mapping.

    >>> from rxllm.testing import Marbles
    >>> marbles, analytics = Marbles(), StreamAnalytics()
    >>> _ = marbles.run(marbles.cold("S--a-b-E|").pipe(analyze(analytics, "story")))
    >>> record = analytics.find("story")
    >>> record.outcome, record.tokens, record.time_to_first_token
    ('completed', 2, 3.0)
    """
    if not isinstance(analytics, StreamAnalytics):
        raise TypeError(f"analytics must be a StreamAnalytics, got {type(analytics).__name__}")
    if stream_id is not None and not isinstance(stream_id, str):
        raise TypeError(f"stream_id must be a string or None, got {stream_id!r}")
    if not isinstance(metadata, Mapping | None):
        raise TypeError(f"metadata must be a mapping or None, got {metadata!r}")
    kept = {} if metadata is None else dict(metadata)
    return measure(analytics.end, on_start=partial(analytics.begin, stream_id, kept))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
