"""Who gets what several streams say, and may raise."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import abc

from rxllm.chunks import Chunk

__all__ = ["Subscriber"]


class Subscriber:
    """The subscriber of several streams: if it raises, all of them are left.

    Args:
        observer: who it is.
        leave: disposes all streams. What it raises is noted on what the subscriber raised.
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
                error.add_note(f"leaving its streams failed too: {failure!r}")
            raise

    def on_error(self, error: Exception) -> None:
        self._observer.on_error(error)

    def on_completed(self) -> None:
        self._observer.on_completed()

    def reraise(self, error: Exception) -> None:
        """Raise `error` again if this subscriber raised it: it is no failure of a stream.

        RxPY hands what is raised inside of a subscription to `on_error`.
        """
        if error is self._raised:
            raise error
