"""Continuous batching: one thread per model, one decode step for all streams that have demand.

The thread lives as long as the model has streams. Before each step it admits waiting streams and
leaves out those that are paused, disposed, or too far ahead of their reader. If others wait, a
stream that has been left out for a while is parked: it gives up its slot, and queues for another
one when it is resumed. Results go to the event loop through one queue, with one wake-up for all
results that have accumulated.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from rxllm.errors import BadRequestError, ModelError, ModelLoadError, RxLLMError
from rxllm.models.local.engine import Engine, answer_limit
from rxllm.models.local.job import Failed, Job, Last, Opened, Outbox, Purpose, Released
from rxllm.requests import Request
from rxllm.text.stop_sequences import StopSequences

__all__ = ["PAUSED_SECONDS", "EngineRunner"]

MOST_PREPARED: Final = 16
"""How many of the waiting streams have their prompts read and their grammars compiled."""

PAUSED_SECONDS: Final = 1.0
"""How long a paused stream keeps its slot if others wait for one."""


class EngineRunner:
    """Runs one engine for any number of streams, from any number of event loops.

    Args:
        name: the model's name, for the thread and error messages.
        load: loads the engine; called on the engine thread. If it raises, all waiting streams fail,
            and it is called again for the next stream.
    """

    def __init__(self, name: str, load: Callable[[], Engine[Any]]) -> None:
        self._name = name
        self._load = load
        self.is_closed: bool = False
        self._left_behind: Engine[Any] | None = None
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._engine: Engine[Any] | None = None
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._opening: Job | None = None
        self._live: list[Job] = []
        self._parked: list[Job] = []
        self._thread: threading.Thread | None = None
        self._is_idle = False

    def _begin_after_fork(self) -> None:
        """Begin again in a forked process: the thread stayed behind, with what it was doing.

        The engine can't be used without it, nor freed: its library may have threads of its own.
        """
        if self._process != os.getpid():
            self._left_behind = self._engine
            self._begin()

    @property
    def engine(self) -> Engine[Any] | None:
        """The engine, or `None` before it is loaded."""
        return self._engine

    @property
    def is_loaded(self) -> bool:
        """Whether a stream can begin without the engine being loaded."""
        self._begin_after_fork()
        return self._engine is not None

    @property
    def active(self) -> int:
        """Number of streams that hold a slot or wait for one."""
        self._begin_after_fork()
        with self._changed:
            return len(self._all_jobs())

    def submit(
        self,
        request: Request,
        loop: asyncio.AbstractEventLoop,
        *,
        purpose: Purpose = "answer",
        grammar: str | None = None,
        outbox: Outbox | None = None,
    ) -> Job:
        """Queue a stream, with events delivered to `loop`. Starts the engine thread if necessary.

        Args:
            request: the request.
            loop: the event loop.
            purpose: what the stream is for; one that isn't for an answer ends after `Opened`.
            grammar: what the answer must follow, from `answer_grammar`.
            outbox: delivers the events; `None` for that of the event loop.

        Raises:
            ModelError: the model has been closed.
        """
        self._begin_after_fork()
        with self._changed:
            if self.is_closed:
                raise ModelError(f"the model {self._name} has been closed")
            outboxes = (job.outbox for job in self._all_jobs() if job.outbox.loop is loop)
            outbox = outbox or next(outboxes, None) or Outbox(loop)
            job = Job(
                request,
                outbox,
                self._wake,
                self._withdraw,
                purpose=purpose,
                grammar=grammar,
            )
            if self._thread is None:
                thread = threading.Thread(
                    target=self._work, name=f"rxllm {self._name}", daemon=True
                )
                thread.start()
                self._thread = thread
            self._waiting.append(job)
            self._changed.notify()
        return job

    def close(self) -> None:
        """Fail all streams, reject new ones, and free the engine after the current step."""
        self._begin_after_fork()
        with self._changed:
            self.is_closed = True
            if self._thread is None:
                self._unload()
            self._changed.notify()

    def _all_jobs(self) -> list[Job]:
        opening = [self._opening] if self._opening else []
        return [*self._live, *self._parked, *opening, *self._waiting]

    def _wake(self) -> None:
        # Without the lock: the thread sets the flag before its last check, so either it sees what
        # was just written, or this sees the flag.
        if self._is_idle:
            with self._changed:
                self._changed.notify()

    def _withdraw(self, job: Job) -> bool:
        with self._changed:
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
            self._changed.notify()
            return True

    def _work(self) -> None:
        try:
            while self._wait_for_work():
                self._drop()
                self._admit()
                batch = [job for job in self._live if job.is_runnable]
                if batch:
                    self._step(batch)
        except BaseException as error:  # native libraries raise more than Exceptions
            self._give_up(error)

    def _wait_for_work(self) -> bool:
        """Sleep until there is work. False if no streams are left and the thread must end."""
        with self._changed:
            while True:
                self._is_idle = True
                if not self._all_jobs():
                    self._thread = None
                    if self.is_closed:
                        self._unload()
                    return False
                for job in self._live:
                    job.note_idle(time.monotonic())
                if self._has_work():
                    self._is_idle = False
                    return True
                self._changed.wait(self._patience())

    def _has_work(self) -> bool:
        return (
            self.is_closed
            or any(job.is_gone or job.is_runnable for job in self._live)
            or any(job.is_gone for job in (*self._parked, *self._waiting))
            or any(job.purpose == "load" for job in self._waiting)
            or (self._has_room() and self._next_to_open() is not None)
        )

    def _has_free_slot(self) -> bool:
        return self._engine is None or len(self._live) < self._engine.slots

    def _has_room(self) -> bool:
        """Whether a slot is free, or held by a stream that has been paused for a while."""
        return self._has_free_slot() or self._first_idle() <= time.monotonic() - PAUSED_SECONDS

    def _first_idle(self) -> float:
        return min((job.idle_since for job in self._live), default=math.inf)

    def _next_to_open(self) -> Job | None:
        """Of the streams that may have a slot, the one that has waited longest."""
        now = time.monotonic()
        return next((job for job in self._queue() if job.may_open(now)), None)

    def _queue(self) -> list[Job]:
        """The next streams that want a slot, in order; a pause takes a stream to the end."""
        resumed = []
        for job in self._parked:
            if job.is_runnable:
                job.queued_at = min(job.queued_at, time.monotonic())
                resumed.append(job)
            else:
                job.queued_at = math.inf
        waiting = [job for job in self._waiting if job.purpose != "load"]
        if resumed:
            waiting = sorted([*resumed, *waiting], key=lambda job: job.queued_at)
        return waiting[:MOST_PREPARED]

    def _patience(self) -> float | None:
        """Seconds until a waiting stream may get a slot without anything else happening."""
        due = math.inf
        if self._queue():
            due = self._first_idle() + PAUSED_SECONDS
            if self._has_room():
                due = min(job.matcher_due for job in self._queue())
        return None if due == math.inf else max(0.0, due - time.monotonic())

    def _drop(self) -> None:
        last: Last = Released()
        if closed := self.is_closed:
            last = Failed(ModelError(f"the model {self._name} was closed"))
        for job in [job for job in (*self._live, *self._parked) if job.is_gone or closed]:
            self._release(job, last)
        with self._changed:
            dropped = [job for job in self._waiting if job.is_gone or closed]
            self._waiting = deque(job for job in self._waiting if job not in dropped)
        for job in dropped:
            job.outbox.put(job, last)

    def _admit(self) -> None:
        engine = self._engine
        if engine is None and self._waiting:
            engine = self._loaded()
        if engine is None:
            return
        self._finish_loads()
        while self._has_room() and (job := self._take_next(engine)) is not None:
            if not self._has_free_slot():
                self._park(engine, min(self._live, key=lambda each: each.idle_since))
            try:
                self._open(engine, job)
            except Exception as error:
                if job.sequence is not None:
                    engine.close(job.sequence)
                self._fail_prompt(job, error)
            self._opening = None

    def _finish_loads(self) -> None:
        """Notify those that only wait for the model to be loaded."""
        with self._changed:
            loads = [job for job in self._waiting if job.purpose == "load"]
            self._waiting = deque(job for job in self._waiting if job not in loads)
        for job in loads:
            job.outbox.put(job, Opened(0, 0))
            job.outbox.put(job, Released())

    def _take_next(self, engine: Engine[Any]) -> Job | None:
        """Take the first stream that may open, and prepare those before it."""
        with self._changed:
            queue = self._queue()
        for job in queue:
            failure = self._prepare(engine, job)
            with self._changed:
                if job not in (*self._parked, *self._waiting):  # it has just withdrawn
                    continue
                if failure is None and not job.may_open(time.monotonic()):
                    continue
                (self._parked if job in self._parked else self._waiting).remove(job)
                if failure is None:
                    self._opening = job
                    return job
            self._fail_prompt(job, failure)
        return None

    def _park(self, engine: Engine[Any], job: Job) -> None:
        engine.park(job.sequence)
        job.queued_at = math.inf
        self._live.remove(job)
        self._parked.append(job)

    def _prepare(self, engine: Engine[Any], job: Job) -> Exception | None:
        """Read the prompt of a stream, unless that is done; returns why it can't be read."""
        if job.prompt is None:
            try:
                job.prepare(engine.prompt(job.request), engine.vocabulary, time.monotonic())
            except Exception as error:
                return error
        return None

    def _fail_prompt(self, job: Job, error: Exception) -> None:
        message = f"the model {self._name} can't read the prompt: {error}"
        job.outbox.put(job, Failed(_wrap_error(ModelError, error, message)))

    def _loaded(self) -> Engine[Any] | None:
        """Load the engine. If that fails, fail all waiting streams and return `None`."""
        try:
            self._engine = self._load()
        except Exception as error:
            message = f"the model {self._name} can't be loaded: {error}"
            failure = Failed(_wrap_error(ModelLoadError, error, message))
            with self._changed:
                failed, self._waiting = self._waiting, deque()
            for job in failed:
                job.outbox.put(job, failure)
        return self._engine

    def _open(self, engine: Engine[Any], job: Job) -> None:
        if job.sequence is not None:
            engine.resume(job.sequence)
            self._go_live(job)
            return
        request, prompt = job.request, job.prompt
        assert prompt is not None  # noqa: S101 - it was prepared
        tokens = prompt.tokens
        if job.purpose == "count":
            job.outbox.put(job, Opened(len(tokens), 0))
            job.outbox.put(job, Released())
            return
        if not tokens:
            raise BadRequestError("the prompt has no tokens")
        job.limit = answer_limit(len(tokens), request, engine.context_length)
        job.stop = StopSequences(*request.stop).matcher() if request.stop else None
        job.sequence = engine.open(tokens, request, job.mask(engine.vocabulary.size))
        self._go_live(job)
        job.put(Opened(len(tokens), job.sequence.cached, prompt.form))

    def _go_live(self, job: Job) -> None:
        job.idle_since = math.inf
        self._opening = None
        self._live.append(job)

    def _step(self, batch: list[Job]) -> None:
        engine = self._engine
        assert engine is not None  # noqa: S101  # there is no live job without it
        try:
            results = engine.step([job.sequence for job in batch])
        except Exception as error:
            results = [error] * len(batch)
        for job, sampled in zip(batch, results, strict=True):
            if isinstance(sampled, Exception):
                message = f"the engine of the model {self._name} failed: {sampled}"
                self._release(job, Failed(_wrap_error(ModelError, sampled, message)))
            elif sampled is None:
                job.note_reading()
            elif (finished := job.add(sampled)) is not None:
                self._release(job, finished)

    def _release(self, job: Job, last: Last) -> None:
        assert self._engine is not None  # noqa: S101  # there is no live job without it
        (self._live if job in self._live else self._parked).remove(job)
        try:
            self._engine.close(job.sequence)
        finally:
            job.outbox.put(job, last)

    def _give_up(self, error: BaseException) -> None:
        """Fail every stream and discard the engine; the next stream loads a new one."""
        message = f"the engine of the model {self._name} crashed: {error!r}"
        failure = Failed(_wrap_error(ModelError, error, message))
        with self._changed:
            failed = self._all_jobs()
            self._live, self._parked, self._opening, self._waiting = [], [], None, deque()
            self._engine = self._thread = None
        for job in failed:
            job.outbox.put(job, failure)

    def _unload(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.unload()


def _wrap_error(kind: type[ModelError], error: BaseException, message: str) -> RxLLMError:
    """Return `error` if it is an `RxLLMError`, else an error of `kind` caused by it."""
    if isinstance(error, RxLLMError):
        return error
    failure = kind(message)
    failure.__cause__ = error
    return failure
