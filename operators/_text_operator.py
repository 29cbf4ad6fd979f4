"""The base of operators that process the text of each source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.chunks import Batch, Chunk, End, Token, is_bare_state, is_restart, is_stream_failed
from rxllm.restart import matching_sources
from rxllm.stream import Stream
from rxllm.trampoline import Trampoline

__all__ = ["TextState", "text_operator"]


class TextState(ABC):
    """The state of an operator for the text of one source, from its beginning or a restart on.

    The chunks that the methods return are sent in order. An exception that they raise fails the
    stream: the methods never call an observer, so it can only come from them or from a user's
    function. A generator may raise after yielding chunks, which are still sent. If the stream has
    already failed, its error is kept and gets a note. Iteration stops once the subscriber disposes.
    """

    __slots__ = ()

    @abstractmethod
    def text(self, chunk: Token | Batch) -> Iterable[Chunk]:
        """Process more text."""

    def other(self, chunk: Chunk) -> Iterable[Chunk]:
        """Process a non-text chunk other than `End`, a restart or a failure.

        An operator that holds text queues the chunk behind it.
        """
        return (chunk,)

    @abstractmethod
    def end(self) -> Iterable[Chunk]:
        """Release or drop all held text: no more text follows.

        Called at `End`, completion, an error, or a `Notice("failed")`, the failure of one of
        several streams.
        """

    def restart(self) -> Iterable[Chunk]:
        """Return what remains of the held chunks at a restart, after which a new state is used.

        An operator that queues other chunks behind text returns those that `survives_restart`.
        """
        return ()


def text_operator(
    name: str,
    state_of: Callable[[str | None], TextState],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Create an operator with a `TextState` for each source of each subscription.

    A restart drops the state. At `End`, completion, an error and a `Notice("failed")`, its held
    chunks are released first. An `End` or a restart without a source applies to all sources. Chunks
    that arrive while the subscriber is being notified (it may open its valve inside `on_next`) are
    queued. Demand and the scheduler pass through. Disposal drops everything.

    Args:
        name: of the operator.
        state_of: creates the state of a source, at its first text.
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            reading = _Subscription(observer, state_of)
            in_turn = Trampoline(reading.upstream).run
            reading.upstream.disposable = source.subscribe(
                partial(in_turn, reading.on_next),
                partial(in_turn, reading.on_error),
                partial(in_turn, reading.on_completed, None),
                scheduler=scheduler,
            )
            return reading.upstream

        return Stream(subscribe, name, of_chunks=True)

    return operator


class _Subscription:
    """One subscription."""

    def __init__(
        self, observer: abc.ObserverBase[Chunk], state_of: Callable[[str | None], TextState]
    ) -> None:
        self._observer = observer
        self._state_of = state_of
        self._states: dict[str | None, TextState] = {}
        self._error: Exception | None = None  # of the source
        self.upstream = SingleAssignmentDisposable()

    def on_next(self, chunk: Chunk) -> None:
        source = chunk.source
        if (type(chunk) is Token and not is_bare_state(chunk)) or type(chunk) is Batch:
            state = self._states.get(source)
            if state is None:
                state = self._states[source] = self._state_of(source)
            self._send(state.text, chunk)
        elif type(chunk) is End or is_stream_failed(chunk):
            if self._leave(source):
                self._observer.on_next(chunk)
        elif is_restart(chunk):
            if self._leave(source, restarts=True):
                self._observer.on_next(chunk)
        elif (state := self._states.get(source)) is not None:
            self._send(state.other, chunk)
        else:
            self._observer.on_next(chunk)

    def on_error(self, error: Exception) -> None:
        self._error = error
        if self._leave(None):
            self._observer.on_error(error)

    def on_completed(self, _: None) -> None:
        if self._leave(None):
            self._observer.on_completed()

    def _leave(self, source: str | None, *, restarts: bool = False) -> bool:
        """Release the held chunks of each stream that `source` matches; False to stop sending."""
        for each in matching_sources(self._states, source):
            state = self._states.pop(each)
            if not self._send(state.restart if restarts else state.end):
                return False
        return True

    def _send(self, decide: Callable[..., Iterable[Chunk]], *chunk: Any) -> bool:
        try:
            chunks = iter(decide(*chunk))
        except Exception as failure:
            return self._fail(failure)
        while True:
            try:
                each = next(chunks, None)
            except Exception as failure:
                return self._fail(failure)
            if each is None:
                return True
            self._observer.on_next(each)
            if self.upstream.is_disposed:
                return False

    def _fail(self, failure: Exception) -> bool:
        self._states.clear()
        self.upstream.dispose()
        if self._error is not None:
            self._error.add_note(f"processing the held text failed too: {failure!r}")
        self._observer.on_error(self._error or failure)
        return False
