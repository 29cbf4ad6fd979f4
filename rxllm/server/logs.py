"""The logs of `rxllm serve`."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, Literal, TypeAlias

__all__ = ["LOG_FORMATS", "LOG_LEVELS", "LogFormat", "new_logger"]

LogFormat: TypeAlias = Literal["auto", "text", "json"]
LOG_FORMATS: Final = ("auto", "text", "json")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


def new_logger(level: str = "info", form: LogFormat = "auto") -> Any:
    """Return a structlog logger that writes to standard error.

    Args:
        level: lines below it aren't written.
        form: `"text"` to read them in a terminal, `"json"` for programs; `"auto"` for text in a
            terminal, and JSON otherwise.
    """
    import structlog

    is_terminal = sys.stderr.isatty()
    is_text = form == "text" or (form == "auto" and is_terminal)
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=is_terminal, pad_event_to=8)
        if is_text
        else structlog.processors.JSONRenderer()
    )
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if is_text else "iso", utc=not is_text),
            structlog.processors.UnicodeDecoder(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
    )
