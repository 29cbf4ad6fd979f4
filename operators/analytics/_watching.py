"""The shape of an operator that looks at a stream and passes everything on as it came."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.chunks import Chunk
from rxllm.valve import clock_of

__all__ = ["Watcher", "watching"]


class Watcher:
    """Who watches one subscription. Each method is called before the event is passed on.

    What `begun` or `chunk` raises is the error of the stream. What `completed` raises turns the
    completion into that error; what `failed` raises becomes a note of the error that came; what
    `cancelled` raises reaches whoever disposed.
    """

    def begun(self) -> None:
        """The stream has been subscribed to."""

    def chunk(self, chunk: Chunk) -> None:
        """A chunk has come."""

    def completed(self) -> None:
        """The stream has completed."""

    def failed(self, error: Exception) -> None:
        """The stream has failed."""

    def cancelled(self) -> None:
        """The subscriber has left before the end."""


def watching(
    watcher_of: Callable[[Callable[[], float]], Watcher],
) -> Callable[[Observable[Chunk]], Observable[Chunk]]:
    """An operator with a `Watcher` for each subscription. Demand passes through, nothing is held.

    Args:
        watcher_of: makes it, given the clock of the subscriber (in seconds).
    """

    def operator(source: Observable[Chunk]) -> Observable[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            watcher = watcher_of(clock_of(scheduler))
            watcher.begun()
            watched = _Watched(observer, watcher)
            watched.upstream.disposable = source.subscribe(
                watched.on_next, watched.on_error, watched.on_completed, scheduler=scheduler
            )
            return CompositeDisposable(watched.upstream, Disposable(watched.on_disposed))

        return Observable(subscribe)

    return operator


class _Watched:
    """One subscription."""

    def __init__(self, observer: abc.ObserverBase[Chunk], watcher: Watcher) -> None:
        self._observer = observer
        self._watcher = watcher
        self._ended = False
        self.upstream = SingleAssignmentDisposable()

    def on_next(self, chunk: Chunk) -> None:
        try:
            self._watcher.chunk(chunk)
        except Exception as error:
            self.upstream.dispose()
            self.on_error(error)
        else:
            self._observer.on_next(chunk)

    def on_error(self, error: Exception) -> None:
        self._ended = True
        try:
            self._watcher.failed(error)
        except Exception as failure:
            error.add_note(f"what watched the stream failed too: {failure!r}")
        self._observer.on_error(error)

    def on_completed(self) -> None:
        self._ended = True
        try:
            self._watcher.completed()
        except Exception as failure:
            self._observer.on_error(failure)
        else:
            self._observer.on_completed()

    def on_disposed(self) -> None:
        if not self._ended:
            self._ended = True
            self._watcher.cancelled()
