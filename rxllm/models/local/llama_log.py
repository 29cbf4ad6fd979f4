"""llama.cpp's log: kept off the terminal, and read for the reason when a model can't be loaded."""

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
_one_at_a_time = threading.Lock()  # the file descriptors of a process are shared by its threads


class LoadLog:
    """The errors that llama.cpp logged on one thread."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)

    def reason(self) -> str:
        """What the first of the errors says, without the name of the function that says it."""
        if not self.errors:
            return "it gives no reason"
        return self.errors[0].split(": ", 1)[-1]


@contextmanager
def log_of_this_thread() -> Iterator[LoadLog]:
    """Listen to what llama.cpp logs on this thread."""
    log = _listening.log = LoadLog()
    # llama-cpp-python sets a callback that prints; its models may set it anew at any time.
    llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))
    try:
        yield log
    finally:
        _listening.log = None


@contextmanager
def stderr_captured() -> Iterator[Callable[[], str]]:
    """Catch what C code prints to the standard error, past any callback. For very short calls.

    Gives a function that returns (and so keeps from the terminal) what was caught. What nobody
    asked for is printed when the block is left, since another thread may have meant it.
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
