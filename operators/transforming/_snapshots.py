"""The shape of an operator that reads a growing text again and again, and sends what it makes."""

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
    """What an operator makes of the text of one source, from its beginning or a restart on.

    What the methods append to `out` is sent, in its order. What they raise is then the error of
    the stream: they call no observer, so it can only be their own or that of a user's function.
    """

    __slots__ = ("unread",)

    def __init__(self) -> None:
        self.unread = False  # text has come that a `look` has not read

    @abstractmethod
    def feed(self, text: str, out: list[Any]) -> None:
        """More text has come. At a small cost: a `look` may follow."""

    @abstractmethod
    def look(self, out: list[Any]) -> None:
        """Read what has come so far. Its cost may grow with `size`."""

    @property
    @abstractmethod
    def size(self) -> float:
        """How much a `look` reads, as a multiple of what may be read once in `seconds`."""

    @abstractmethod
    def end(self, out: list[Any]) -> None:
        """The text is complete (`End` or completion)."""

    @abstractmethod
    def cut_off(self, out: list[Any]) -> None:
        """Nothing more comes, since the stream has failed."""


def snapshot_operator(
    name: str,
    snapshot_of: Callable[[str | None], Snapshot],
    seconds: float,
) -> Callable[[Observable[Chunk]], Stream[Any]]:
    """An operator that replaces text by what a `Snapshot` of each source makes of it.

    The first text is looked at when it comes; after that there are `seconds` between two looks,
    and `size` times as many where that is above 1: so the cost of looking is the same share of
    the time, however long the text is. Text that came too early for a look is looked at by one
    timer. While the subscriber's valve is closed there are none.

    Other chunks pass at once, also those in a batch: so they may overtake text that waits for a
    look. A restart drops the snapshot. An `End` or a restart that names no source concerns all.
    Demand and the scheduler pass through.

    Args:
        name: of the operator.
        snapshot_of: makes the snapshot of a source, when its first text comes.
        seconds: between two looks.
    """

    def operator(source: Observable[Chunk]) -> Stream[Any]:
        def subscribe(
            observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            scheduler = scheduler_or_default(scheduler)
            return _Looking(observer, scheduler, snapshot_of, seconds).start(source)

        return Stream(subscribe, name, of_chunks=True)

    return operator


class _Source:
    """One source: its snapshot, and when it may be looked at."""

    __slots__ = ("due", "snapshot", "timer", "waiting")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.due = -float("inf")
        self.waiting = False  # for its timer, or for the valve
        self.timer = SerialDisposable()


class _Looking:
    """One subscription."""

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
            self._read_all(chunk.source, out)
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
        """Feed the text of `chunk`, and send `out` with what comes of it."""
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
                if source.due <= now:  # the others have their timer
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
        """The sources that a chunk of `name` concerns, with their timers cancelled."""
        taken = [self._sources.pop(each) for each in matching_sources(self._sources, name)]
        for source in taken:
            source.timer.dispose()
            source.waiting = False
        return taken

    def _stop(self) -> None:
        self._stopped = True
        self._take(None)

    def _pass(self, chunks: list[Any]) -> None:
        """Send `chunks` and the last event behind what is being sent."""
        self._queue.extend(chunks)
        if self._passing:
            return  # the subscriber has opened its valve inside of on_next: the loop goes on
        self._passing = True
        try:
            while self._queue:
                self._observer.on_next(self._queue.popleft())
        except Exception:
            self._queue.clear()
            self._subscription.dispose()
            raise  # of the subscriber: it ends the stream, also where a timer has led here
        finally:
            self._passing = False
        if self._last is not None:
            self._last()
