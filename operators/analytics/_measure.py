"""`measure`: the timing of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Final

from reactivex import Observable

from rxllm.answer_counts import nested_in
from rxllm.arguments import check_callable
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    ErrorInfo,
    Notice,
    Outcome,
    Reasoning,
    Start,
    Token,
    ToolResult,
    Usage,
    has_output,
    is_lasting,
    is_restart,
    tokens_of,
)
from rxllm.operators.analytics._measurement import BLOCK, Measurement
from rxllm.operators.analytics._watcher import Watcher, watch
from rxllm.restart import forget
from rxllm.stream import Stream

__all__ = ["measure"]

_INSTEAD: Final = "start a task from a plain function"


def measure(
    on_result: Callable[[Measurement], object],
    *,
    on_start: Callable[[Measurement], object] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Measure the timing of the stream, and report once at the end.

    ::

        S--a-b-c-E|
        [ measure(on_result) ]
        S--a-b-c-E|               report: first token 3 s, 3 tokens, every 2 s, "completed"

    All chunks pass through unchanged. A token is a `Token` or a `Reasoning` chunk, alone or in a
    `Batch`, whose chunks count as simultaneous. At the end, `Usage.output_tokens` replaces the
    count if it is known. Times are those seen by the subscriber: delays added upstream are
    included, and so is time during which the subscriber's valve is closed. The time in which a
    local model is loaded isn't counted as waiting for the first token. Before a retry, each attempt
    is measured by itself; after it, the operation as a whole. A run of an agent is measured as a
    whole, with its steps and tool calls; the time between two answers isn't one between tokens.

    - Completion, error: the outcome is `"completed"` or `"failed"`; the report comes first.
    - Restart: the tokens of that stream are counted from 0 again; times continue.
    - Disposal: upstream is disposed, then the outcome is `"cancelled"`; the same if the subscriber
      raises at a chunk.
    - Demand: passes through; nothing is held, and there is no timer.

    If `on_result` raises, a completion becomes that error, an error is kept and gets a note, and
    on disposal the exception reaches the caller of `dispose`. If `on_start` raises, the stream
    fails with that exception, and the source is not subscribed to.

    Args:
        on_result: called once per subscription, with its measurement.
        on_start: called at each subscription, with its measurement, which can be read while the
            stream runs.

    Raises:
        TypeError: `on_result` or `on_start` can't be called, or is asynchronous.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> def on_result(measured):
    ...     print(measured.outcome, measured.time_to_first_token, measured.intervals.mean)
    >>> _ = marbles.run(marbles.cold("S--a-b-c-E|").pipe(measure(on_result)))
    completed 3.0 2.0
    """
    check_callable("on_result", on_result, "a function of the measurement", instead=_INSTEAD)
    if on_start is not None:
        check_callable("on_start", on_start, "a function of the measurement", instead=_INSTEAD)
    return watch(
        "measure", lambda clock: _MeasureWatcher(Measurement(clock), on_result, on_start, clock)
    )


class _MeasureWatcher(Watcher):
    def __init__(
        self,
        measurement: Measurement,
        on_result: Callable[[Measurement], object],
        on_start: Callable[[Measurement], object] | None,
        clock: Callable[[], float],
    ) -> None:
        self._measurement = measurement
        self._on_result = on_result
        self._on_start = on_start
        self._usage: dict[str | None, int] = {}
        self._clock = clock

    def begun(self) -> None:
        if self._on_start is not None:
            self._on_start(self._measurement)

    def watch(self) -> Callable[[Chunk], None]:
        measured, usage, clock = self._measurement, self._usage, self._clock
        counts, moments, fold = measured.counts, measured.moments, measured.fold

        def count(chunk: Chunk) -> None:
            source = chunk.source
            if type(chunk) is Token or type(chunk) is Reasoning:
                if not chunk.text:
                    return
                tokens = chunk.tokens if type(chunk) is Token else 1
                try:
                    counts[source] += tokens
                except KeyError:
                    counts[source] = tokens
                moments.append(clock())
                if len(moments) > BLOCK:
                    fold()
            elif type(chunk) is Batch:
                counts[source] = counts.get(source, 0) + tokens_of(chunk)
                moments.extend(repeat(clock(), sum(map(has_output, chunk.chunks))))
                if len(moments) > BLOCK:
                    fold()
            elif type(chunk) is Usage:
                usage[source] = chunk.output_tokens
            elif type(chunk) is Notice:
                measured.note_loading(chunk)
                if is_restart(chunk):
                    forget(usage, source)
                    counts.note(chunk)
                    measured.run.note(chunk)
            else:
                self._on_border(chunk)

        return count

    def _on_border(self, chunk: Chunk) -> None:
        """Note what isn't text: the starts and ends of answers, tool calls and their results."""
        measured = self._measurement
        if type(chunk) is Start:
            measured.model = chunk.model
            measured.note_loading(chunk)
        elif type(chunk) is End and chunk.more:
            self._book([chunk.source])
            measured.counts.note(chunk)
        elif type(chunk) is ToolResult:
            self._book(nested_in(measured.counts, chunk))
            measured.counts.note(chunk)
        if is_lasting(chunk):
            measured.pause()
        measured.run.note(chunk)

    def _book(self, sources: Iterable[str | None]) -> None:
        """Count the tokens of answers that are complete as their usage reports them."""
        counts = self._measurement.counts
        for source in sources:
            if used := self._usage.pop(source, 0):
                counts[source] = counts.committed(source) + used

    def completed(self) -> None:
        self._finish("completed")

    def failed(self, error: Exception) -> None:
        self._measurement.error = ErrorInfo.of(error)
        self._finish("failed")

    def cancelled(self) -> None:
        self._finish("cancelled")

    def _finish(self, outcome: Outcome) -> None:
        counts = self._measurement.counts
        used = {
            each: counts.committed(each) + tokens for each, tokens in self._usage.items() if tokens
        }
        self._measurement.finish(outcome, used)
        self._on_result(self._measurement)
