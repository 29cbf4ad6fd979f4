"""`buffered`: a bounded buffer between a fast model and a slow subscriber."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.arguments import check_int, check_number
from rxllm.chunks import Chunk, is_restart
from rxllm.restart import survives_restart
from rxllm.stream import Stream
from rxllm.trampoline import Trampoline
from rxllm.valve import Valve, scheduler_or_default, valve_of, with_valve

__all__ = ["BufferStatus", "buffered"]


class BufferStatus:
    """How full a buffer is: to be given to `buffered`, and read at any time.

    It is live, and costs nothing while nobody reads it. It tells of all subscriptions that run
    now, of each operator that it was given to; of none all is 0.

    >>> BufferStatus()
    BufferStatus(queued=0, capacity=0, paused=False, pressure=0.00)
    """

    __slots__ = ("_buffers",)

    def __init__(self) -> None:
        self._buffers: list[_Buffering] = []

    @property
    def queued(self) -> int:
        """Chunks that wait in all buffers."""
        return sum(len(buffer.queue) for buffer in self._buffers)

    @property
    def capacity(self) -> int:
        """Chunks that all buffers have room for."""
        return sum(buffer.capacity for buffer in self._buffers)

    @property
    def paused(self) -> bool:
        """True while a producer is held."""
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
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Let the producer run ahead of a slow subscriber, until the buffer is nearly full.

    ::

        S-a-b-c-d.....-------e(E,|)     .: the producer is held
        [ buffered(4, high=0.75, low=0.25) ]
        S-a-----------(b,c,d)e(E,|)     the subscriber's valve is closed between a and b

    Without this, a closed valve holds the producer at once. With it, what comes while the valve is
    closed waits here, in its order, and leaves when the valve opens. While it is open chunks pass
    as they come.

    - Completion, error: wait behind what is queued.
    - Restart: what is queued of that answer is dropped; the notice waits behind the others', and
      behind what it leaves of this one: usage, progress and notices.
    - Disposal: what is queued is dropped, and the producer disposed.
    - Demand: the producer has a valve of its own, which the subscriber's does not close: only
      `high` of the capacity does, and it opens again when no more than `low` of it waits. The
      room between `high` and the capacity is for what the producer has under way. A source that
      knows no demand can't be held: all that it pushes is kept, over the capacity too, and the
      pressure stays 1.0. There is no timer: chunks wait as long as the valve is closed.

    Args:
        capacity: chunks, 1 or more.
        high: the part of the capacity at which the producer is held, above `low`, 1 at most.
        low: the part of it at which the producer goes on, 0 or more.
        status: kept live, to be read while the stream runs.

    Raises:
        ValueError: `capacity` is below 1, or `low` and `high` are no such parts.
        TypeError: something else than numbers, `capacity` no whole one; `status` is no
            `BufferStatus`.

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
    capacity = check_int("capacity", capacity, "the number of chunks that find room")
    high = check_number(
        "high", high, "the part of the capacity at which the producer is held", minimum=0
    )
    low = check_number(
        "low", low, "the part of the capacity at which the producer goes on", minimum=0
    )
    if not 0 <= low < high <= 1:
        raise ValueError(f"low and high are parts of the capacity, 0 to 1: {low}, {high}")
    if not (status is None or isinstance(status, BufferStatus)):
        raise TypeError(f"status is a BufferStatus, not {type(status).__name__}")
    known = status if status is not None else BufferStatus()

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            buffering = _Buffering(observer, scheduler_or_default(scheduler), capacity)
            buffering.marks = (low * capacity, high * capacity)
            return buffering.start(source, known._buffers)  # noqa: SLF001 - the two are one

        return Stream(subscribe, "buffered", of_chunks=True)

    return operator


class _Buffering:
    """One subscription."""

    marks: tuple[float, float]

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

    def start(self, source: Observable[Chunk], known: list[_Buffering]) -> abc.DisposableBase:
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
        self._hold()  # which may open the producer's valve: the notice stands in its place
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
        """Send the first chunk of the queue, or the end; False if neither can be sent now."""
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
            self.paused = True
            self._valve.close()
        elif self.paused and waiting <= low:
            self.paused = False
            self._valve.open()

    def _drop(self, source: str | None) -> None:
        kept = [chunk for chunk in self.queue if survives_restart(chunk, source)]
        self.queue.clear()
        self.queue.extend(kept)
