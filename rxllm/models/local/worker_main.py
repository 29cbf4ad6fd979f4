"""The process of one model: `python -m rxllm.models.local.worker_main KIND PATH OPTIONS`.

Commands come on standard input, events go out on standard output. It ends with its input.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

import msgspec

from rxllm.models.local.job import Event, Failed, Job, Last, Outbox, Released
from rxllm.models.local.runner import EngineRunner
from rxllm.models.local.worker_messages import (
    Cancel,
    Command,
    Demand,
    Failure,
    Submit,
    encode,
    read_commands,
)
from rxllm.models.registry import engine_loader

__all__ = ["main"]


class _Writer:
    """In place of an event loop: calls what the engine's thread asks for, on its own thread."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        threading.Thread(target=self._work, name="writer", daemon=True).start()

    def call_soon_threadsafe(self, call: Callable[[], object]) -> None:
        self._calls.put(call)

    def is_closed(self) -> bool:
        return False

    def _work(self) -> None:
        try:
            while True:
                self._calls.get()()
        except BrokenPipeError:  # nobody listens any more
            os._exit(0)


class _Events(Outbox):
    """Sends all events that have gathered as one message."""

    def __init__(self, output: BinaryIO) -> None:
        super().__init__(_Writer())  # type: ignore[arg-type]  # as much of one as is needed
        self._output = output
        self._lock = threading.Lock()  # a stream's number is known before its first event is sent
        self._numbers: dict[Job, int] = {}
        self._jobs: dict[int, Job] = {}

    def add(self, number: int, submit: Callable[[], Job]) -> None:
        with self._lock:
            job = self._jobs[number] = submit()
            self._numbers[job] = number

    def job(self, number: int) -> Job | None:
        return self._jobs.get(number)

    def _flush(self) -> None:
        self._is_waking = False  # first, so that an event queued from now on wakes again
        sent: list[Any] = []
        with self._lock:
            while self._queue:
                job, event = self._queue.popleft()
                if (number := self._numbers.get(job)) is not None:
                    sent.append((number, _written(event)))
                    if isinstance(event, Last):
                        del self._jobs[number], self._numbers[job]
        if sent:
            self._output.write(encode(sent))
            self._output.flush()


def _written(event: Event) -> Any:
    return Failure.of(event) if isinstance(event, Failed) else event


def main() -> None:
    """Run the model until the input ends."""
    kind, path, options = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native code prints
    events = _Events(output)
    load = engine_loader(kind, Path(path), msgspec.json.decode(options))
    runner = EngineRunner(f"{kind}/{path}", load)
    while (command := read_commands(sys.stdin.buffer)) is not None:
        _obey(command, runner, events)
    os._exit(0)  # a step may still be running


def _obey(command: Command, runner: EngineRunner, events: _Events) -> None:
    if isinstance(command, Submit):
        loop: Any = events.loop
        events.add(
            command.number,
            lambda: runner.submit(
                command.request,
                loop,
                purpose=command.purpose,
                grammar=command.grammar,
                outbox=events,
            ),
        )
        return
    job = events.job(command.number)
    if job is None:
        return
    if isinstance(command, Demand):
        job.taken = command.taken
        job.set_wanted(command.wanted)
    elif isinstance(command, Cancel) and job.cancel():
        events.put(job, Released())


if __name__ == "__main__":
    main()
