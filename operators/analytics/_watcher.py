"""The base of operators that observe a stream and pass everything on unchanged."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.chunks import Chunk
from rxllm.stream import Stream
from rxllm.valve import clock_of

__all__ = ["Watcher", "watch"]


class Watcher:
    """Observes one subscription. Each method is called before the event is passed on.

    Exactly one of `completed`, `failed` and `cancelled` is called, and nothing after it.

    An exception raised by `begun` or `chunk` fails the stream. One raised by `completed` turns the
    completion into that error, one raised by `failed` becomes a note on the original error, and
    one raised by `cancelled` reaches the caller of `dispose`.
    """

    def begun(self) -> None:
        """Called at the subscription."""

    def chunk(self, chunk: Chunk) -> None:
        """Called with each chunk."""

    def watch(self) -> Callable[[Chunk], None]:
        """Return the function to call with each chunk: `chunk`, or a faster one."""
        return self.chunk

    def completed(self) -> None:
        """Called when the stream completes."""

    def failed(self, error: Exception) -> None:
        """Called when the stream fails."""

    def cancelled(self) -> None:
        """Called when the subscriber disposes before the end, or raises at a chunk."""


def watch(
    name: str,
    watcher_of: Callable[[Callable[[], float]], Watcher],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Create an operator with a `Watcher` per subscription. Demand passes through, nothing is held.

    Args:
        name: of the operator.
        watcher_of: creates the watcher, given the clock of the subscriber (in seconds).
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            watcher = watcher_of(clock_of(scheduler))
            watcher.begun()
            subscription = _Subscription(observer, watcher)
            subscription.upstream.disposable = source.subscribe(
                subscription.make_on_next(),
                subscription.on_error,
                subscription.on_completed,
                scheduler=scheduler,
            )
            return CompositeDisposable(subscription.upstream, Disposable(subscription.on_disposed))

        return Stream(subscribe, name, of_chunks=True)

    return operator


class _Subscription:
    """One subscription."""

    __slots__ = ("_ended", "_observer", "_watcher", "upstream")

    def __init__(self, observer: abc.ObserverBase[Chunk], watcher: Watcher) -> None:
        self._observer = observer
        self._watcher = watcher
        self._ended = False
        self.upstream = SingleAssignmentDisposable()

    def make_on_next(self) -> Callable[[Chunk], None]:
        """Return `on_next` as a closure, so that a token costs few attribute lookups."""
        watch, observer = self._watcher.watch(), self._observer

        def on_next(chunk: Chunk) -> None:
            if self._ended:
                return  # a source that emits synchronously has not seen the disposal yet
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
        """End the watch when the subscriber raises, since the source may emit no further event."""
        self.upstream.dispose()
        try:
            self.on_disposed()
        except Exception as failure:
            _note(error, failure)


def _note(error: BaseException, failure: Exception) -> None:
    error.add_note(f"the watcher of the stream failed too: {failure!r}")
