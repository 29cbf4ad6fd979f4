"""A JSON object that arrives in pieces: where it ends, and its members so far."""

from __future__ import annotations

import json
import re
from typing import Final

__all__ = ["ObjectScanner"]

_STRUCTURE: Final = re.compile(r'[{}\[\],:"]')
_IN_STRING: Final = re.compile(r'["\\]')


class ObjectScanner:
    """Reads one object; the time is linear in its length.

    Only the structure is checked, so `is_complete` doesn't mean that it is valid JSON.

    >>> scanner = ObjectScanner()
    >>> scanner.feed('{"name": "f", "args": {"a": [1,')
    >>> scanner.members, scanner.open_member
    ({'name': '"f"'}, ('args', '{"a": [1,'))
    >>> scanner.feed(' 2]}} and more')
    >>> scanner.members["args"], scanner.is_complete, scanner.rest
    ('{"a": [1, 2]}', True, ' and more')
    """

    def __init__(self) -> None:
        self.rest: str = ""
        """What follows the object."""

        self.members: dict[str, str] = {}
        """The complete members: the JSON text of their values, by key."""

        self.is_complete: bool = False
        self.length: int = 0
        """Number of characters of the object so far."""

        self._pieces: list[str] = []
        self._part: list[str] = []  # the key or the value of the current member
        self._key: str | None = None
        self._depth = 0
        self._is_in_string = self._is_escaped = False

    @property
    def text(self) -> str:
        """The object so far, without what follows it."""
        return "".join(self._pieces)

    @property
    def open_key(self) -> str | None:
        """The key of the member whose value has begun."""
        return None if self.is_complete else self._key

    @property
    def open_member(self) -> tuple[str, str] | None:
        """The key of the member whose value has begun, and its value so far."""
        if self._key is None or self.is_complete:
            return None
        return self._key, "".join(self._part).lstrip()

    def feed(self, text: str) -> None:
        """Read more text.

        Raises:
            ValueError: this isn't an object.
        """
        if self.is_complete:
            self.rest += text
            return
        if not self._depth and text.lstrip()[:1] not in ("", "{"):
            self._keep(text)
            raise ValueError(f"expected an object, got {text[:20]!r}")
        at = begin = 0
        while not self.is_complete and at < len(text):
            if self._is_escaped:
                self._is_escaped = False
                at += 1
                continue
            pattern = _IN_STRING if self._is_in_string else _STRUCTURE
            found = pattern.search(text, at)
            if found is None:
                break
            at = found.end()
            begin = self._take(text, begin, found)
        end = at if self.is_complete else len(text)
        self._part.append(text[begin:end])
        self._keep(text[:end])
        self.rest = text[end:]

    def _keep(self, text: str) -> None:
        self._pieces.append(text)
        self.length += len(text)

    def _take(self, text: str, begin: int, found: re.Match[str]) -> int:
        """Take note of a character, and return where the current part of a member begins."""
        character, is_outer = found[0], self._depth == 1
        if character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._is_in_string = not self._is_in_string
        elif character in "{[":
            self._depth += 1
            if self._depth == 1:
                self._part = []
                return found.end()
        elif character in "}]":
            self._depth -= 1
            self.is_complete = is_outer
        if is_outer and character in ",}]":
            self._end_member(text[begin : found.start()])
            return found.end()
        if is_outer and character == ":" and self._key is None:
            self._key = _decoded("".join([*self._part, text[begin : found.start()]]))
            self._part = []
            return found.end()
        return begin

    def _end_member(self, last: str) -> None:
        if self._key is not None:
            self.members[self._key] = "".join([*self._part, last]).strip()
        self._key = None
        self._part = []


def _decoded(key: str) -> str:
    try:
        return str(json.loads(key))
    except ValueError:
        return key.strip()
