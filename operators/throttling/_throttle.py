"""`throttle`: at most one text chunk per interval, without losing text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SingleAssignmentDisposable

from rxllm.arguments import check_number
from rxllm.chunks import Batch, Chunk, End, Token, is_bare_state, is_restart, text_of
from rxllm.operators._deadline_timer import RESOLUTION, DeadlineTimer
from rxllm.operators._held_text import joined, parts_of
from rxllm.restart import forget, matching_sources
from rxllm.stream import Stream
from rxllm.trampoline import Trampoline
from rxllm.valve import clock_of, scheduler_or_default, valve_of

__all__ = ["throttle"]


def throttle(seconds: float) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Send at most one text chunk per interval, joining the text that arrives in between.

    ::

        S-abcd-----e-f(E,|)
        [ throttle(3) ]
        S-a--(bcd)-e--(f,E,|)

    The first text chunk is sent immediately. Text that arrives within `seconds` of the last one
    sent is joined, and sent when the interval is over: several tokens as one `Token`, whose
    confidence is the product of theirs, if all of them have one; or as one `Batch` if there is a
    batch among them. No text is lost, and the joined text is the same however it is cut into
    chunks. A chunk with empty text doesn't start an interval. Any other chunk, including
    `Reasoning`, flushes the held text of its own stream, or of all streams if it has no source, and
    is then passed on immediately.

    - Completion, error: held text is sent first.
    - Restart: held text of that stream is dropped, and its next text is sent immediately.
    - Disposal: held text is dropped and the timer is cancelled.
    - Demand: passes through. The text of one interval is held for each source; if the interval
      ends while the valve is closed, it waits until the valve opens. One timer serves the
      subscription: the first held text sets it, and the text that joins it doesn't touch it.

    Args:
        seconds: the interval, above 0.

    Raises:
        ValueError: `seconds` is not above 0.
        TypeError: `seconds` is not a number.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> source = marbles.cold("a-b-c-d--------|")
    >>> for time, event in marbles.run(source.pipe(throttle(5))):
    ...     print(time, getattr(event, "text", event))
    0.0 a
    5.0 bc
    10.0 d
    15.0 |
    """
    seconds = check_number("seconds", seconds, "seconds between two text chunks", above=0)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            throttler = _Throttler(observer, scheduler_or_default(scheduler), seconds)
            return throttler.start(source)

        return Stream(subscribe, "throttle", of_chunks=True)

    return operator


class _Throttler:
    """The state of one subscription."""

    def __init__(
        self, observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase, seconds: float
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler
        self._seconds = seconds
        self._clock = clock_of(scheduler)
        self._valve = valve_of(scheduler)
        self._free: dict[str | None, float] = {}  # when text may be sent again
        self._held: dict[str | None, list[Chunk]] = {}
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
        source = chunk.source
        if (type(chunk) is Token and not is_bare_state(chunk)) or type(chunk) is Batch:
            held = self._held.get(source)
            if held is not None:
                held.append(chunk)
            elif chunk.text:
                self._first(chunk, source)
            else:
                self._observer.on_next(chunk)
            return
        if is_restart(chunk):
            forget(self._held, source)
            forget(self._free, source)
        self._send_all(source)
        if type(chunk) is End:
            forget(self._free, source)
        self._observer.on_next(chunk)

    def _on_error(self, error: Exception) -> None:
        self._send_all(None)
        self._observer.on_error(error)

    def _on_completed(self, _: None) -> None:
        self._send_all(None)
        self._observer.on_completed()

    def _first(self, chunk: Token | Batch, source: str | None) -> None:
        now = self._clock()
        free = self._free.get(source, now)
        if free <= now + RESOLUTION and self._valve.is_open:
            self._free[source] = now + self._seconds
            self._observer.on_next(chunk)
            return
        self._free[source] = free
        self._held[source] = [chunk]
        if free > now + RESOLUTION:
            self._deadline_timer.set(free)

    def _send(self, source: str | None) -> None:
        held = self._held.pop(source, None)
        if held is not None:
            self._free[source] = self._clock() + self._seconds
            self._observer.on_next(_joined(held))

    def _send_all(self, source: str | None) -> None:
        for each in matching_sources(self._held, source):
            self._send(each)

    def _send_due(self, _: object) -> None:
        now = self._clock() + RESOLUTION
        for source in list(self._held):
            if not self._valve.is_open:
                return  # resumes when the valve opens
            if self._free[source] <= now:
                self._send(source)
        if self._held:
            self._deadline_timer.set(min(self._free[source] for source in self._held))


def _joined(held: list[Chunk]) -> Chunk:
    if len(held) == 1:
        return held[0]
    text, source = "".join(map(text_of, held)), held[0].source
    if any(type(chunk) is Batch for chunk in held):
        parts = [part for part in parts_of(held) if type(part) is not Batch]
        return Batch(tuple(parts), text, source=source)  # type: ignore[arg-type]
    return joined(held, source)
