"""`buffered`: a bounded buffer between a fast model and a slow subscriber."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.arguments import check_callable, check_int, check_number
from rxllm.chunks import Chunk, is_restart
from rxllm.restart import surviving
from rxllm.stream import Stream
from rxllm.trampoline import Trampoline
from rxllm.valve import Valve, scheduler_or_default, valve_of, with_valve

__all__ = ["BufferStatus", "buffered"]


class BufferStatus:
    """The fill level of a buffer: pass it to `buffered`, and read it at any time.

    It is live, and costs nothing until it is read. It covers all active subscriptions of every
    operator that it was passed to; without any, every value is 0.

    >>> BufferStatus()
    BufferStatus(queued=0, capacity=0, paused=False, pressure=0.00)
    """

    __slots__ = ("_buffers",)

    def __init__(self) -> None:
        self._buffers: list[_Buffer] = []

    @property
    def queued(self) -> int:
        """The number of chunks waiting in all buffers."""
        return sum(len(buffer.queue) for buffer in self._buffers)

    @property
    def capacity(self) -> int:
        """The total capacity of all buffers, in chunks."""
        return sum(buffer.capacity for buffer in self._buffers)

    @property
    def paused(self) -> bool:
        """True while any producer is paused."""
        return any(buffer.paused for buffer in self._buffers)

    @property
    def pressure(self) -> float:
        """How full the fullest buffer is, from 0.0 to 1.0."""
        return max((buffer.pressure for buffer in self._buffers), default=0.0)

    def __repr__(self) -> str:
        return (
            f"BufferStatus(queued={self.queued}, capacity={self.capacity}, "
            f"paused={self.paused}, pressure={self.pressure:.2f})"
        )


def buffered(
    capacity: int = 1024,
    high: float = 0.8,
    low: float = 0.2,
    status: BufferStatus | None = None,
    on_pause: Callable[[int], object] | None = None,
    on_resume: Callable[[int], object] | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Let the producer run ahead of a slow subscriber, until the buffer is nearly full.

    ::

        S-a-b-c-d.....-------e(E,|)     .: the producer is paused
        [ buffered(4, high=0.75, low=0.25) ]
        S-a-----------(b,c,d)e(E,|)     the subscriber's valve is closed between a and b

    Without this operator, a closed valve pauses the producer immediately. With it, chunks that
    arrive while the valve is closed are queued here, in order, and sent when the valve opens.
    While it is open, chunks pass straight through.

    - Completion, error: wait behind the queued chunks.
    - Restart: the queued content of that answer is dropped. The notice waits behind the other
      sources' chunks, and behind this answer's usage, progress and notices, which are kept.
    - Disposal: the queue is dropped, and the producer is disposed.
    - Demand: the producer gets a separate valve, which doesn't follow the subscriber's: it closes
      when the queue reaches `high` of the capacity, and opens again when no more than `low` of it
      is queued. The room between `high` and the capacity is for chunks that the producer already
      has in flight. A source without demand can't be paused: everything it pushes is kept, even
      above the capacity, and the pressure stays at 1.0. There is no timer: chunks wait as long as
      the valve is closed.

    Args:
        capacity: chunks, 1 or more.
        high: the fraction of the capacity at which the producer pauses, above `low`, at most 1.
        low: the fraction of the capacity at which the producer resumes, 0 or more.
        status: updated live, to be read while the stream runs.
        on_pause: called each time the producer pauses, with the number of queued chunks.
        on_resume: called each time it resumes, with that number.

    Raises:
        ValueError: `capacity` is below 1, or `low` and `high` don't satisfy `0 <= low < high <= 1`.
        TypeError: `capacity` is not an integer, `high` or `low` is not a number, `status` is not a
            `BufferStatus`, or a function can't be called or is asynchronous. An exception that one
            raises becomes the error of the stream.

    >>> from rxllm.testing import Marbles
    >>> marbles, status = Marbles(), BufferStatus()
    >>> marbles.valve.close()
    >>> stream = marbles.cold("a-b-c-d-e-f|", demand=True).pipe(buffered(5, status=status))
    >>> recording = marbles.subscribe(stream)
    >>> marbles.advance_to(20)
    >>> status
    BufferStatus(queued=4, capacity=5, paused=True, pressure=0.80)
    >>> marbles.valve.open()
    >>> "".join(chunk.text for chunk in recording.chunks)
    'abcdef'
    """
    capacity = check_int("capacity", capacity, "chunks that the buffer holds")
    high = check_number(
        "high", high, "the fraction of the capacity at which the producer pauses", minimum=0
    )
    low = check_number(
        "low", low, "the fraction of the capacity at which the producer resumes", minimum=0
    )
    if not 0 <= low < high <= 1:
        raise ValueError(f"need 0 <= low < high <= 1, got low={low}, high={high}")
    if not (status is None or isinstance(status, BufferStatus)):
        raise TypeError(f"status must be a BufferStatus, got {type(status).__name__}")
    for name, function in (("on_pause", on_pause), ("on_resume", on_resume)):
        if function is not None:
            what = "a function of the number of queued chunks"
            check_callable(name, function, what, instead="start a task in it")
    known = status if status is not None else BufferStatus()

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            buffer = _Buffer(observer, scheduler_or_default(scheduler), capacity)
            buffer.marks = (low * capacity, high * capacity)
            buffer.on_pause, buffer.on_resume = on_pause, on_resume
            return buffer.start(source, known._buffers)  # noqa: SLF001 - two halves of one thing

        return Stream(subscribe, "buffered", of_chunks=True)

    return operator


class _Buffer:
    """The state of one subscription."""

    marks: tuple[float, float]
    on_pause: Callable[[int], object] | None
    on_resume: Callable[[int], object] | None

    def __init__(
        self, observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase, capacity: int
    ) -> None:
        self.capacity = capacity
        self.queue: deque[Chunk] = deque()
        self.paused = False
        self._observer = observer
        self._scheduler = scheduler
        self._downstream = valve_of(scheduler)
        self._valve = Valve()
        self._last: Callable[[], None] | None = None
        self._upstream = SingleAssignmentDisposable()
        self._subscription = CompositeDisposable(
            self._upstream,
            self._downstream.on_change(self._drain),
            self._valve,
            Disposable(self.queue.clear),
        )
        self._trampoline = Trampoline(self._subscription)

    @property
    def pressure(self) -> float:
        return min(1.0, len(self.queue) / self.capacity)

    def start(self, source: Observable[Chunk], known: list[_Buffer]) -> abc.DisposableBase:
        known.append(self)
        self._subscription.add(Disposable(lambda: known.remove(self)))
        self._upstream.disposable = source.subscribe(
            self.on_next,
            self.on_error,
            self.on_completed,
            scheduler=with_valve(self._scheduler, self._valve),
        )
        return self._subscription

    def on_next(self, chunk: Chunk) -> None:
        queue = self.queue
        if not queue and self._downstream.is_open and not self._trampoline.is_running:
            try:
                self._observer.on_next(chunk)
            except Exception:
                self._subscription.dispose()
                raise
            return
        if is_restart(chunk):
            self._drop(chunk.source)
        queue.append(chunk)
        self._hold()  # may open the producer's valve: the notice is already queued
        self._drain()

    def on_error(self, error: Exception) -> None:
        self._last = lambda: self._observer.on_error(error)
        self._drain()

    def on_completed(self) -> None:
        self._last = self._observer.on_completed
        self._drain()

    def _drain(self, _: bool = True) -> None:
        self._trampoline.repeat(self._send_next)

    def _send_next(self) -> bool:
        """Send the first queued chunk, or the end; return False if neither can be sent now."""
        if self.queue and self._downstream.is_open:
            self._observer.on_next(self.queue.popleft())
            self._hold()
            return True
        if self._last is not None and not self.queue:
            self._subscription.dispose()
            self._last()
        return False

    def _hold(self) -> None:
        low, high = self.marks
        waiting = len(self.queue)
        if waiting >= high:
            was_paused, self.paused = self.paused, True
            self._valve.close()
            if not was_paused:
                self._tell(self.on_pause)
        elif self.paused and waiting <= low:
            self.paused = False
            self._tell(self.on_resume)
            if not self.paused:
                self._valve.open()

    def _tell(self, function: Callable[[int], object] | None) -> None:
        if function is None or self._subscription.is_disposed:
            return
        try:
            function(len(self.queue))
        except Exception as error:
            self._subscription.dispose()
            self._observer.on_error(error)

    def _drop(self, source: str | None) -> None:
        kept = surviving(self.queue, source)
        self.queue.clear()
        self.queue.extend(kept)
