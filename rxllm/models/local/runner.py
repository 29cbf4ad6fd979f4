"""Continuous batching: one thread a model, one decode step for all streams that want one.

The thread lives while the model has streams, and ends with the last of them. Before each step it
lets waiting streams in and drops those that are paused, disposed of, or too far ahead of their
reader; what a step gave goes to the event loop through one queue, with one wake-up for all that
has gathered.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from rxllm.chunks import FinishReason
from rxllm.errors import ModelError, RxLLMError
from rxllm.models.local.engine import Engine, Sampled, check_context
from rxllm.requests import Request
from rxllm.stop_sequences import StopMatcher, StopSequences

__all__ = ["EngineRunner", "Failed", "Finished", "Job", "Opened", "Piece"]

LEAD: Final = 16
"""How many tokens a stream may be ahead of its reader before it leaves the batch."""


@dataclass(slots=True, frozen=True)
class Opened:
    """The stream has its slot. `cached` of its `input_tokens` need not be computed again."""

    input_tokens: int
    cached: int


@dataclass(slots=True, frozen=True)
class Piece:
    """One token's worth of text, which may be empty."""

    text: str
    confidence: float | None


@dataclass(slots=True, frozen=True)
class Finished:
    """The last event of a good answer."""

    reason: FinishReason
    stop_sequence: str | None
    output_tokens: int


@dataclass(slots=True, frozen=True)
class Failed:
    """The last event of any other."""

    error: RxLLMError


@dataclass(slots=True, frozen=True)
class Released:
    """The last event of a stream that was cancelled: its slot is free."""


Event = Opened | Piece | Finished | Failed | Released
_LAST = (Finished, Failed, Released)


class Job:
    """One stream, between its event loop and the engine thread.

    The event loop writes `taken`, `wanted` and `cancelled`, the engine thread everything else.
    """

    def __init__(self, request: Request, outbox: _Outbox, wake: Callable[[], None]) -> None:
        self.request = request
        self.outbox = outbox
        self._wake = wake
        self.taken = 0
        self.made = 0
        self.wanted = True
        self.cancelled = False
        self.sequence: Any = None
        self.output_tokens = 0
        self.limit = 0
        self.stop: StopMatcher | None = None
        self.events: list[Event] = []
        self._reading = 0
        self._arrived = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def is_runnable(self) -> bool:
        """True if the stream takes part in the next decode step."""
        return self.wanted and not self.cancelled and self.made - self.taken < LEAD

    @property
    def is_gone(self) -> bool:
        """True if nobody listens any more: the stream was left, or its event loop is closed."""
        return self.cancelled or self.outbox.loop.is_closed()

    async def next_events(self) -> list[Event]:
        """All events that have gathered since the last call, one at least.

        A call says that the events of the last one have been passed on.
        """
        self.taken += self._reading
        self._wake()
        await self._arrived.wait()
        self._arrived.clear()
        events, self.events = self.events, []
        self._reading = len(events)
        return events

    def receive(self, event: Event) -> None:
        """Called on the event loop for each event."""
        if isinstance(event, _LAST):
            self._over.set()
        if not self.cancelled:
            self.events.append(event)
            self._arrived.set()

    def set_wanted(self, wanted: bool) -> None:
        """Leave the batch at the next step, or enter it again."""
        self.wanted = wanted
        self._wake()

    async def leave(self) -> None:
        """Give the slot back, if it is still held; returns once it is free."""
        if not self._over.is_set():
            self.cancelled = True
            self._wake()
            await self._over.wait()


class _Outbox:
    """What the engine thread hands to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queue: deque[tuple[Job, Event]] = deque()
        self._is_waking = False

    def put(self, job: Job, event: Event) -> None:
        self._queue.append((job, event))
        if not self._is_waking:
            self._is_waking = True
            with suppress(RuntimeError):  # the loop is closed: its jobs are gone
                self.loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        self._is_waking = False  # first, so that an event put from here on wakes the loop again
        while self._queue:
            job, event = self._queue.popleft()
            job.receive(event)


class EngineRunner:
    """Runs one engine for any number of streams, from any number of event loops.

    Args:
        name: for the thread's name and for errors.
        load: loads the engine; called once, on the engine thread. A `ModelLoadError` out of it
            fails the streams that wait, and it is tried again for later ones.
    """

    def __init__(self, name: str, load: Callable[[], Engine[Any]]) -> None:
        self._name = name
        self._load = load
        self._engine: Engine[Any] | None = None
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._live: list[Job] = []
        self._thread: threading.Thread | None = None
        self._is_idle = False
        self.is_closed = False

    @property
    def engine(self) -> Engine[Any] | None:
        """The engine, once it is loaded."""
        return self._engine

    @property
    def active(self) -> int:
        """How many streams hold a slot or wait for one."""
        return len(self._live) + len(self._waiting)

    def submit(self, request: Request, loop: asyncio.AbstractEventLoop) -> Job:
        """Queue a stream; its events come to `loop`. Starts the engine thread if need be."""
        with self._changed:
            if self.is_closed:
                raise ModelError(f"the model {self._name} has been closed")
            outbox = next(
                (job.outbox for job in (*self._live, *self._waiting) if job.outbox.loop is loop),
                None,
            )
            job = Job(request, outbox or _Outbox(loop), self._wake)
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name=f"rxllm {self._name}", daemon=True
                )
                self._thread.start()
            self._changed.notify()
        return job

    def close(self) -> None:
        """Fail all streams, take no more, and free the engine once the step under way is done."""
        with self._changed:
            self.is_closed = True
            idle = self._thread is None
            self._changed.notify()
        if idle:
            self._unload()

    def _wake(self) -> None:
        # Without the lock: the thread sets the flag before its last look, so either it sees what
        # was just written, or this sees the flag.
        if self._is_idle:
            with self._changed:
                self._changed.notify()

    def _work(self) -> None:
        while self._wait_for_work():
            self._drop()
            self._admit()
            batch = [job for job in self._live if job.is_runnable]
            if batch:
                self._step(batch)
        if self.is_closed:
            self._unload()

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do. False: no streams are left, the thread ends."""
        with self._changed:
            while True:
                self._is_idle = True
                if not self._live and not self._waiting:
                    self._thread = None
                    return False
                if (
                    self.is_closed
                    or any(job.is_gone or job.is_runnable for job in self._live)
                    or any(job.is_gone for job in self._waiting)
                    or (self._waiting and self._has_free_slot())
                ):
                    self._is_idle = False
                    return True
                self._changed.wait()

    def _has_free_slot(self) -> bool:
        return self._engine is None or len(self._live) < self._engine.slots

    def _drop(self) -> None:
        last: Failed | Released = Released()
        if closed := self.is_closed:
            last = Failed(ModelError(f"the model {self._name} was closed"))
        for job in [job for job in self._live if job.is_gone or closed]:
            self._release(job, last)
        with self._changed:
            dropped = [job for job in self._waiting if job.is_gone or closed]
            self._waiting = deque(job for job in self._waiting if job not in dropped)
        for job in dropped:
            job.outbox.put(job, last)

    def _admit(self) -> None:
        while self._waiting and self._has_free_slot():
            try:
                engine = self._engine = self._engine or self._load()
            except Exception as error:
                failure = _as_model_error(error, f"the model {self._name} can't be loaded")
                with self._changed:
                    failed, self._waiting = self._waiting, deque()
                for job in failed:
                    job.outbox.put(job, Failed(failure))
                return
            job = self._waiting[0]
            try:
                self._open(engine, job)
            except Exception as error:
                message = f"the model {self._name} can't read the prompt"
                job.outbox.put(job, Failed(_as_model_error(error, message)))
            # Only now, so that the runner never looks as if it had no stream.
            self._waiting.popleft()

    def _open(self, engine: Engine[Any], job: Job) -> None:
        request = job.request
        tokens = engine.prompt(request)
        check_context(len(tokens), request, engine.context_length)
        room = engine.context_length - len(tokens)
        job.limit = room if request.max_tokens is None else request.max_tokens
        job.stop = StopSequences(*request.stop).matcher() if request.stop else None
        job.sequence = engine.open(tokens, request)
        self._live.append(job)
        job.made += 1
        job.outbox.put(job, Opened(len(tokens), engine.cached(job.sequence)))

    def _step(self, batch: list[Job]) -> None:
        engine = self._engine
        assert engine is not None  # noqa: S101  # there is no job without it
        try:
            results = engine.step([job.sequence for job in batch])
        except Exception as error:
            failure = _as_model_error(error, f"the engine of the model {self._name} failed")
            for job in batch:
                self._release(job, Failed(failure))
            return
        for job, sampled in zip(batch, results, strict=True):
            if sampled is not None:
                self._hand_over(job, sampled)

    def _hand_over(self, job: Job, sampled: Sampled) -> None:
        text, stop = sampled.text, job.stop
        if not sampled.is_end:
            job.output_tokens += 1
            if stop is not None:
                text = stop.feed(text)
        matched = stop.matched if stop is not None else None
        reason: FinishReason | None = None
        if sampled.is_end or matched is not None:
            reason = "stop"
        elif job.output_tokens >= job.limit:
            reason = "length"
        if stop is not None and reason is not None and matched is None:
            text += stop.flush()
        if reason is None or text:
            confidence = sampled.confidence if text == sampled.text else None
            job.made += 1
            job.outbox.put(job, Piece(text, confidence))
        if reason is not None:
            self._release(job, Finished(reason, matched, job.output_tokens))

    def _release(self, job: Job, last: Finished | Failed | Released) -> None:
        assert self._engine is not None  # noqa: S101  # there is no live job without it
        self._live.remove(job)
        self._engine.close(job.sequence)
        job.outbox.put(job, last)

    def _unload(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.unload()


def _as_model_error(error: Exception, message: str) -> RxLLMError:
    if isinstance(error, RxLLMError):
        return error
    failure = ModelError(f"{message}: {error}")
    failure.__cause__ = error
    return failure
