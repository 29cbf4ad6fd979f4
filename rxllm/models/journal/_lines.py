"""The lines of a journal; the docstring of the package describes them."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from rxllm.chunks import Chunk, Outcome
from rxllm.models.journal._errors import RecordedError
from rxllm.requests import ModelInfo

__all__ = ["VERSION", "Address", "Begun", "Ended", "Line", "decode_line", "encode_line"]

VERSION: Final = 1


class Begun(msgspec.Struct, frozen=True):
    """The beginning of a stream: who was asked what, and when (in Unix seconds)."""

    model: ModelInfo
    time: float
    request: dict[str, Any]


class Ended(msgspec.Struct, frozen=True, omit_defaults=True):
    """The end of a stream."""

    outcome: Outcome
    error: RecordedError | None = None


class Address(msgspec.Struct, frozen=True):
    """The stream that a line belongs to, and its number among the lines of that stream."""

    v: int
    stream: str
    n: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line, with one of `begun`, `chunk` and `ended`; `seconds` since the subscription."""

    v: Literal[1] = VERSION
    stream: str
    n: int
    seconds: float
    begun: Begun | UnsetType = UNSET
    chunk: Chunk | UnsetType = UNSET
    ended: Ended | UnsetType = UNSET


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


def encode_line(line: Line) -> bytes:
    """Encode a line, with its newline.

    Raises:
        TypeError: a value in it isn't JSON.
        RecursionError: a value in it is nested too deeply.
    """
    try:
        encoded = _encoder.encode(line)
    except UnicodeEncodeError:
        encoded = b"null"
    if b"null" in encoded:  # maybe NaN or an infinity, which msgspec encodes as null
        written = json.dumps(msgspec.to_builtins(line, str_keys=True), separators=(",", ":"))
        encoded = written.encode("ascii")
    return encoded + b"\n"


def decode_line(data: bytes) -> Line:
    """Decode a line.

    Raises:
        msgspec.ValidationError: it is JSON, but not a line of this version.
        ValueError: it isn't JSON, such as a line that was cut.
    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:  # also at NaN, and of a cut line maybe a ValidationError
        return msgspec.convert(json.loads(data), Line)
