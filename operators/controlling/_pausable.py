"""`pausable`: let a `Control` pause, resume and stop a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable
from reactivex.disposable import SingleAssignmentDisposable as Single

from rxllm.chunks import Chunk, End, Notice, Status, is_restart
from rxllm.operators._deadline_timer import start_patient_timer
from rxllm.operators.controlling._control import Control
from rxllm.stream import Stream
from rxllm.trampoline import Trampoline
from rxllm.valve import Valve, scheduler_or_default, valve_of, with_valve

__all__ = ["pausable"]


def pausable(control: Control) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Let `control` pause, resume and stop the stream.

    ::

        S-a-b-c-E|
        [ pausable(control) ]     p: control.pause()   r: control.resume()
        S-a-p---r(b,c)-E|
        S-a-p---x(E,|)            x: control.stop(); E: End("cancelled")

    Here `b` and `c` come from a source that ignores demand; one that honors it would wait.

    - Completion, error: passed on; during a pause, after the kept chunks.
    - Restart: passed on; it does not end a pause, and the kept chunks stay in order.
    - Disposal: the status is `"cancelled"`, upstream is disposed, kept chunks are dropped; the
      same if the subscriber raises.
    - Demand: a pause closes this operator's own valve, upstream of the subscriber's. A source that
      honors demand sends at most what was in flight; chunks that another source pushes during a
      pause are all kept, without a bound, and released on resuming, or as soon as the subscriber's
      valve opens after that.
    - A pause longer than `control.max_pause` seconds stops the stream, as `control.stop()` does.

    Args:
        control: serves one subscription at a time; a concurrent second one fails with a
            `StreamStateError`.

    Raises:
        TypeError: `control` is not a `Control`.
        StreamStateError: into `on_error`: `control` already has a live subscription.

    >>> from rxllm.testing import Marbles
    >>> marbles, control = Marbles(), Control()
    >>> marbles.at(1, control.pause)
    >>> marbles.at(5, control.resume)
    >>> marbles.at(7, control.stop)
    >>> events = marbles.run(marbles.cold("a-b-----c-d-E|").pipe(pausable(control)))
    >>> [(time, getattr(event, "text", event)) for time, event in events][:2], control.status
    ([(0.0, 'a'), (5.0, 'b')], 'cancelled')
    """
    if not isinstance(control, Control):
        raise TypeError(f"control must be a Control, got {type(control).__name__}")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Subscription(observer, scheduler_or_default(scheduler), control).start(source)

        return Stream(subscribe, "pausable", of_chunks=True)

    return operator


class _Subscription:
    """One subscription."""

    def __init__(
        self, observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase, control: Control
    ) -> None:
        control.attach(self)
        self.status: Status = "running"
        self._observer = observer
        self.scheduler = scheduler
        self._control = control
        self._kept: deque[Callable[[], None]] = deque()
        self._keeping = False  # true while paused, and until all kept chunks are released
        self._trampoline = Trampoline()
        self._end_sent = False
        self._valve = Valve(downstream=valve_of(scheduler))
        self._upstream = Single()
        self._limit = SerialDisposable()
        self._subscription = CompositeDisposable(
            self._upstream, self._limit, self._valve.on_change(self._drain), self._valve
        )

    def start(self, source: Observable[Chunk]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(
            self.on_next,
            self.on_error,
            self.on_completed,
            scheduler=with_valve(self.scheduler, self._valve),
        )
        return Disposable(partial(self._end, "cancelled"))

    def on_next(self, chunk: Chunk, was_kept: bool = False) -> None:
        if self._keeping and not was_kept:
            self._kept.append(partial(self.on_next, chunk, True))
            return
        if type(chunk) is End and chunk.source is None:
            self._end_sent = not chunk.more
        elif type(chunk) is Notice and is_restart(chunk):
            self._end_sent = False
        try:
            self._observer.on_next(chunk)
        except BaseException:
            self._end("cancelled")
            raise

    def on_error(self, error: Exception) -> None:
        self._last(partial(self._fail, error))

    def on_completed(self) -> None:
        self._last(self._complete)

    def pause(self) -> None:
        if self.status != "running":
            return
        # First: if the scheduler refuses it, nothing has changed.
        self._limit.disposable = start_patient_timer(
            self.scheduler, self._control.max_pause, self.stop
        )
        self.status = "paused"
        self._keeping = True
        self._valve.close()

    def resume(self) -> None:
        if self.status != "paused":
            return
        self.status = "running"
        self._limit.disposable = Disposable()
        self._valve.open()

    def stop(self) -> None:
        if self.status not in ("running", "paused"):
            return
        self._end("cancelled")
        if not self._end_sent:
            self._observer.on_next(End("cancelled"))
        self._observer.on_completed()

    def _last(self, event: Callable[[], None]) -> None:
        if self._keeping:
            self._kept.append(event)
        else:
            event()

    def _fail(self, error: Exception) -> None:
        self._end("failed")
        self._observer.on_error(error)

    def _complete(self) -> None:
        self._end("completed")
        self._observer.on_completed()

    def _drain(self, _: bool) -> None:
        self._trampoline.repeat(self._send_kept)

    def _send_kept(self) -> bool:
        """Send the first kept event; False if nothing can be sent now."""
        if self._kept and self._valve.is_open:
            self._kept.popleft()()
            return True
        self._keeping = bool(self._kept) or self.status == "paused"
        return False

    def _end(self, status: Status) -> None:
        if self.status in ("running", "paused"):
            self.status = status
            self._keeping = False
            self._kept.clear()
            self._control.release(self)
            self._subscription.dispose()
