"""`JournalWriter`: the lines of one stream, appended to a journal."""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rxllm.chunks import Chunk, Outcome
from rxllm.models.journal._errors import RecordedError
from rxllm.models.journal._lines import Begun, Ended, Line, encode_line
from rxllm.requests import ModelInfo

__all__ = ["JournalWriter"]


class JournalWriter:
    """Appends the lines of one stream, each as soon as it is given, in one write.

    The operating system has accepted a line when its method returns, so it survives a crash of this
    process. If a method raises, the file is closed.

    Args:
        path: the journal.
        clock: returns monotonic seconds.

    Raises:
        OSError: from each method: the journal can't be opened or written.
        TypeError, RecursionError: from each method: a value isn't JSON.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._file, self._is_whole = _open(path)
        self._clock = clock
        self._begun = clock()
        self._stream = secrets.token_hex(6)
        self._count = 0

    def begin(self, model: ModelInfo, request: dict[str, Any]) -> None:
        """Write who is asked what."""
        self._write(begun=Begun(model, time.time(), request))

    def add(self, chunk: Chunk) -> None:
        """Write a chunk."""
        self._write(chunk=chunk)

    def end(self, outcome: Outcome, error: RecordedError | None = None) -> None:
        """Write the end, and close the file."""
        self._write(ended=Ended(outcome, error))
        self._file.close()

    def _write(self, **content: Any) -> None:
        seconds = round(self._clock() - self._begun, 6)
        try:
            data = encode_line(Line(stream=self._stream, n=self._count, seconds=seconds, **content))
            if not self._is_whole:
                data = b"\n" + data
            while data:  # a second write only to learn why the first one was incomplete
                data = data[self._file.write(data) :]
        except BaseException:
            self._file.close()
            raise
        self._count += 1
        self._is_whole = True


def _open(path: Path) -> tuple[io.FileIO, bool]:
    """Open a journal to append to it, and return whether its last line is whole."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    file = io.FileIO(os.open(path, flags, 0o600), "a+")
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if not file.tell():
            return file, True
        file.seek(-1, os.SEEK_END)
        return file, file.read(1) == b"\n"
    except BaseException:
        file.close()
        raise
