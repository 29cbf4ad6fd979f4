"""Write the text of a stream to a file."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from reactivex import Observable

from rxllm.chunks import Carried, Chunk, End, is_restart, text_of
from rxllm.consumer import Consumer, check_stream
from rxllm.errors import RestartedStreamError
from rxllm.result import Result


def file(
    stream: Observable[Carried], path: str | os.PathLike[str], *, append: bool = False
) -> Coroutine[Any, Any, Result]:
    """Write the text of a stream to a file, in UTF-8, as it arrives.

    - Opens the file and subscribes when awaited: a file that can't be opened is an error before any
      model is asked. The file is truncated at the first chunk, or at completion, so a model that is
      unavailable destroys nothing. Other processes can read the written text at once.
    - Completion, error, cancellation: the file is closed, and keeps the text written so far. The
      error is raised by the `await`, with the text so far in `partial` if it is an `RxLLMError`.
    - Restart: the file is truncated to where this answer began; earlier ones of a run stay. After
      a merge, if one source restarts, the texts of the others are written again, one after another.
    - Demand: writing blocks the event loop until the operating system has accepted the text;
      nothing is held here.

    A lone surrogate, which UTF-8 can't encode, is written as `?`. No newline is added.

    Args:
        stream: the chunks.
        path: the file; overwritten unless `append`.
        append: append to the existing content of the file.

    Raises:
        TypeError: `stream` is not a stream, or `path` is not a path.
        OSError: by the `await`: the file can't be opened or written.
        RestartedStreamError: by the `await`: the stream restarted, and the file is a pipe, which
            can't be truncated.
    """
    check_stream(stream, "file")
    return _write(stream, Path(path), append)


async def _write(stream: Observable[Carried], path: Path, append: bool) -> Result:
    with path.open("ab") as file:
        target = _Target(file, append)

        def on_chunk(chunk: Chunk) -> None:
            target.begin()
            if is_nested(chunk.source):
                return
            if is_restart(chunk):
                target.cut()
                answer = transcript.answers.get(None)
                if answer is None or not answer.is_closed:
                    target.write(transcript.text)
            elif type(chunk) is End and chunk.more:
                target.keep()
            else:
                target.write(text_of(chunk))

        def is_nested(source: str | None) -> bool:
            return source is not None and transcript.is_nested(source)

        consumer = Consumer(stream, on_chunk)
        transcript = consumer.record.transcript
        result = await consumer.run()
        target.begin()
        return result


class _Target:
    """An open file, and the position at which this stream begins in it."""

    def __init__(self, file: io.BufferedWriter, append: bool) -> None:
        self._file = file
        self._is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        self._first = os.fstat(file.fileno()).st_size if append else 0
        self._has_begun = append

    def begin(self) -> None:
        """Truncate the file the first time, unless appending."""
        if not self._has_begun:
            self._has_begun = True
            if self._is_regular:
                self._file.truncate(0)

    def write(self, text: str) -> None:
        if text:
            self._file.write(text.encode("utf-8", "replace"))
            self._file.flush()

    def keep(self) -> None:
        """Keep what has been written: another answer follows."""
        if self._is_regular:
            self._first = self._file.tell()

    def cut(self) -> None:
        """Truncate the file to where the answer began."""
        if not self._is_regular:
            raise RestartedStreamError(
                f"the answer restarted, but the text written to {self._file.name} can't be "
                "taken back"
            )
        self._file.truncate(self._first)
