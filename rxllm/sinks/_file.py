"""The text of a stream, to a file."""

from __future__ import annotations

import io
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from reactivex import Observable

from rxllm.chunks import Chunk, is_restart, text_of
from rxllm.errors import RestartedStreamError
from rxllm.sinks._consume import Consumption, check_stream
from rxllm.sinks._result import Result


def file(
    stream: Observable[Chunk], path: str | os.PathLike[str], *, append: bool = False
) -> Coroutine[Any, Any, Result]:
    """Write the text of a stream to a file, in UTF-8, as it comes.

    - Opens the file and subscribes when awaited: a file that can't be opened is an error before
      any model is asked. What is written can be read by others at once.
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
        TypeError: `stream` is no stream, or `path` no path.
        OSError: by the `await`: the file can't be opened or written.
        RestartedStreamError: by the `await`: the stream began again, and the file is a pipe, from
            which nothing can be taken back.
    """
    check_stream(stream, "file")
    return _write(stream, Path(path), append)


async def _write(stream: Observable[Chunk], path: Path, append: bool) -> Result:
    with _open(path, append) as target:
        begin = target.tell() if target.seekable() else None

        def on_chunk(chunk: Chunk) -> None:
            if is_restart(chunk):
                _cut(target, begin)
                text = consumption.record.text
            else:
                text = text_of(chunk)
            if text:
                target.write(text.encode("utf-8", "replace"))
                target.flush()

        consumption = Consumption(stream, on_chunk)
        return await consumption.run()


def _open(path: Path, append: bool) -> io.BufferedWriter:
    return path.open("ab" if append else "wb")


def _cut(target: io.BufferedWriter, begin: int | None) -> None:
    if begin is None:
        raise RestartedStreamError(
            f"the answer began again, and what was written to {target.name} can't be taken back"
        )
    target.seek(begin)
    target.truncate()
