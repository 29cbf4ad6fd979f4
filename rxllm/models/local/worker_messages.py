"""What goes over the pipes between a process and the process of one of its models.

Each message is its length in four bytes, the lowest first, and MessagePack.
"""

from __future__ import annotations

from typing import IO, Any, Final, TypeAlias

import msgspec

from rxllm import errors
from rxllm.errors import ModelError, RxLLMError
from rxllm.models.local.job import Failed, Finished, Opened, Piece, Purpose, Reading, Released
from rxllm.requests import Request

__all__ = ["Cancel", "Command", "Demand", "Failure", "Submit", "encode", "read_commands",
           "read_events"]  # fmt: skip

_LENGTH: Final = 4


class _Command(msgspec.Struct, frozen=True, tag=True):
    """About the stream with this number."""

    number: int


class Submit(_Command, frozen=True):
    """Begin a stream; see `EngineRunner.submit`."""

    request: Request
    purpose: Purpose
    grammar: str | None


class Demand(_Command, frozen=True):
    """How many events the reader has taken, and whether it wants more."""

    taken: int
    wanted: bool


class Cancel(_Command, frozen=True):
    """End a stream; its last event is still sent."""


class Failure(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The error of a stream: the name of its class, its message, and the field that is wrong."""

    kind: str
    message: str
    field: str | None = None

    @classmethod
    def of(cls, failed: Failed) -> Failure:
        """Return what is sent of an error."""
        field = getattr(failed.error, "field", None)
        return cls(type(failed.error).__name__, str(failed.error), field)

    def as_event(self) -> Failed:
        """Return the event with an error of the same class."""
        kind = getattr(errors, self.kind, ModelError)
        error: RxLLMError = kind.__new__(kind, self.message)
        error.args = (self.message,)
        if self.field is not None:
            error.field = self.field  # type: ignore[attr-defined]
        return Failed(error)


Command: TypeAlias = Submit | Demand | Cancel
_Sent: TypeAlias = Opened | Reading | Piece | Finished | Failure | Released

_encoder: Final = msgspec.msgpack.Encoder()
_commands: Final = msgspec.msgpack.Decoder(Command)
_events: Final = msgspec.msgpack.Decoder(list[tuple[int, _Sent]])


def encode(message: Any) -> bytes:
    """Return the bytes of a message."""
    data = _encoder.encode(message)
    return len(data).to_bytes(_LENGTH, "little") + data


def read_commands(file: IO[bytes]) -> Command | None:
    """Read the next command, or `None` at the end."""
    data = _read(file)
    return None if data is None else _commands.decode(data)


def read_events(file: IO[bytes]) -> list[tuple[int, _Sent]] | None:
    """Read the next events, each with the number of its stream; `None` at the end."""
    data = _read(file)
    return None if data is None else _events.decode(data)


def _read(file: IO[bytes]) -> bytes | None:
    length = int.from_bytes(file.read(_LENGTH), "little")
    data = file.read(length)
    return data if data and len(data) == length else None
