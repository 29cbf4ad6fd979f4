"""llama.cpp's log, kept off the terminal and searched for the reason when loading fails."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp

__all__ = ["LoadLog", "log_of_this_thread"]

_ERROR = 4  # GGML_LOG_LEVEL_ERROR (ggml.h)
_logger = logging.getLogger("rxllm.llama")
_listening = threading.local()


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


def _log(level: int, text: bytes, _: Any) -> None:
    message = text.decode("utf-8", "replace").strip()
    log: LoadLog | None = getattr(_listening, "log", None)
    if level == _ERROR and log is not None and message:
        log.errors.append(message)
    if message and _logger.isEnabledFor(logging.DEBUG):
        _logger.debug("%s", message)


_on_log = llama_cpp.llama_log_callback(_log)
