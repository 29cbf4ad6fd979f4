"""A model in a process of its own, so that native code that crashes doesn't end this one.

The process is started for the first stream, and again for the next one after it has ended, unless
that happens too often. Events come over a pipe in batches; demand and cancellation go back.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import msgspec

from rxllm.errors import CircuitOpenError, ModelCrashedError, ModelError
from rxllm.models.local.job import LEAD, Event, Failed, Job, Last, Opened, Outbox, Purpose
from rxllm.models.local.worker_messages import (
    Cancel,
    Demand,
    Failure,
    Submit,
    encode,
    read_events,
)
from rxllm.requests import Request

__all__ = ["WorkerRunner"]

_logger = logging.getLogger("rxllm.worker")
_MODULE: Final = "rxllm.models.local.worker_main"
MOST_CRASHES: Final = 3
"""How often the process may end within `CRASH_SECONDS`, before streams fail without it."""

CRASH_SECONDS: Final = 60.0

_ACKNOWLEDGED: Final = LEAD // 2
"""Events between two messages about what was taken."""


class WorkerRunner:
    """Runs the engine of a model in another process; otherwise as an `EngineRunner`.

    Args:
        name: the model's name, for error messages.
        kind: `"llama"` or `"onnx"`.
        path: the model's file or directory.
        options: those of the engine.
    """

    def __init__(self, name: str, kind: str, path: Path, options: dict[str, Any]) -> None:
        self._name = name if str(path) in name else f"{name} ({path})"
        self._arguments = [kind, str(path), msgspec.json.encode(options).decode()]
        self.is_closed: bool = False
        self._lock = threading.RLock()  # streams of several event loops may share the process
        self._process: _Process | None = None
        self._owner = os.getpid()
        self._crashes: deque[float] = deque(maxlen=MOST_CRASHES)

    @property
    def pid(self) -> int | None:
        """The id of the process, or `None` before it is started."""
        return None if self._process is None else self._process.pid

    @property
    def is_loaded(self) -> bool:
        """Whether a stream can begin without the model being loaded."""
        process = self._process
        return process is not None and self._owner == os.getpid() and process.is_loaded

    @property
    def active(self) -> int:
        """Number of streams that hold a slot or wait for one."""
        process = self._process
        return 0 if process is None or self._owner != os.getpid() else len(process.streams)

    def submit(
        self,
        request: Request,
        loop: asyncio.AbstractEventLoop,
        *,
        purpose: Purpose = "answer",
        grammar: str | None = None,
    ) -> Job:
        """Begin a stream, with events delivered to `loop`; see `EngineRunner.submit`.

        Raises:
            ModelError: the model has been closed.
            CircuitOpenError: the process has ended too often recently.
        """
        with self._lock:
            if self.is_closed:
                raise ModelError(f"the model {self._name} has been closed")
            if self._owner != os.getpid():  # the process belongs to the one that forked
                self._owner, self._process = os.getpid(), None
            if self._process is None or self._process.has_ended:
                self._check_crashes()
                self._process = _Process(self._name, self._arguments)
                weakref.finalize(self, self._process.end)
            return self._process.submit(request, loop, purpose, grammar)

    def _check_crashes(self) -> None:
        """Raise a `CircuitOpenError` if the process has ended too often recently."""
        if self._process is not None and not self._process.is_counted:
            self._process.is_counted = True
            self._crashes.append(self._process.ended_at)
        if len(self._crashes) == MOST_CRASHES:
            wait = self._crashes[0] + CRASH_SECONDS - time.monotonic()
            if wait > 0:
                raise CircuitOpenError(
                    f"the process of the model {self._name} has ended {MOST_CRASHES} times within "
                    f"{CRASH_SECONDS:g} s: it is started again in {wait:.0f} s"
                )

    def close(self) -> None:
        """Fail all streams, reject new ones, and end the process."""
        with self._lock:
            self.is_closed = True
            if self._process is not None and self._owner == os.getpid():
                self._process.end()


class _Stream:
    """One stream, and what the other process knows of it."""

    def __init__(self, process: _Process, number: int) -> None:
        self._process = process
        self._number = number
        self.job: Job
        self._taken = 0
        self._wanted = True
        self._is_cancelled = False

    def tell(self) -> None:
        """Send what has changed. Called on the event loop of the stream."""
        job = self.job
        if job.cancelled:
            if not self._is_cancelled:
                self._is_cancelled = True
                self._process.send(Cancel(self._number))
        elif job.wanted != self._wanted or job.taken - self._taken >= _ACKNOWLEDGED:
            self._taken, self._wanted = job.taken, job.wanted
            self._process.send(Demand(self._number, job.taken, job.wanted))


class _Process:
    """One process and its streams, by their numbers."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self._name = name
        self._numbers = itertools.count()
        self.streams: dict[int, _Stream] = {}
        self.has_ended: bool = False
        self.is_loaded: bool = False
        self.is_counted: bool = False
        self.ended_at = 0.0
        self.pid: int | None = None
        self._is_ending = False
        self._reason = ""
        self._lock = threading.Lock()
        self._commands: SimpleQueue[bytes | None] = SimpleQueue()
        threading.Thread(
            target=self._run, args=(arguments,), name=f"worker {name}", daemon=True
        ).start()

    def submit(
        self,
        request: Request,
        loop: asyncio.AbstractEventLoop,
        purpose: Purpose,
        grammar: str | None,
    ) -> Job:
        number = next(self._numbers)
        with self._lock:
            outboxes = (each.job.outbox for each in list(self.streams.values()))
            outbox = next((each for each in outboxes if each.loop is loop), None) or Outbox(loop)
            stream = _Stream(self, number)
            stream.job = Job(request, outbox, stream.tell, lambda _: False)
            self.streams[number] = stream
            if self.has_ended:
                self._fail()
        self.send(Submit(number, request, purpose, grammar))
        return stream.job

    def send(self, command: Submit | Demand | Cancel) -> None:
        self._commands.put(encode(command))

    def end(self) -> None:
        """End the process. Idempotent; never waits."""
        self._is_ending = True
        self._commands.put(None)

    def _run(self, arguments: list[str]) -> None:
        """Start the process, and write the commands to it."""
        try:
            process = subprocess.Popen(  # noqa: S603 - this interpreter
                [sys.executable, "-m", _MODULE, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        except OSError as error:
            self._finish(f"can't be started: {error}")
            return
        self.pid = process.pid
        threading.Thread(
            target=self._read, args=(process,), name=f"reader {self._name}", daemon=True
        ).start()
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(OSError):  # it has ended; the reader sees that
            while (data := self._commands.get()) is not None:
                process.stdin.write(data)
                process.stdin.flush()
        with suppress(OSError):
            process.stdin.close()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Deliver the events of the process until it ends."""
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            with process.stdout as output:
                while (events := read_events(output)) is not None:
                    for number, sent in events:
                        self._deliver(
                            number, sent.as_event() if isinstance(sent, Failure) else sent
                        )
        except Exception:
            _logger.exception("the process of the model %s can't be understood", self._name)
            process.kill()
        code = process.wait()
        self._commands.put(None)
        self._finish(_how(code))

    def _deliver(self, number: int, event: Event) -> None:
        if isinstance(event, Opened):
            self.is_loaded = True
        find = self.streams.pop if isinstance(event, Last) else self.streams.get
        if (stream := find(number, None)) is not None:
            stream.job.outbox.put(stream.job, event)

    def _finish(self, how: str) -> None:
        with self._lock:
            self.ended_at = time.monotonic()
            self.has_ended, self.is_loaded = True, False
            if not self._is_ending:
                self._reason = f"the process of the model {self._name} {how}"
                _logger.error("%s", self._reason)
            self._fail()

    def _fail(self) -> None:
        for stream in self.streams.values():
            error = (
                ModelError(f"the model {self._name} was closed")
                if self._is_ending
                else ModelCrashedError(f"{self._reason}; it is started again for the next stream")
            )
            stream.job.outbox.put(stream.job, Failed(error))
        self.streams.clear()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with the status {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by the signal {-code}"
