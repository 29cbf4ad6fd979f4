"""`require_output`: a stream that says nothing has failed."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.chunks import Chunk, End, has_output, is_restart
from rxllm.errors import ContentFilteredError, EmptyStreamError, RxLLMError
from rxllm.restart import forget
from rxllm.stream import Stream

__all__ = ["require_output"]


def require_output() -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Make a stream that ends without any content an error.

    ::

        S-(E,|)
        [ require_output() ]
        S-#                 EmptyStreamError, in place of the End

    Content is text that is not empty, reasoning, a tool call or JSON. After a merge each stream
    has to say something before its own `End`. An `End("cancelled")` is left alone, since whoever
    stopped the stream asked for no more, and an empty answer that ends for its content is a
    `ContentFilteredError`. An `EmptyStreamError` is classified as `"retry"`: put this before
    `retry_with_backoff`.

    - Completion: an `EmptyStreamError` if nothing was said, not even an `End`. Error: passed on.
    - Restart: passed on; the answer has to say something from there on.
    - Disposal: upstream is disposed, also before the error is told.
    - Demand: passes through; nothing is held.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> stream = ScriptedModel([]).stream("Hi").pipe(require_output())
    >>> Marbles().run(stream)[-1]
    (0.0, EmptyStreamError('the stream ended without any content'))
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            requiring = _Requiring(observer)
            requiring.upstream.disposable = source.subscribe(
                requiring.on_next, observer.on_error, requiring.on_completed, scheduler=scheduler
            )
            return requiring.upstream

        return Stream(subscribe, "require_output", of_chunks=True)

    return operator


class _Requiring:
    """One subscription."""

    def __init__(self, observer: abc.ObserverBase[Chunk]) -> None:
        self._observer = observer
        self._spoken: dict[str | None, None] = {}
        self._ended = False
        self.upstream = SingleAssignmentDisposable()

    def on_next(self, chunk: Chunk) -> None:
        source = chunk.source
        if type(chunk) is End:
            if chunk.finish_reason != "cancelled" and not self._has_spoken(source):
                self._fail(chunk.finish_reason == "content_filter")
                return
            self._ended = True
        elif source not in self._spoken and has_output(chunk):
            self._spoken[source] = None
        elif is_restart(chunk):
            forget(self._spoken, source)
            self._ended = False
        self._observer.on_next(chunk)

    def on_completed(self) -> None:
        if self._spoken or self._ended:
            self._observer.on_completed()
        else:
            self._fail(filtered=False)

    def _has_spoken(self, source: str | None) -> bool:
        return bool(self._spoken) if source is None else source in self._spoken

    def _fail(self, filtered: bool) -> None:
        self.upstream.dispose()
        error: RxLLMError = EmptyStreamError("the stream ended without any content")
        if filtered:
            error = ContentFilteredError("the answer was filtered: nothing is left of it")
        self._observer.on_error(error)
