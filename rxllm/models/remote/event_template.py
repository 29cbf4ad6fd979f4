"""Templates of events that differ in a single text, so they can be split instead of parsed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from rxllm.chunks import Chunk, Reasoning, Token

__all__ = ["BLANK_LINE", "EventTemplate", "find_template"]

BLANK_LINE: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
"""The end of an event: the end of its last line and the blank line after it."""

_decode: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.Encoder().encode


def _encode_in_ascii(text: str) -> bytes:
    return json.dumps(text).encode()


@dataclass(frozen=True)
class EventTemplate:
    """The bytes of an event around the JSON string that becomes a chunk.

    Args:
        kind: the class of the chunk.
        head: the bytes before the string.
        tail: the bytes after it, including the blank line.
    """

    kind: type[Token] | type[Reasoning]
    head: bytes
    tail: bytes
    _between: bytes = field(init=False, compare=False)
    _line_feeds: int = field(init=False, compare=False)
    _returns: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        between = self.tail + self.head
        object.__setattr__(self, "_between", between)
        object.__setattr__(self, "_line_feeds", between.count(b"\n"))
        object.__setattr__(self, "_returns", between.count(b"\r"))

    def fill(self, text: str) -> bytes:
        """Return the event with this text."""
        return self.head + _encode(text) + self.tail

    def read(self, data: bytes) -> list[Chunk] | None:
        """Return the chunks of events that all match this template, or `None` if one doesn't.

        An empty text makes no chunk. Line ends inside an event are detected by counting: white
        space is allowed around a JSON string, but not a line end.
        """
        strings = data.removeprefix(self.head).removesuffix(self.tail)
        if len(data) - len(strings) != len(self._between):
            return None
        texts = strings.split(self._between)
        if data.count(b"\n") != len(texts) * self._line_feeds:
            return None
        if data.count(b"\r") != len(texts) * self._returns:
            return None
        kind = self.kind
        try:
            return [kind(text) for text in map(_decode, texts) if text]
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None


def find_template(data: bytes, chunk: Token | Reasoning) -> EventTemplate | None:
    """Guess the template of the last event of `data`, which was read as `chunk`.

    The guess may be wrong: `data` may end inside an event, and the text of the chunk occurs in it
    once, but perhaps in another place.
    """
    ends = [found.end() for found in BLANK_LINE.finditer(data)]
    event = data[ends[-2] if len(ends) > 1 else 0 :]
    for encode in (_encode, _encode_in_ascii):
        string = encode(chunk.text)
        if event.count(string) == 1:
            head, _, tail = event.partition(string)
            return EventTemplate(type(chunk), head, tail)
    return None
