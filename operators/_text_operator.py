"""The shape of an operator that reads the text of each source and decides what becomes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.chunks import Batch, Chunk, End, Token, is_restart, is_stream_failed
from rxllm.restart import matching_sources
from rxllm.stream import Stream
from rxllm.trampoline import Trampoline

__all__ = ["TextState", "text_operator"]


class TextState(ABC):
    """What an operator knows of the text of one source, from its beginning or a restart on.

    What the methods return is sent in its order. What they raise is the error of the stream: they
    call no observer, so that it can only be their own or that of a user's function. A generator
    may raise after what it has yielded, which is sent then. Once the stream has failed anyway, its
    error stays what it was, and gets a note. Once the subscriber has left, it is not gone on with.
    """

    __slots__ = ()

    @abstractmethod
    def text(self, chunk: Token | Batch) -> Iterable[Chunk]:
        """More text has come."""

    def other(self, chunk: Chunk) -> Iterable[Chunk]:
        """A chunk that is no text has come, neither `End` nor a restart nor a failure.

        An operator that holds text queues it behind that.
        """
        return (chunk,)

    @abstractmethod
    def end(self) -> Iterable[Chunk]:
        """No more text comes: decide about all that is held.

        After `End`, completion, an error, or a `Notice("failed")`, which is that of one of several.
        """

    def restart(self) -> Iterable[Chunk]:
        """The text begins again, with another state: what is left of what this one holds.

        An operator that lets other chunks wait behind text gives those that `survives_restart`.
        """
        return ()


def text_operator(
    name: str,
    state_of: Callable[[str | None], TextState],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """An operator with a `TextState` for each source of each subscription.

    A restart drops the state. `End`, completion, an error and a `Notice("failed")` ask it for what
    it holds, which leaves first. An `End` or a restart that names no source concerns all. What
    comes while the subscriber is being told (it may open its valve inside of `on_next`) waits its
    turn. Demand and the scheduler pass through. Disposal drops everything.

    Args:
        name: of the operator.
        state_of: makes the state of a source, when its first text comes.
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            reading = _Reading(observer, state_of)
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


class _Reading:
    """One subscription."""

    def __init__(
        self, observer: abc.ObserverBase[Chunk], state_of: Callable[[str | None], TextState]
    ) -> None:
        self._observer = observer
        self._state_of = state_of
        self._states: dict[str | None, TextState] = {}
        self._error: Exception | None = None  # that of the source
        self.upstream = SingleAssignmentDisposable()

    def on_next(self, chunk: Chunk) -> None:
        source = chunk.source
        if type(chunk) is Token or type(chunk) is Batch:
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
        """Send the last of each stream that `source` concerns. False once nothing more is sent."""
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
            self._error.add_note(f"what was held when it came could not be decided: {failure!r}")
        self._observer.on_error(self._error or failure)
        return False
