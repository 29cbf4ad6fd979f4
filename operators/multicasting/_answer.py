"""Recording and replay of a whole answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable

from rxllm.chunks import Chunk, End, Notice, Start, is_restart
from rxllm.restart import committed, forget
from rxllm.stream import Stream
from rxllm.trampoline import Trampoline
from rxllm.valve import clock_of, scheduler_or_default, valve_of

__all__ = ["Answer", "recording", "replay"]


class Answer(msgspec.Struct, frozen=True):
    """Chunks, each with the time of its arrival in seconds since the subscription."""

    chunks: Annotated[tuple[tuple[float, Chunk], ...], msgspec.Meta(min_length=1)]


def recording(
    keep: Callable[[Answer, abc.SchedulerBase], None],
    release: Callable[[abc.SchedulerBase], None],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Pass the stream on and record it.

    Args:
        keep: called before completion if the answer is complete.
        release: called once, before the end is passed on, or on disposal.
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            scheduler = scheduler_or_default(scheduler)
            record = _Record(clock_of(scheduler))
            ended = Disposable(lambda: release(scheduler))

            def on_next(chunk: Chunk) -> None:
                record.add(chunk)
                observer.on_next(chunk)

            def on_error(error: Exception) -> None:
                ended.dispose()
                observer.on_error(error)

            def on_completed() -> None:
                if record.is_whole:
                    keep(record.answer(), scheduler)
                ended.dispose()
                observer.on_completed()

            upstream = source.subscribe(on_next, on_error, on_completed, scheduler=scheduler)
            return CompositeDisposable(upstream, ended)

        return Stream(subscribe, "cache", of_chunks=True)

    return operator


class _Record:
    """The chunks so far, without those dropped by a restart."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = clock()
        self._chunks: list[tuple[float, Chunk]] = []

    @property
    def is_whole(self) -> bool:
        """True if every source has ended and nothing is missing."""
        unfinished: dict[str | None, bool] = {}
        ended = False
        for _, chunk in self._chunks:
            if type(chunk) is End:
                if chunk.finish_reason == "cancelled":
                    return False
                forget(unfinished, chunk.source)
                ended = True
            elif type(chunk) is Start or chunk.is_content:
                unfinished[chunk.source] = True
            elif type(chunk) is Notice and chunk.kind in ("lagged", "failed"):
                return False
        return ended and not unfinished

    def add(self, chunk: Chunk) -> None:
        if not is_restart(chunk):
            self._chunks.append((self._clock() - self._begun, chunk))
        else:
            kept = committed([each for _, each in self._chunks], chunk.source)
            self._chunks[kept:] = [
                each
                for each in self._chunks[kept:]
                if chunk.source is not None and each[1].source != chunk.source
            ]

    def answer(self) -> Answer:
        return Answer(tuple(self._chunks))


def replay(
    answer: Answer,
    in_time: bool,
    observer: abc.ObserverBase[Chunk],
    scheduler: abc.SchedulerBase | None,
) -> abc.DisposableBase:
    """Replay `answer` as fast as the subscriber takes it, or with its pauses (`in_time`)."""
    return _Replay(answer, in_time, observer, scheduler_or_default(scheduler)).start()


class _Replay:
    """One subscription."""

    def __init__(
        self,
        answer: Answer,
        in_time: bool,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
    ) -> None:
        self._chunks = answer.chunks
        self._in_time = in_time
        self._observer = observer
        self._scheduler = scheduler
        self._valve = valve_of(scheduler)
        self._position = 0
        self._waiting = True  # for the timer
        self._timer = SerialDisposable()
        self._subscription = CompositeDisposable(self._timer, self._valve.on_change(self._drain))
        self._trampoline = Trampoline(self._subscription)

    def start(self) -> abc.DisposableBase:
        self._wait(self._chunks[0][0])
        return self._subscription

    def _wait(self, seconds: float) -> None:
        self._waiting = True
        self._timer.disposable = (
            self._scheduler.schedule_relative(seconds, self._on_timer)
            if self._in_time and seconds > 0
            else self._scheduler.schedule(self._on_timer)
        )

    def _on_timer(self, *_: object) -> None:
        self._waiting = False
        self._drain()

    def _drain(self, *_: object) -> None:
        self._trampoline.repeat(self._send_next)

    def _send_next(self) -> bool:
        """Send the next chunk, or complete; False if it must wait."""
        if self._waiting or not self._valve.is_open:
            return False
        if self._position == len(self._chunks):
            self._subscription.dispose()
            self._observer.on_completed()
            return False
        time, chunk = self._chunks[self._position]
        self._position += 1
        if self._in_time and self._position < len(self._chunks):
            pause = self._chunks[self._position][0] - time
            if pause > 0:
                self._wait(pause)
        self._observer.on_next(chunk)
        return True
