"""Concurrent streams as one: the machinery of `merge_streams`, `side_by_side` and `parallel`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from reactivex import abc
from reactivex.disposable import Disposable
from reactivex.disposable import SingleAssignmentDisposable as Single

from rxllm.chunks import Chunk
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

__all__ = ["joined"]


def joined(
    name: str,
    streams: Streams,
    *,
    isolated: bool,
    most: int | None = None,
    on_result: Callable[[Mapping[str, StreamSummary]], object] | None = None,
    on_active: Callable[[int], object] | None = None,
) -> Stream[Chunk]:
    """All `streams`, tagged with their names, as chunks arrive.

    Args:
        name: the name of the combined stream.
        streams: streams by name.
        isolated: whether a failure is sent as a `Notice` while the other streams continue, with an
            error only if all fail; otherwise the first failure ends all streams.
        most: the maximum number of concurrent streams; the others start in order as these end.
        on_result: called once at the end, also on disposal.
        on_active: called with the number of active streams once the first ones have started, and
            after each change; with 0 at the end, also on disposal.
    """

    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        subscription = _Subscription(
            streams, observer, scheduler_or_default(scheduler), isolated, most
        )
        subscription.on_result, subscription.on_active = on_result, on_active
        return subscription.start()

    return Stream(subscribe, name, of_chunks=True)


class _Subscription:
    """One subscription."""

    def __init__(
        self,
        streams: Streams,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
        isolated: bool,
        most: int | None,
    ) -> None:
        self._streams = streams
        self._next = iter(streams)
        self._subscriber = Subscriber(observer, self._dispose)
        self._scheduler = scheduler
        self._clock = clock_of(scheduler)
        self._begun = self._clock()
        self._isolated = isolated
        self._most = len(streams) if most is None else most
        self._records: dict[str, Record] = {}
        self._live: dict[str, Single] = {}
        self._filling = False
        self._ended = False
        self._reported = -1
        self.on_result: Callable[[Mapping[str, StreamSummary]], object] | None = None
        self.on_active: Callable[[int], object] | None = None

    def start(self) -> abc.DisposableBase:
        self._start_next()
        return Disposable(self._dispose)

    def _start_next(self) -> None:
        """Start as many streams as may run, in a loop: synchronous ends don't nest calls."""
        if self._filling:
            return
        self._filling = True
        try:
            while len(self._live) < self._most and not self._ended:
                name = next(self._next, None)
                if name is None:
                    break
                self._begin(name)
        finally:
            self._filling = False
        if self._ended:
            return
        try:
            self._report_active()
        except Exception as error:
            self._fail(error)
        if not self._live and not self._ended:
            self._complete()

    def _begin(self, name: str) -> None:
        record = self._records[name] = Record(self._clock, self._begun)
        upstream = self._live[name] = Single()
        pass_on: Callable[[Chunk], None] = self._subscriber.on_next
        if self.on_result is not None:
            pass_on = record.noting(pass_on)
        upstream.disposable = self._streams[name].subscribe(
            tagging(name, pass_on),
            partial(self._on_error, name),
            partial(self._on_completed, name),
            scheduler=self._scheduler,
        )

    def _on_completed(self, name: str) -> None:
        if self._ended:
            return
        self._records[name].end("completed")
        del self._live[name]
        self._start_next()

    def _on_error(self, name: str, error: Exception) -> None:
        self._subscriber.reraise(error)
        if self._ended:
            return
        self._records[name].end("failed", error)
        del self._live[name]
        if self._isolated:
            self._subscriber.on_next(failed(name, error))
            self._start_next()
        else:
            note_source(error, name)
            self._fail(error)

    def _report_active(self) -> None:
        if self.on_active is None or self._reported == len(self._live):
            return
        self._reported = len(self._live)
        try:
            self.on_active(self._reported)
        except Exception:
            self.on_active = None  # don't call it again
            raise

    def _complete(self) -> None:
        errors = [record.error for record in self._records.values() if record.error]
        if len(errors) == len(self._streams):
            self._fail(all_failed(errors))
            return
        try:
            self._end()
        except Exception as failure:
            self._subscriber.on_error(failure)
        else:
            self._subscriber.on_completed()

    def _fail(self, error: Exception) -> None:
        try:
            self._end()
        except Exception as failure:
            error.add_note(f"a callback failed too: {failure!r}")
        self._subscriber.on_error(error)

    def _dispose(self) -> None:
        if not self._ended:
            self._end()

    def _end(self) -> None:
        self._ended = True
        live, self._live = self._live, {}
        for name, upstream in live.items():
            upstream.dispose()
            self._records[name].end("cancelled")
        self._report_active()
        if self.on_result is None:
            return
        never_begun = StreamSummary("cancelled")
        self.on_result(
            {
                name: self._records[name].end("cancelled") if name in self._records else never_begun
                for name in self._streams
            }
        )
