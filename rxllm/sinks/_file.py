"""The text of a stream, to a file."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from reactivex import Observable

from rxllm.chunks import Chunk, is_restart, text_of
from rxllm.consumer import Consumer, check_stream
from rxllm.errors import RestartedStreamError
from rxllm.result import Result


def file(
    stream: Observable[Chunk], path: str | os.PathLike[str], *, append: bool = False
) -> Coroutine[Any, Any, Result]:
    """Write the text of a stream to a file, in UTF-8, as it comes.

    - Opens the file and subscribes when awaited: a file that can't be opened is an error before
      any model is asked. What the file held is lost with the first chunk, or at completion, so a
      model that can't be had destroys nothing. What is written can be read by others at once.
    - Completion, error, cancellation: the file is closed, and keeps what came. The error is raised
      by the `await`, with the text so far in `partial` if it is an `RxLLMError`.
    - Restart: the file is cut back to where this stream began. After a merge, if one source begins
      again, the texts of the others are written anew, one after another.
    - Demand: writing blocks the event loop until the operating system has taken the text; nothing
      is held here.

    A lone surrogate, which UTF-8 can't express, is written as `?`. No newline is added.

    Args:
        stream: the chunks.
        path: the file; overwritten unless `append`.
        append: write behind what the file already holds.

    Raises:
        TypeError: `stream` is not a stream, or `path` is not a path.
        OSError: by the `await`: the file can't be opened or written.
        RestartedStreamError: by the `await`: the stream began again, and the file is a pipe, from
            which nothing can be taken back.
    """
    check_stream(stream, "file")
    return _write(stream, Path(path), append)


async def _write(stream: Observable[Chunk], path: Path, append: bool) -> Result:
    with path.open("ab") as file:
        target = _Target(file, append)

        def on_chunk(chunk: Chunk) -> None:
            target.begin()
            if is_restart(chunk):
                target.cut()
                target.write(consumer.record.text)
            else:
                target.write(text_of(chunk))

        consumer = Consumer(stream, on_chunk)
        result = await consumer.run()
        target.begin()
        return result


class _Target:
    """An open file, and where this stream begins in it."""

    def __init__(self, file: io.BufferedWriter, append: bool) -> None:
        self._file = file
        self._is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        self._first = os.fstat(file.fileno()).st_size if append else 0
        self._has_begun = append

    def begin(self) -> None:
        """Forget what the file held, once."""
        if not self._has_begun:
            self._has_begun = True
            if self._is_regular:
                self._file.truncate(0)

    def write(self, text: str) -> None:
        if text:
            self._file.write(text.encode("utf-8", "replace"))
            self._file.flush()

    def cut(self) -> None:
        """Go back to where this stream began."""
        if not self._is_regular:
            raise RestartedStreamError(
                f"the answer began again, and what was written to {self._file.name} can't be "
                "taken back"
            )
        self._file.truncate(self._first)
