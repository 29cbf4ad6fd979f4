"""The recordings in a journal."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from msgspec import UNSET

from rxllm.chunks import Chunk
from rxllm.errors import MalformedStreamError, ModelLoadError, TruncatedStreamError
from rxllm.models.journal._lines import VERSION, Address, Begun, Ended, Line, decode_line

__all__ = ["Event", "Recording", "first_of", "read_journal"]

Event: TypeAlias = tuple[float, Chunk | Exception | None]
"""Seconds since the subscription, and what happens then: a chunk, an error, or the completion."""


class Recording:
    """A recorded stream.

    Attributes:
        begun: its first line; `None` if that can't be read.
        events: its chunks, with their times.
    """

    def __init__(self) -> None:
        self.begun: Begun | None = None
        self.events: list[Event] = []
        self._ended: tuple[float, Ended] | None = None
        self._damage: str | None = None
        self._count = 0

    def add(self, line: Line) -> None:
        """Add the next line; after a missing one, it is left out."""
        if line.n != self._count:
            self.damage(f"line {self._count} of a stream is missing or can't be read")
        if self._damage is not None:
            return
        self._count += 1
        if line.chunk is not UNSET:
            self.events.append((line.seconds, line.chunk))
        elif line.begun is not UNSET:
            self.begun = line.begun
        elif line.ended is not UNSET:
            self._ended = line.seconds, line.ended

    def damage(self, reason: str) -> None:
        """Note that the next line can't be read; what follows isn't played."""
        self._damage = self._damage or reason

    def end(self) -> Event:
        """Return how the stream ended; an error is a new one each time."""
        seconds = self.events[-1][0] if self.events else 0.0
        if self._damage is not None:
            return seconds, MalformedStreamError(f"the journal is damaged: {self._damage}")
        if self._ended is None:
            return seconds, TruncatedStreamError("the recording of this stream has no end")
        seconds, ended = self._ended
        if ended.error is not None:
            return seconds, ended.error.restored()
        if ended.outcome == "completed":
            return seconds, None
        return seconds, TruncatedStreamError("the recorded stream was cancelled here")


def read_journal(path: Path) -> list[Recording]:
    """Return the recordings in a journal, in the order in which they began.

    Lines that were cut by a crash are left out.

    Raises:
        ModelLoadError: the file can't be read, or isn't a journal of this version.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ModelLoadError(f"the journal {path} can't be read: {error.strerror}") from error
    recordings: dict[str, Recording] = {}
    for number, data in enumerate(lines, 1):
        if data.strip():
            _add(recordings, data, f"{path}, line {number}")
    if not recordings and any(map(bytes.strip, lines[:-1])):
        raise ModelLoadError(f"{path} is not a journal of rxllm.recorded")
    return list(recordings.values())


def first_of(path: Path) -> Begun | None:
    """Return the first line of a journal, or `None` if there is none that can be read."""
    try:
        with path.open("rb") as file:
            begun = decode_line(file.readline()).begun
    except (OSError, ValueError):
        return None
    return None if begun is UNSET else begun


_NO_LINE: Final = "is not a line of a journal"


def _add(recordings: dict[str, Recording], data: bytes, place: str) -> None:
    try:
        line = decode_line(data)
    except msgspec.ValidationError as error:
        address = _address(data, place)
        recording = recordings.setdefault(address.stream, Recording())
        recording.damage(f"{place} {_NO_LINE}: {error}")
    except ValueError:
        return  # cut by a crash
    else:
        recordings.setdefault(line.stream, Recording()).add(line)


def _address(data: bytes, place: str) -> Address:
    """Return the stream of a line whose content can't be read.

    Raises:
        ModelLoadError: it isn't a line of this version.
    """
    try:
        address = msgspec.json.decode(data, type=Address)
    except ValueError as error:
        raise ModelLoadError(f"{place} {_NO_LINE}: {error}") from error
    if address.v != VERSION:
        raise ModelLoadError(
            f"{place} has version {address.v} of the format, and this release reads {VERSION}"
        )
    return address
