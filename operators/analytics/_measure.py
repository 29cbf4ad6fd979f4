"""`measure`: how fast a stream is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxllm.chunks import Batch, Chunk, Reasoning, Token, Usage, is_restart
from rxllm.operators._per_source import forget
from rxllm.operators.analytics._measurement import BLOCK, Measurement, Outcome
from rxllm.valve import clock_of

__all__ = ["measure"]


def measure(
    report: Callable[[Measurement], object],
    *,
    on_start: Callable[[Measurement], object] | None = None,
) -> Callable[[Observable[Chunk]], Observable[Chunk]]:
    """Pass everything on, measure it, and report once at the end.

    ::

        S--a-b-c-E|
        [ measure(report) ]
        S--a-b-c-E|               report: first token 3 s, 3 tokens, every 2 s, "completed"

    A token is a `Token` or a `Reasoning` chunk, alone or in a `Batch`, whose chunks come at one
    time. At the end `Usage.output_tokens` replaces the count, where it is given. Time is that of
    the subscriber: what holds chunks back upstream is measured with them. Time in which the
    subscriber's valve is closed counts.

    - Completion, error: the outcome is `"completed"` or `"failed"`; the report comes first.
    - Restart: the tokens of that stream are counted from 0 again; times go on.
    - Disposal: upstream is disposed, then the outcome is `"cancelled"`.
    - Demand: passes through; nothing is held, and there is no timer.

    If `report` raises, a completion becomes that error; an error stays what it was, and gets a
    note; out of a disposal it reaches whoever disposes. If `on_start` raises, that is the error of
    the stream, and the source is not subscribed to.

    Args:
        report: called once for each subscription, with its measurement.
        on_start: called at each subscription, with the measurement that is going to be made, to
            be read while the stream runs.

    Raises:
        TypeError: `report` or `on_start` can't be called.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> def report(measured):
    ...     print(measured.outcome, measured.time_to_first_token, measured.intervals.mean)
    >>> _ = marbles.run(marbles.cold("S--a-b-c-E|").pipe(measure(report)))
    completed 3.0 2.0
    """
    if not callable(report) or not (on_start is None or callable(on_start)):
        raise TypeError("measure takes a function that is called with the measurement")

    def operator(source: Observable[Chunk]) -> Observable[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            measuring = _Measuring(observer, report, clock_of(scheduler))
            if on_start is not None:
                on_start(measuring.measurement)
            upstream = source.subscribe(
                measuring.counting(),
                measuring.on_error,
                measuring.on_completed,
                scheduler=scheduler,
            )
            return CompositeDisposable(upstream, Disposable(measuring.on_disposed))

        return Observable(subscribe)

    return operator


class _Measuring:
    """One subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        report: Callable[[Measurement], object],
        clock: Callable[[], float],
    ) -> None:
        self.measurement = Measurement(clock)
        self._observer = observer
        self._report = report
        self._clock = clock
        self._usage: dict[str | None, int] = {}

    def counting(self) -> Callable[[Chunk], None]:
        """What is called with each chunk: a closure, so that a token costs no look-up on self."""
        pass_on, clock, usage = self._observer.on_next, self._clock, self._usage
        measured = self.measurement
        counts, moments, fold = measured.counts, measured.moments, measured.fold

        def on_next(chunk: Chunk) -> None:
            source = chunk.source
            if type(chunk) is Token or type(chunk) is Reasoning:
                counts[source] = counts.get(source, 0) + 1
                moments.append(clock())
                if len(moments) > BLOCK:
                    fold()
            elif type(chunk) is Batch:
                counts[source] = counts.get(source, 0) + len(chunk.chunks)
                moments.extend(repeat(clock(), len(chunk.chunks)))
                if len(moments) > BLOCK:
                    fold()
            elif type(chunk) is Usage:
                usage[source] = chunk.output_tokens
            elif is_restart(chunk):
                forget(usage, source)
                forget(counts, source)
            pass_on(chunk)

        return on_next

    def on_error(self, error: Exception) -> None:
        try:
            self._finish("failed")
        except Exception as failure:
            error.add_note(f"the report of measure() failed too: {failure!r}")
        self._observer.on_error(error)

    def on_completed(self) -> None:
        try:
            self._finish("completed")
        except Exception as failure:
            self._observer.on_error(failure)
        else:
            self._observer.on_completed()

    def on_disposed(self) -> None:
        if self.measurement.outcome == "running":
            self._finish("cancelled")

    def _finish(self, outcome: Outcome) -> None:
        used = {source: tokens for source, tokens in self._usage.items() if tokens}
        self.measurement.finish(outcome, used)
        self._report(self.measurement)
