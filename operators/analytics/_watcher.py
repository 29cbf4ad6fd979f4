"""The shape of an operator that looks at a stream and passes everything on as it came."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.chunks import Chunk
from rxllm.stream import Stream
from rxllm.valve import clock_of

__all__ = ["Watcher", "watch"]


class Watcher:
    """Who watches one subscription. Each method is called before the event is passed on.

    One of `completed`, `failed` and `cancelled` is called, once, and nothing after it.

    What `begun` or `chunk` raises is the error of the stream. What `completed` raises turns the
    completion into that error; what `failed` raises becomes a note of the error that came; what
    `cancelled` raises reaches whoever disposed.
    """

    def begun(self) -> None:
        """The stream has been subscribed to."""

    def chunk(self, chunk: Chunk) -> None:
        """A chunk has come."""

    def watch(self) -> Callable[[Chunk], None]:
        """What is called with each chunk: `chunk`, or something faster."""
        return self.chunk

    def completed(self) -> None:
        """The stream has completed."""

    def failed(self, error: Exception) -> None:
        """The stream has failed."""

    def cancelled(self) -> None:
        """The subscriber has left before the end, or has raised at a chunk."""


def watch(
    name: str,
    watcher_of: Callable[[Callable[[], float]], Watcher],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """An operator with a `Watcher` for each subscription. Demand passes through, nothing is held.

    Args:
        watcher_of: makes it, given the clock of the subscriber (in seconds).
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            watcher = watcher_of(clock_of(scheduler))
            watcher.begun()
            watched = _Watched(observer, watcher)
            watched.upstream.disposable = source.subscribe(
                watched.passing(), watched.on_error, watched.on_completed, scheduler=scheduler
            )
            return CompositeDisposable(watched.upstream, Disposable(watched.on_disposed))

        return Stream(subscribe, name, of_chunks=True)

    return operator


class _Watched:
    """One subscription."""

    __slots__ = ("_ended", "_observer", "_watcher", "upstream")

    def __init__(self, observer: abc.ObserverBase[Chunk], watcher: Watcher) -> None:
        self._observer = observer
        self._watcher = watcher
        self._ended = False
        self.upstream = SingleAssignmentDisposable()

    def passing(self) -> Callable[[Chunk], None]:
        """What is called with each chunk: a closure, so that a token costs few look-ups."""
        watch, observer = self._watcher.watch(), self._observer

        def on_next(chunk: Chunk) -> None:
            if self._ended:
                return  # a source that pushes all at once has not seen the disposal yet
            try:
                watch(chunk)
            except Exception as error:
                self.upstream.dispose()
                self.on_error(error)
                return
            try:
                observer.on_next(chunk)
            except BaseException as error:
                self._on_raised(error)
                raise

        return on_next

    def on_error(self, error: Exception) -> None:
        if not self._ended:
            self._ended = True
            try:
                self._watcher.failed(error)
            except Exception as failure:
                _note(error, failure)
        self._observer.on_error(error)

    def on_completed(self) -> None:
        if self._ended:
            return
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

    def _on_raised(self, error: BaseException) -> None:
        """The subscriber has raised, and its source may not tell anybody: nothing else will end."""
        self.upstream.dispose()
        try:
            self.on_disposed()
        except Exception as failure:
            _note(error, failure)


def _note(error: BaseException, failure: Exception) -> None:
    error.add_note(f"what watched the stream failed too: {failure!r}")
