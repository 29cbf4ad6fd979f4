"""Events that differ only in one text: they can be split instead of parsed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from rxllm.chunks import Chunk, Reasoning, Token

__all__ = ["BLANK_LINE", "EventTemplate", "find_template"]

BLANK_LINE: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
"""The end of an event: the end of its last line, and the blank line after it."""

_decode: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.Encoder().encode


def _encode_in_ascii(text: str) -> bytes:
    return json.dumps(text).encode()


@dataclass(frozen=True)
class EventTemplate:
    """The bytes of an event around the JSON string in it that becomes a chunk.

    Args:
        kind: what the text becomes.
        head: everything before the string.
        tail: everything after it, up to and with the blank line.
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
        """The event that has this text."""
        return self.head + _encode(text) + self.tail

    def read(self, data: bytes) -> list[Chunk] | None:
        """The chunks of events that all have this form, or `None` if one has not.

        An empty text is not a chunk. A line that ends inside an event is found by counting: white
        space may stand around a JSON string, but no end of a line.
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
    """The form of the last event of `data`, which was read as `chunk`.

    It is a guess: `data` may end inside of an event, and the text of the chunk stands in it once,
    but perhaps in another place.
    """
    ends = [found.end() for found in BLANK_LINE.finditer(data)]
    event = data[ends[-2] if len(ends) > 1 else 0 :]
    for encode in (_encode, _encode_in_ascii):
        string = encode(chunk.text)
        if event.count(string) == 1:
            head, _, tail = event.partition(string)
            return EventTemplate(type(chunk), head, tail)
    return None
