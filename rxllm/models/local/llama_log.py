"""llama.cpp's log, kept off the terminal and searched for the reason when loading fails."""

from __future__ import annotations

import ctypes
import logging
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp

__all__ = ["LoadLog", "log_of_this_thread", "stderr_captured"]

_ERROR = 4  # GGML_LOG_LEVEL_ERROR (ggml.h)
_logger = logging.getLogger("rxllm.llama")
_listening = threading.local()
_one_at_a_time = threading.Lock()  # file descriptors are shared by all threads


class LoadLog:
    """The errors that llama.cpp logged on one thread."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)

    def reason(self) -> str:
        """Return the first error message, without the name of the function that logged it."""
        if not self.errors:
            return "no reason given"
        return self.errors[0].split(": ", 1)[-1]


@contextmanager
def log_of_this_thread() -> Iterator[LoadLog]:
    """Collect what llama.cpp logs on this thread."""
    log = _listening.log = LoadLog()
    # llama-cpp-python sets a callback that prints, and its models may set it again at any time.
    llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))
    try:
        yield log
    finally:
        _listening.log = None


@contextmanager
def stderr_captured() -> Iterator[Callable[[], str]]:
    """Capture what C code prints to stderr, bypassing any callback. For very short calls.

    Yields a function that returns the captured text and keeps it off the terminal. Text that isn't
    taken is printed when the block exits, since it may come from another thread.
    """
    with _one_at_a_time, tempfile.TemporaryFile() as caught:
        terminal = os.dup(2)

        def take() -> str:
            caught.seek(0)
            text = caught.read().decode("utf-8", "replace")
            caught.seek(0)
            caught.truncate()
            return text

        os.dup2(caught.fileno(), 2)
        try:
            yield take
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            caught.seek(0)
            os.write(2, caught.read())


def _log(level: int, text: bytes, _: Any) -> None:
    message = text.decode("utf-8", "replace").strip()
    log: LoadLog | None = getattr(_listening, "log", None)
    if level == _ERROR and log is not None and message:
        log.errors.append(message)
    if message and _logger.isEnabledFor(logging.DEBUG):
        _logger.debug("%s", message)


_on_log = llama_cpp.llama_log_callback(_log)
