"""The downstream observer of several upstreams."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import abc

from rxllm.chunks import Chunk

__all__ = ["Subscriber"]


class Subscriber:
    """The subscriber of several streams: if it raises, all streams are disposed.

    Args:
        observer: the downstream observer.
        leave: disposes all streams. Its exception becomes a note on that of the subscriber.
    """

    __slots__ = ("_leave", "_observer", "_raised")

    def __init__(self, observer: abc.ObserverBase[Chunk], leave: Callable[[], None]) -> None:
        self._observer = observer
        self._leave = leave
        self._raised: BaseException | None = None

    def on_next(self, chunk: Chunk) -> None:
        try:
            self._observer.on_next(chunk)
        except BaseException as error:
            self._raised = error
            try:
                self._leave()
            except Exception as failure:
                error.add_note(f"disposing its streams failed too: {failure!r}")
            raise

    def on_error(self, error: Exception) -> None:
        self._observer.on_error(error)

    def on_completed(self) -> None:
        self._observer.on_completed()

    def reraise(self, error: Exception) -> None:
        """Raise `error` again if this subscriber raised it: it isn't a failure of a stream.

        RxPY passes an exception raised during a subscription to `on_error`.
        """
        if error is self._raised:
            raise error
