"""Streams until one of them sends content: the machinery of `race` and `hedge`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TypeAlias

import msgspec
from reactivex import abc
from reactivex.disposable import Disposable
from reactivex.disposable import SingleAssignmentDisposable as Single

from rxllm.answer_schema import schema_of
from rxllm.chunks import Chunk, has_output
from rxllm.operators.combining._open_timer import OpenTimer
from rxllm.operators.combining._streams import (
    Record,
    Streams,
    StreamSummary,
    all_failed,
    failed,
    note_source,
)
from rxllm.operators.combining._subscriber import Subscriber
from rxllm.stream import Stream
from rxllm.tagging import tagging
from rxllm.valve import clock_of, scheduler_or_default

__all__ = ["RaceResult", "run_race"]


class RaceResult(msgspec.Struct, frozen=True):
    """The result of a race.

    Attributes:
        winner: the name of the first stream to send content, or `None` if there was none.
        seconds: the time from the start to the winner's first content, or to the end of the race.
        losers: summaries of the other streams that had started.
    """

    winner: str | None
    seconds: float
    losers: dict[str, StreamSummary]

    @property
    def wasted(self) -> float:
        """The total running time of the losers in seconds."""
        return sum(summary.duration for summary in self.losers.values())


Report: TypeAlias = Callable[[RaceResult], object]


def run_race(
    name: str, streams: Streams, *, after: float | None, on_result: Report | None
) -> Stream[Chunk]:
    """The first of `streams` to send content, tagged with its name.

    Args:
        name: the name of the combined stream.
        streams: streams by name.
        after: seconds before the other streams start, or `None` to start all at once.
        on_result: called once.
    """

    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return _RaceRun(streams, observer, scheduler_or_default(scheduler), on_result).start(after)

    answer_schema = schema_of(*streams.values())
    return Stream(subscribe, name, of_chunks=True, answer_schema=answer_schema)


class _Racer:
    """One stream of a race."""

    __slots__ = ("before", "record", "upstream", "won")

    def __init__(self, clock: Callable[[], float], together: float) -> None:
        self.record = Record(clock, together)
        self.before: list[Chunk] = []  # chunks before its first content
        self.upstream = Single()
        self.won = False


class _RaceRun:
    """One subscription."""

    def __init__(
        self,
        streams: Streams,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
        on_result: Report | None,
    ) -> None:
        self._streams = streams
        self._next = iter(streams)
        self._subscriber = Subscriber(observer, self._dispose)
        self._scheduler = scheduler
        self._clock = clock_of(scheduler)
        self._begun = self._clock()
        self._on_result = on_result
        self._racers: dict[str, _Racer] = {}
        self._beginning = False
        self._decided = False
        self._timer: OpenTimer | None = None

    def start(self, after: float | None) -> abc.DisposableBase:
        if after is not None:
            # Set before the first stream starts, which may end synchronously.
            self._timer = OpenTimer(self._scheduler, after, self._begin)
        self._begin(None if after is None else 1)
        return Disposable(self._dispose)

    def _begin(self, most: int | None = None) -> None:
        """Start the remaining streams, or at most `most` of them."""
        if self._beginning:
            return
        self._beginning = True
        if most is None and self._timer is not None:
            self._timer.dispose()
        try:
            for name in islice(self._next, most):
                racer = self._racers[name] = _Racer(self._clock, self._begun)
                racer.upstream.disposable = self._streams[name].subscribe(
                    tagging(name, self._on_next_of(name, racer)),
                    partial(self._on_error, name, racer),
                    partial(self._on_completed, racer),
                    scheduler=self._scheduler,
                )
                if self._decided:
                    break
        finally:
            self._beginning = False
        self._check_end()

    def _on_next_of(self, name: str, racer: _Racer) -> Callable[[Chunk], None]:
        pass_on = self._subscriber.on_next

        def on_next(chunk: Chunk) -> None:
            if racer.won:
                pass_on(chunk)
            elif self._decided:
                return
            elif has_output(chunk):
                self._win(name, racer)
                for each in racer.before:
                    pass_on(each)
                racer.before.clear()
                pass_on(chunk)
            else:
                racer.before.append(chunk)

        return on_next

    def _on_error(self, name: str, racer: _Racer, error: Exception) -> None:
        self._subscriber.reraise(error)
        racer.record.end("failed", error)
        if racer.won:
            note_source(error, name)
            self._subscriber.on_error(error)
        elif not self._decided:
            self._subscriber.on_next(failed(name, error))
            self._check_end()

    def _on_completed(self, racer: _Racer) -> None:
        racer.record.end("completed")
        if racer.won:
            self._subscriber.on_completed()
        else:
            self._check_end()

    def _win(self, name: str, racer: _Racer) -> None:
        racer.won = True
        try:
            self._decide(name)
        except Exception as error:
            racer.upstream.dispose()
            self._subscriber.on_error(error)

    def _check_end(self) -> None:
        """If no stream is running, start the remaining ones; if there are none, nobody wins."""
        running = any(racer.record.summary is None for racer in self._racers.values())
        if running or self._decided or self._beginning:
            return
        if len(self._racers) < len(self._streams):
            self._begin()
            return
        silent = [racer for racer in self._racers.values() if not racer.record.error]
        errors = [racer.record.error for racer in self._racers.values() if racer.record.error]
        try:
            self._decide(None)
        except Exception as failure:
            self._subscriber.on_error(failure)
            return
        if not silent:
            self._subscriber.on_error(all_failed(errors))
            return
        for chunk in silent[0].before:
            self._subscriber.on_next(chunk)
        self._subscriber.on_completed()

    def _dispose(self) -> None:
        if not self._decided:
            self._decide(None)
        for racer in self._racers.values():
            racer.upstream.dispose()

    def _decide(self, winner: str | None) -> None:
        self._decided = True
        if self._timer is not None:
            self._timer.dispose()
        losers = {name: racer for name, racer in self._racers.items() if name != winner}
        for racer in losers.values():
            racer.upstream.dispose()
        if self._on_result is not None:
            summaries = {name: racer.record.end("cancelled") for name, racer in losers.items()}
            self._on_result(RaceResult(winner, self._clock() - self._begun, summaries))
