"""The questions of a chat: lines of the standard input, pasted blocks, several lines at once."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["QUOTES", "line_editor", "read_question"]

QUOTES: Final = '"""'
_PASTED: Final = 0.03
"""Seconds within which the next line has to be there to belong to the same paste."""

_REMEMBERED: Final = 1000


def read_question(interrupted: Callable[[], object]) -> str | None:
    """Return the next question, without white space around it, or `None` at the end of the input.

    A question is a line. On a terminal, lines that arrive at once (a paste) are one question.
    Everywhere, a line that begins with three quotes begins a question that ends with the next three
    quotes, and the line `/multi` one that ends with the line `/end`.

    Args:
        interrupted: called at Ctrl-C, which discards what was typed.
    """
    while True:
        try:
            return _read(sys.stdin.isatty()).strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            interrupted()


def _read(is_terminal: bool) -> str:
    line = input("> " if is_terminal else "")
    begun = line.strip()
    if begun.lower() == "/multi":
        return "\n".join(_lines_until(is_terminal, lambda line: line.strip().lower() == "/end"))
    if begun.startswith(QUOTES):
        text = begun.removeprefix(QUOTES)
        if QUOTES not in text:
            more = _lines_until(is_terminal, lambda line: line.rstrip().endswith(QUOTES), last=True)
            text = "\n".join([text, *more])
        return text.partition(QUOTES)[0]
    while is_terminal and _is_pasted():
        line += "\n" + input()
    return line


def _lines_until(
    is_terminal: bool, is_end: Callable[[str], bool], *, last: bool = False
) -> Iterator[str]:
    """Yield lines up to the one that ends the question, or the input."""
    while True:
        try:
            line = input("... " if is_terminal else "")
        except EOFError:
            return
        if is_end(line):
            if last:
                yield line
            return
        yield line


def _is_pasted() -> bool:
    """Whether more input is there already."""
    try:
        return bool(select.select([sys.stdin], [], [], _PASTED)[0])
    except (OSError, ValueError):  # Windows can't wait for a console
        return False


@contextmanager
def line_editor() -> Iterator[None]:
    """Let `input` edit lines and remember them in a file, where `readline` exists.

    The file is `$XDG_STATE_HOME/rxllm/chat_history`, or below `~/.local/state`.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # invalid UTF-8 must not end the chat
    if not sys.stdin.isatty():
        yield
        return
    try:
        import readline
    except ImportError:
        yield
        return
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "rxllm" / "chat_history"
    with suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_REMEMBERED)
    try:
        yield
    finally:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            readline.write_history_file(path)
            path.chmod(0o600)
