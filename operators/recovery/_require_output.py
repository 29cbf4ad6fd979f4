"""`require_output`: turn an empty answer into an error."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.chunks import Chunk, End, Start, has_output, is_restart
from rxllm.errors import ContentFilteredError, EmptyStreamError, RxLLMError
from rxllm.restart import forget
from rxllm.stream import Stream

__all__ = ["require_output"]


def require_output() -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Fail when a stream ends without any content.

    ::

        S-(E,|)
        [ require_output() ]
        S-#                 EmptyStreamError, in place of the End

    Content is non-empty text, reasoning, a tool call or JSON. After a merge, each source needs
    content before its own `End`, and in a run each answer. `End("cancelled")` and `End("limit")`
    are passed on, since the stream was stopped on purpose. An empty answer that ends with
    `"content_filter"` is a `ContentFilteredError`. An `EmptyStreamError` is classified as
    `"retry"`: put this before `retry_with_backoff`.

    - Completion: an `EmptyStreamError` if there was neither content nor an `End`. Error: passed on.
    - Restart: passed on; content is required again from there on.
    - Disposal: upstream is disposed, also before the error is sent.
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
            subscription = _Subscription(observer)
            subscription.upstream.disposable = source.subscribe(
                subscription.on_next,
                observer.on_error,
                subscription.on_completed,
                scheduler=scheduler,
            )
            return subscription.upstream

        return Stream(subscribe, "require_output", of_chunks=True)

    return operator


class _Subscription:
    """One subscription."""

    def __init__(self, observer: abc.ObserverBase[Chunk]) -> None:
        self._observer = observer
        self._with_output: dict[str | None, None] = {}
        self._closed: set[str | None] = set()  # sources whose next answer hasn't started
        self._ended = False
        self.upstream = SingleAssignmentDisposable()

    def on_next(self, chunk: Chunk) -> None:
        source = chunk.source
        if type(chunk) is End:
            if chunk.finish_reason not in ("cancelled", "limit") and not self._has_output(source):
                self._fail(chunk.finish_reason == "content_filter")
                return
            self._ended = True
            if chunk.more:
                self._closed.add(source)
        elif type(chunk) is Start and source in self._closed:
            self._closed.discard(source)
            forget(self._with_output, source)  # this answer needs its own
        elif source not in self._with_output and has_output(chunk):
            self._with_output[source] = None
        elif is_restart(chunk):
            forget(self._with_output, source)
            self._ended = False
        self._observer.on_next(chunk)

    def on_completed(self) -> None:
        if self._with_output or self._ended:
            self._observer.on_completed()
        else:
            self._fail(filtered=False)

    def _has_output(self, source: str | None) -> bool:
        return bool(self._with_output) if source is None else source in self._with_output

    def _fail(self, filtered: bool) -> None:
        self.upstream.dispose()
        error: RxLLMError = EmptyStreamError("the stream ended without any content")
        if filtered:
            error = ContentFilteredError("the answer was removed by a content filter")
        self._observer.on_error(error)
