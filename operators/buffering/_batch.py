"""`batch`: several text chunks in one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SingleAssignmentDisposable

from rxllm.arguments import check_int, check_number
from rxllm.chunks import Batch, Chunk, Reasoning, Token, is_restart
from rxllm.operators._deadline_timer import RESOLUTION, DeadlineTimer
from rxllm.restart import forget, matching_sources
from rxllm.stream import Stream
from rxllm.trampoline import Trampoline
from rxllm.valve import clock_of, scheduler_or_default, valve_of

__all__ = ["batch"]


def batch(size: int = 10, seconds: float = 0.1) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Pack tokens into batches, by count or by time, whichever comes first.

    ::

        S-a-b-c-d-----e-(E,|)
        [ batch(size=3, seconds=4) ]
        S-----(abc)-(d)---(e,E,|)

    `Token` and `Reasoning` chunks are packed in order; those inside a `Batch` are repacked.
    `Batch.text` is the answer's text only, without the reasoning. Chunks with empty text are
    dropped. Any other chunk flushes the pending batch of its own stream, or of all streams if it
    has no source, and then follows it.

    - Completion, error: held chunks are sent first.
    - Restart: held chunks of that stream are dropped, and the notice is passed on.
    - Disposal: held chunks are dropped and the timer is cancelled.
    - Demand: at most `size` chunks of each source wait here. A batch whose time is up while the
      valve is closed waits until it opens; a full batch, or the end, doesn't wait.

    With `size=1` every text chunk becomes a batch immediately, so operators downstream see only
    batches. One timer serves the subscription: the first chunk of a batch sets it, and the others
    don't touch it.

    Args:
        size: maximum number of chunks in a batch, 1 or more.
        seconds: maximum time that the first chunk of a batch waits, above 0.

    Raises:
        ValueError: `size` is below 1, or `seconds` is not above 0.
        TypeError: `size` is not an integer, or `seconds` is not a number.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> source = marbles.cold("a-b-c-d--------|")
    >>> for time, event in marbles.run(source.pipe(batch(size=3, seconds=4))):
    ...     print(time, getattr(event, "text", event))
    4.0 abc
    10.0 d
    15.0 |
    """
    size = check_int("size", size, "chunks per batch")
    seconds = check_number("seconds", seconds, "how long a chunk may wait", above=0)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            packer = _Packer(observer, scheduler_or_default(scheduler), size, seconds)
            return packer.start(source)

        return Stream(subscribe, "batch", of_chunks=True)

    return operator


class _Packer:
    """The state of one subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
        size: int,
        seconds: float,
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler
        self._size = size
        self._seconds = seconds
        self._clock = clock_of(scheduler)
        self._valve = valve_of(scheduler)
        self._packs: dict[str | None, list[Token | Reasoning]] = {}
        self._deadlines: dict[str | None, float] = {}
        self._upstream = SingleAssignmentDisposable()
        self._subscription = CompositeDisposable(self._upstream)
        self._in_turn = Trampoline(self._subscription).run
        self._deadline_timer = DeadlineTimer(
            scheduler, partial(self._in_turn, self._send_due, None)
        )
        self._subscription.add(self._deadline_timer)
        self._subscription.add(self._valve.on_change(partial(self._in_turn, self._send_due)))

    def start(self, source: Observable[Chunk]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(
            partial(self._in_turn, self._on_next),
            partial(self._in_turn, self._on_error),
            partial(self._in_turn, self._on_completed, None),
            scheduler=self._scheduler,
        )
        return self._subscription

    def _on_next(self, chunk: Chunk) -> None:
        if (type(chunk) is Token or type(chunk) is Reasoning) and chunk.state is None:
            self._add(chunk, chunk.source)
        elif type(chunk) is Batch:
            for part in chunk.chunks:
                self._add(part, chunk.source)
        else:
            if is_restart(chunk):
                forget(self._packs, chunk.source)
                forget(self._deadlines, chunk.source)
            self._send_all(chunk.source)
            self._observer.on_next(chunk)

    def _on_error(self, error: Exception) -> None:
        self._send_all(None)
        self._observer.on_error(error)

    def _on_completed(self, _: None) -> None:
        self._send_all(None)
        self._observer.on_completed()

    def _add(self, chunk: Token | Reasoning, source: str | None) -> None:
        if not chunk.text:
            return
        pack = self._packs.get(source)
        if pack is None:
            pack = self._packs[source] = []
            deadline = self._deadlines[source] = self._clock() + self._seconds
            self._deadline_timer.set(deadline)
        pack.append(chunk)
        if len(pack) >= self._size:
            self._send(source)

    def _send(self, source: str | None) -> None:
        pack = self._packs.pop(source, None)
        if pack is not None:
            del self._deadlines[source]
            text = "".join([chunk.text for chunk in pack if type(chunk) is Token])
            self._observer.on_next(Batch(tuple(pack), text, source=source))

    def _send_all(self, source: str | None) -> None:
        for each in matching_sources(self._packs, source):
            self._send(each)

    def _send_due(self, _: object) -> None:
        now = self._clock() + RESOLUTION
        for source, deadline in list(self._deadlines.items()):
            if not self._valve.is_open:
                return  # resumes when the valve opens
            if deadline <= now:
                self._send(source)
        if self._deadlines:
            self._deadline_timer.set(min(self._deadlines.values()))
