"""`stop_on`: the answer ends where a stop sequence starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.chunks import Batch, Chunk, End, Token, is_bare_state, is_restart, is_stream_failed
from rxllm.operators._held_text import HeldText
from rxllm.restart import matching_sources, survives_restart
from rxllm.stream import Stream
from rxllm.text.stop_sequences import StopMatcher, StopSequences
from rxllm.trampoline import Trampoline

__all__ = ["stop_on"]


def stop_on(*sequences: str) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""End the stream before a stop sequence, however the text is cut into chunks.

    ::

        S-a-b-\nHu-man:-c-E|
        [ stop_on("\nHuman:") ]
        S-a-b------(E,|)          E: End("stop", stop_sequence="\nHuman:")

    The sequence that ends first wins; of several that end there, the longest. The text before it is
    passed on, then `End`, and upstream is disposed immediately. After a merge this ends only the
    stream of that source: its later chunks are dropped, and the others continue.

    Only the end of the text that may start a sequence is held: fewer characters than the longest
    sequence has. Other chunks that arrive after held text wait with it, in order. A token is passed
    on unchanged, or split; both parts keep its confidence. Reasoning isn't searched. `End("stop")`
    and `on_completed` of the source force a decision: held text is passed on.

    - Completion, error: held text is sent first.
    - Restart: held text of that stream is dropped, usage, progress and notices that waited with it
      are sent first, the search starts over, and a stopped stream continues.
    - Disposal: held text is dropped.
    - Demand: passes through, and doesn't affect what is held.

    Args:
        sequences: one or more non-empty strings.

    Raises:
        BadRequestError: (a `ValueError`) there are no sequences, or one is empty or not a string.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> source = marbles.cold("Hel--lo.E--ND-c|")
    >>> for time, event in marbles.run(source.pipe(stop_on(".END"))):
    ...     print(time, getattr(event, "text", event))
    0.0 Hel
    5.0 lo
    11.0 End(finish_reason='stop', stop_sequence='.END', ...)
    11.0 |
    """
    compiled = StopSequences(*sequences)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            stopper = _Stopper(observer, compiled)
            in_turn = Trampoline(stopper.upstream).run
            stopper.upstream.disposable = source.subscribe(
                partial(in_turn, stopper.on_next),
                partial(in_turn, stopper.on_error),
                partial(in_turn, stopper.on_completed, None),
                scheduler=scheduler,
            )
            return stopper.upstream

        return Stream(subscribe, "stop_on", of_chunks=True)

    return operator


class _Stopper:
    """The state of one subscription."""

    def __init__(self, observer: abc.ObserverBase[Chunk], sequences: StopSequences) -> None:
        self._observer = observer
        self._sequences = sequences
        self._searches: dict[str | None, _Search] = {}
        self._stopped: set[str | None] = set()
        self.upstream = SingleAssignmentDisposable()

    def on_next(self, chunk: Chunk) -> None:
        if (type(chunk) is Token and not is_bare_state(chunk)) or type(chunk) is Batch:
            self._on_text(chunk)
            return
        if is_restart(chunk):
            self._restart(chunk.source)
        elif chunk.source in self._stopped:
            return
        elif type(chunk) is End or is_stream_failed(chunk):
            self._release(chunk.source)
        elif (search := self._searches.get(chunk.source)) is not None and search.waiting:
            search.waiting.append(chunk)
            return
        self._observer.on_next(chunk)

    def on_error(self, error: Exception) -> None:
        self._release(None)
        self._observer.on_error(error)

    def on_completed(self, _: None) -> None:
        self._release(None)
        self._observer.on_completed()

    def _on_text(self, chunk: Token | Batch) -> None:
        search = self._searches.get(chunk.source)
        if search is None:
            if chunk.source in self._stopped:
                return
            search = self._searches[chunk.source] = _Search(self._sequences.matcher())
        passed = search.matcher.feed(chunk.text)
        if not search.waiting and len(passed) == len(chunk.text):
            self._observer.on_next(chunk)
            return
        search.waiting.append(chunk)
        released = search.waiting.take(len(passed))
        if search.matcher.matched is not None:
            released += search.waiting.drop_all()
            self._stop(chunk.source, released, search.matcher.matched)
        else:
            self._send(released)

    def _stop(self, source: str | None, last: list[Chunk], sequence: str) -> None:
        last.append(End("stop", sequence, source=source))
        del self._searches[source]
        if source is not None:
            self._stopped.add(source)
            self._send(last)
            return
        self.upstream.dispose()
        self._release(None)
        self._send(last)
        self._observer.on_completed()

    def _release(self, source: str | None) -> None:
        for each in matching_sources(self._searches, source):
            self._send(self._searches.pop(each).waiting.take_all())

    def _restart(self, source: str | None) -> None:
        for each in matching_sources(self._searches, source):
            waiting = self._searches.pop(each).waiting.drop_all()
            self._send(filter(survives_restart, waiting))
        if source is None:
            self._stopped.clear()
        self._stopped.discard(source)

    def _send(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            self._observer.on_next(chunk)


class _Search:
    """The search in the text of one source; `waiting` starts with the held text."""

    __slots__ = ("matcher", "waiting")

    def __init__(self, matcher: StopMatcher) -> None:
        self.matcher = matcher
        self.waiting = HeldText()
