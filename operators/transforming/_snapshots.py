"""Base for operators that repeatedly read a growing text and send the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from reactivex import Observable, abc
from reactivex.disposable import (
    CompositeDisposable,
    Disposable,
    SerialDisposable,
    SingleAssignmentDisposable,
)

from rxllm.chunks import Batch, Chunk, End, Token, is_restart, is_stream_failed
from rxllm.operators._pacer import RESOLUTION
from rxllm.restart import matching_sources
from rxllm.stream import Stream
from rxllm.valve import clock_of, scheduler_or_default, valve_of

__all__ = ["Snapshot", "snapshot_operator"]


class Snapshot(ABC):
    """Turns the text of one source into results, from its start or a restart on.

    Whatever the methods append to `out` is sent, in order. An exception from them then becomes the
    error of the stream: they never call an observer, so it is their own or a user function's.
    """

    __slots__ = ("unread",)

    def __init__(self) -> None:
        self.unread = False  # text has arrived that `look` hasn't read

    @abstractmethod
    def feed(self, text: str, out: list[Any]) -> None:
        """Add text. This must be cheap: a `look` may follow."""

    @abstractmethod
    def look(self, out: list[Any]) -> None:
        """Read the text so far. The cost may grow with `size`."""

    @property
    @abstractmethod
    def size(self) -> float:
        """How much a `look` reads, as a multiple of what may be read every `seconds`."""

    @abstractmethod
    def end(self, out: list[Any]) -> None:
        """Finish a complete text (`End` or completion)."""

    @abstractmethod
    def cut_off(self, out: list[Any]) -> None:
        """Finish an incomplete text, since the stream has failed."""


def snapshot_operator(
    name: str,
    snapshot_of: Callable[[str | None], Snapshot],
    seconds: float,
) -> Callable[[Observable[Chunk]], Stream[Any]]:
    """Create an operator that replaces text with the results of a `Snapshot` of each source.

    The first text is read when it arrives; after that there are `seconds` between two reads, or
    `size` times as long if that is above 1, so reading takes a constant share of the time, however
    long the text is. Text that arrives too early for a read is read by one timer. Nothing is read
    while the subscriber's valve is closed.

    Other chunks, including those in a batch, pass immediately, and may overtake text that waits to
    be read. A restart drops the snapshot. An `End` or a restart without a source applies to all
    sources. Demand and the scheduler pass through.

    Args:
        name: of the operator.
        snapshot_of: creates the snapshot of a source, when its first text arrives.
        seconds: interval between two reads.
    """

    def operator(source: Observable[Chunk]) -> Stream[Any]:
        def subscribe(
            observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            scheduler = scheduler_or_default(scheduler)
            return _SnapshotReader(observer, scheduler, snapshot_of, seconds).start(source)

        return Stream(subscribe, name, of_chunks=True)

    return operator


class _Source:
    """One source: its snapshot, and when it may be read next."""

    __slots__ = ("due", "snapshot", "timer", "waiting")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.due = -float("inf")
        self.waiting = False  # for its timer or the valve
        self.timer = SerialDisposable()


class _SnapshotReader:
    """The state of one subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Any],
        scheduler: abc.SchedulerBase,
        snapshot_of: Callable[[str | None], Snapshot],
        seconds: float,
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler
        self._snapshot_of = snapshot_of
        self._seconds = seconds
        self._clock = clock_of(scheduler)
        self._valve = valve_of(scheduler)
        self._sources: dict[str | None, _Source] = {}
        self._queue: deque[Any] = deque()
        self._passing = False
        self._last: Callable[[], None] | None = None
        self._stopped = False
        self._upstream = SingleAssignmentDisposable()
        self._subscription = CompositeDisposable(
            self._upstream, self._valve.on_change(self._on_valve), Disposable(self._stop)
        )

    def start(self, source: Observable[Chunk]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(
            self.on_next, self.on_error, self.on_completed, scheduler=self._scheduler
        )
        return self._subscription

    def on_next(self, chunk: Chunk) -> None:
        if self._stopped:
            return
        if type(chunk) is Token:
            self._on_text(chunk, [])
            return
        if type(chunk) is Batch:
            self._on_text(chunk, [part for part in chunk.chunks if type(part) is not Token])
            return
        out: list[Any] = []
        if type(chunk) is End:
            self._read_all(chunk.source, out, cut_off=chunk.more)  # the value is that of the last
        elif is_stream_failed(chunk):
            self._read_all(chunk.source, out, cut_off=True)
        elif is_restart(chunk):
            self._take(chunk.source)
        if self._last is None:
            out.append(chunk)
        self._pass(out)

    def on_error(self, error: Exception) -> None:
        self._finish(partial(self._observer.on_error, error), cut_off=True)

    def on_completed(self) -> None:
        self._finish(self._observer.on_completed)

    def _finish(self, last: Callable[[], None], *, cut_off: bool = False) -> None:
        if self._stopped:
            return
        out: list[Any] = []
        self._read_all(None, out, cut_off=cut_off)
        if self._last is None:
            self._last = last
            self._subscription.dispose()
        self._pass(out)

    def _on_text(self, chunk: Token | Batch, out: list[Any]) -> None:
        """Feed the text of `chunk`, and send `out` with the results."""
        if chunk.text:
            source = self._sources.get(chunk.source)
            if source is None:
                source = self._sources[chunk.source] = _Source(self._snapshot_of(chunk.source))
            self._read(partial(source.snapshot.feed, chunk.text), out)
            if source.snapshot.unread and not source.waiting:
                self._look_when_due(source, out)
        if out or self._last is not None:
            self._pass(out)

    def _look_when_due(self, source: _Source, out: list[Any]) -> None:
        now = self._clock()
        wait = source.due - now
        source.waiting = wait > RESOLUTION or not self._valve.is_open
        if not source.waiting:
            self._read(source.snapshot.look, out)
            source.due = now + self._seconds * max(1.0, source.snapshot.size)
        elif wait > RESOLUTION:
            source.timer.disposable = self._scheduler.schedule_relative(
                wait, lambda *_: self._look_late(source)
            )

    def _look_late(self, source: _Source) -> None:
        if source.waiting:
            out: list[Any] = []
            self._look_when_due(source, out)
            self._pass(out)

    def _on_valve(self, is_open: bool) -> None:
        if is_open:
            now = self._clock() + RESOLUTION
            for source in list(self._sources.values()):
                if source.due <= now:  # the others have a timer
                    self._look_late(source)

    def _read_all(self, name: str | None, out: list[Any], *, cut_off: bool = False) -> None:
        for source in self._take(name):
            if self._last is None:
                snapshot = source.snapshot
                self._read(snapshot.cut_off if cut_off else snapshot.end, out)

    def _read(self, read: Callable[[list[Any]], None], out: list[Any]) -> None:
        try:
            read(out)
        except Exception as error:
            self._last = partial(self._observer.on_error, error)
            self._subscription.dispose()

    def _take(self, name: str | None) -> list[_Source]:
        """Remove the sources that match `name`, and cancel their timers."""
        taken = [self._sources.pop(each) for each in matching_sources(self._sources, name)]
        for source in taken:
            source.timer.dispose()
            source.waiting = False
        return taken

    def _stop(self) -> None:
        self._stopped = True
        self._take(None)

    def _pass(self, chunks: list[Any]) -> None:
        """Send `chunks`, and the last event, after anything that is being sent."""
        self._queue.extend(chunks)
        if self._passing:
            return  # the subscriber opened its valve in on_next: the outer loop continues
        self._passing = True
        try:
            while self._queue:
                self._observer.on_next(self._queue.popleft())
        except Exception:
            self._queue.clear()
            self._subscription.dispose()
            raise  # a failure of the subscriber ends the stream, even when called by a timer
        finally:
            self._passing = False
        if self._last is not None:
            self._last()
