"""Continuous batching: one thread per model, one decode step for all streams that have demand.

The thread lives as long as the model has streams. Before each step it admits waiting streams and
leaves out those that are paused, disposed, or too far ahead of their reader. Results go to the
event loop through one queue, with one wake-up for all results that have accumulated.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rxllm.errors import BadRequestError, ModelError, ModelLoadError, RxLLMError
from rxllm.models.local.engine import Engine, answer_limit
from rxllm.models.local.job import Failed, Job, Last, Opened, Outbox, Released
from rxllm.requests import Request
from rxllm.text.stop_sequences import StopSequences

__all__ = ["EngineRunner"]


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
        only_counts: bool = False,
        grammar: str | None = None,
        outbox: Outbox | None = None,
    ) -> Job:
        """Queue a stream, with events delivered to `loop`. Starts the engine thread if necessary.

        Args:
            request: the request.
            loop: the event loop.
            only_counts: the prompt is counted (`Opened`), and not answered.
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
                only_counts=only_counts,
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
        return [*self._live, *([self._opening] if self._opening else []), *self._waiting]

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
                if not self._live and not self._waiting:
                    self._thread = None
                    if self.is_closed:
                        self._unload()
                    return False
                if (
                    self.is_closed
                    or any(job.is_gone or job.is_runnable for job in self._live)
                    or any(job.is_gone for job in self._waiting)
                    or (self._next_to_open() is not None and self._has_free_slot())
                ):
                    self._is_idle = False
                    return True
                self._changed.wait(self._patience())

    def _next_to_open(self) -> Job | None:
        """The first waiting stream whose grammar is ready."""
        now = time.monotonic()
        return next((job for job in self._waiting if job.may_open(now)), None)

    def _patience(self) -> float | None:
        """Seconds until the grammar of a waiting stream is late, if a slot is free."""
        due = min((job.matcher_due for job in self._waiting), default=math.inf)
        if due == math.inf or not self._has_free_slot():
            return None
        return max(0.0, due - time.monotonic())

    def _has_free_slot(self) -> bool:
        return self._engine is None or len(self._live) < self._engine.slots

    def _drop(self) -> None:
        last: Last = Released()
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
        engine = self._engine
        while self._waiting and self._has_free_slot():
            if engine is None:
                engine = self._loaded()
                if engine is None:
                    return
            job = self._take_next(engine)
            if job is None:
                return
            try:
                self._open(engine, job)
            except Exception as error:
                self._fail_prompt(job, error)
            self._opening = None

    def _take_next(self, engine: Engine[Any]) -> Job | None:
        """Take the first waiting stream that may open, and prepare those before it."""
        with self._changed:
            waiting = [*self._waiting]
        for job in waiting:
            failure = self._prepare(engine, job)
            with self._changed:
                if job not in self._waiting:  # it has just withdrawn
                    continue
                if failure is None and not job.may_open(time.monotonic()):
                    continue
                self._waiting.remove(job)
                if failure is None:
                    self._opening = job
                    return job
            self._fail_prompt(job, failure)
        return None

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
        request = job.request
        assert job.prompt is not None  # noqa: S101 - it was prepared
        tokens = job.prompt.tokens
        if job.only_counts:
            job.outbox.put(job, Opened(len(tokens), 0))
            job.outbox.put(job, Released())
            return
        if not tokens:
            raise BadRequestError("the prompt has no tokens")
        job.limit = answer_limit(len(tokens), request, engine.context_length)
        job.stop = StopSequences(*request.stop).matcher() if request.stop else None
        job.sequence = engine.open(tokens, request, job.mask(engine.vocabulary.size))
        self._live.append(job)
        job.made += 1
        job.outbox.put(job, Opened(len(tokens), job.sequence.cached, job.prompt.form))

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
            elif sampled is not None and (finished := job.add(sampled)) is not None:
                self._release(job, finished)

    def _release(self, job: Job, last: Last) -> None:
        assert self._engine is not None  # noqa: S101  # there is no live job without it
        self._live.remove(job)
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
            self._live, self._opening, self._waiting = [], None, deque()
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
