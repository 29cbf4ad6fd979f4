"""One thread for all grammars of this process.

Compiling can't be interrupted, and a chain of references takes a stack that the usual threads of
some systems don't have.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar

from rxllm.background import GRAMMAR_THREAD
from rxllm.errors import PoolFullError

__all__ = ["COMPILE_SECONDS", "compile_later"]

COMPILE_SECONDS: Final = 10.0
"""How long a stream waits for its grammar to be compiled."""

_STACK: Final = 256 * 1024 * 1024  # bytes, of virtual memory
_MOST_WAITING: Final = 64

_T = TypeVar("_T")
_Task: TypeAlias = tuple[Future[Any], Callable[[], Any], float]


class _Compiler:
    def __init__(self) -> None:
        self._tasks: queue.Queue[_Task] = queue.Queue(_MOST_WAITING)
        self._lock = threading.Lock()
        self._is_started = False

    def put(self, task: _Task) -> None:
        """Queue a task; raises `queue.Full`."""
        self._tasks.put_nowait(task)
        with self._lock:
            if not self._is_started:
                self._is_started = True
                _start_with_large_stack(self._work)

    def _work(self) -> None:
        while True:
            _run(*self._tasks.get())  # keeps nothing of a task once it is done


def _run(future: Future[Any], make: Callable[[], Any], asked_at: float) -> None:
    if time.monotonic() - asked_at > COMPILE_SECONDS:
        future.set_exception(PoolFullError("too many grammars are being compiled"))
        return
    try:
        made = make()
    except BaseException as error:  # native code raises more than Exceptions
        future.set_exception(error)
    else:
        future.set_result(made)


def compile_later(make: Callable[[], _T]) -> Future[_T]:
    """Return the future of `make()`, called on the compiling thread.

    Its errors: those of `make`; `PoolFullError`, if 64 are waiting or it has waited for 10 s.
    """
    future: Future[_T] = Future()
    try:
        _compiler.put((future, make, time.monotonic()))
    except queue.Full:
        future.set_exception(PoolFullError("too many grammars are waiting to be compiled"))
    return future


def _start_with_large_stack(work: Callable[[], None]) -> None:
    usual = threading.stack_size()
    with suppress(ValueError):  # the system doesn't allow it
        threading.stack_size(_STACK)
    try:
        threading.Thread(target=work, name=GRAMMAR_THREAD, daemon=True).start()
    finally:
        threading.stack_size(usual)


_compiler = _Compiler()


def _begin_again() -> None:
    global _compiler
    _compiler = _Compiler()  # the thread stayed behind in the other process


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_begin_again)
