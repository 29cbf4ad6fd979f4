"""Base for operators that await a coroutine for each chunk and keep the order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.chunks import Chunk, is_restart
from rxllm.errors import StreamCancelledError
from rxllm.restart import committed
from rxllm.stream import Stream
from rxllm.trampoline import Trampoline
from rxllm.valve import (
    StreamScheduler,
    Valve,
    fail_stream,
    running_loop,
    scheduler_or_default,
    valve_of,
    with_valve,
)

__all__ = ["Call", "in_order"]

Call: TypeAlias = Callable[[Chunk], Awaitable[Chunk | None]]
"""Awaited for each content chunk: returns the chunk to pass on, or `None` to drop it."""


def in_order(
    name: str, call: Call, concurrency: int
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Create an operator that replaces each content chunk with the result of `call`, in order.

    Args:
        name: of the operator, for messages.
        call: awaited in a separate task for each chunk.
        concurrency: maximum number of chunks in flight.
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            queue = _OrderedQueue(
                observer, scheduler_or_default(scheduler), name, call, concurrency
            )
            return queue.start(source)

        return Stream(subscribe, name, of_chunks=True)

    return operator


class _Slot:
    """The place of a chunk in the queue, and the chunk to pass on once `done`."""

    __slots__ = ("chunk", "done", "error", "source", "task")

    def __init__(self, chunk: Chunk) -> None:
        self.chunk: Chunk | None = chunk
        self.source = chunk.source
        self.done = False
        self.error: Exception | None = None
        self.task: asyncio.Task[Chunk | None] | None = None  # for content that isn't dropped

    def stop(self) -> None:
        """Drop the chunk and cancel its call."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()


class _OrderedQueue:
    """The state of one subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
        name: str,
        call: Call,
        concurrency: int,
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler
        self._loop = scheduler.loop if isinstance(scheduler, StreamScheduler) else running_loop()
        self._name = name
        self._call = call
        self._concurrency = concurrency
        self._slots: deque[_Slot] = deque()  # running, or done and behind a running one
        self._waiting: deque[Chunk] = deque()  # pushed by a source without demand
        self._last: Callable[[], None] | None = None
        self._held = self._stopped = False
        self._downstream = valve_of(scheduler)
        self._valve = Valve(downstream=self._downstream)
        self._upstream = SingleAssignmentDisposable()
        self._subscription = CompositeDisposable(
            self._upstream,
            self._downstream.on_change(self._on_valve),
            self._valve,
            Disposable(self._stop),
        )
        self._trampoline = Trampoline(self._subscription)

    def start(self, source: Observable[Chunk]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(
            self.on_next,
            self.on_error,
            self.on_completed,
            scheduler=with_valve(self._scheduler, self._valve),
        )
        return self._subscription

    def on_next(self, chunk: Chunk) -> None:
        if self._stopped:
            return  # a synchronous source may still push
        if is_restart(chunk):
            self._drop(chunk.source)
        self._waiting.append(chunk)
        self._move()

    def on_error(self, error: Exception) -> None:
        self._end(partial(self._observer.on_error, error))

    def on_completed(self) -> None:
        self._end(self._observer.on_completed)

    def _end(self, last: Callable[[], None]) -> None:
        self._last = last
        self._move()

    def _move(self) -> None:
        """Start as many calls as there is room for and send finished chunks, until done."""
        if self._trampoline.is_running:
            self._hold()
        self._trampoline.repeat(self._step)

    def _step(self) -> bool:
        """Take one step; return False if there is nothing to do."""
        if self._waiting and len(self._slots) < self._concurrency:
            self._begin(self._waiting.popleft())
            return True
        first = self._slots[0] if self._slots else None
        if first is None and self._last is not None:
            return self._finish(self._last)
        if first is not None and first.error is not None:
            return self._finish(partial(self._observer.on_error, first.error))
        if first is not None and first.done and self._downstream.is_open:
            self._slots.popleft()
            if first.chunk is not None:
                self._observer.on_next(first.chunk)
            return True
        return self._hold()

    def _hold(self) -> bool:
        """Pause upstream while there is no room; return True if it resumed and may have pushed."""
        full = len(self._slots) + len(self._waiting) >= self._concurrency
        if full == self._held:
            return False
        self._held = full
        if full:
            self._valve.close()
        else:
            self._valve.open()
        return not full

    def _begin(self, chunk: Chunk) -> None:
        slot = _Slot(chunk)
        self._slots.append(slot)
        if not chunk.is_content:
            slot.done = True
            return
        task = slot.task = self._loop.create_task(self._run(chunk), name=f"rxllm {self._name}")
        if isinstance(self._scheduler, StreamScheduler):
            tasks: set[asyncio.Task[Any]] = self._scheduler.tasks
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        task.add_done_callback(partial(self._on_done, slot))

    async def _run(self, chunk: Chunk) -> Chunk | None:
        return await self._call(chunk)

    def _on_done(self, slot: _Slot, task: asyncio.Task[Chunk | None]) -> None:
        error: BaseException | None
        if task.cancelled():
            error = StreamCancelledError(f"a call of {self._name} was cancelled from outside")
        else:
            error = task.exception()
        if slot.task is None:  # it was dropped
            if error is not None and not task.cancelled():
                self._report(f"a call of {self._name} failed while it was being cancelled", error)
            return
        if error is None:
            slot.chunk = task.result()
        elif isinstance(error, Exception):
            slot.error = error
        else:
            return  # it has already stopped the loop
        slot.done = True
        try:
            self._move()
        except Exception as failure:
            fail_stream(self._scheduler, failure)

    def _drop(self, source: str | None) -> None:
        """Drop the content of `source` (`None` for all sources), and cancel its calls."""
        slots, chunks = list(self._slots), list(self._waiting)
        kept = committed([*(slot.chunk for slot in slots), *chunks], source)
        self._slots.clear()
        self._waiting.clear()
        for position, slot in enumerate(slots):
            if position >= kept and slot.task is not None and source in (None, slot.source):
                slot.stop()
            else:
                self._slots.append(slot)
        self._waiting.extend(
            chunk
            for position, chunk in enumerate(chunks, len(slots))
            if position < kept or not (chunk.is_content and source in (None, chunk.source))
        )

    def _stop(self) -> None:
        self._stopped = True
        self._waiting.clear()
        while self._slots:
            self._slots.popleft().stop()

    def _finish(self, last: Callable[[], None]) -> bool:
        self._subscription.dispose()
        last()
        return False

    def _on_valve(self, _: bool) -> None:
        self._move()

    def _report(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": message, "exception": error})
