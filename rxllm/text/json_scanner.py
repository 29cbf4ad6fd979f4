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
        self.text: str = ""
        """The object so far, without what follows it."""

        self.rest: str = ""
        """What follows the object."""

        self.members: dict[str, str] = {}
        """The complete members: the JSON text of their values, by key."""

        self.is_complete: bool = False
        self._at = 0
        self._depth = 0
        self._is_in_string = False
        self._key: str | None = None
        self._from = 0  # where the key or the value of the current member begins

    @property
    def open_member(self) -> tuple[str, str] | None:
        """The key of the member whose value has begun, and its value so far."""
        if self._key is None or self.is_complete:
            return None
        return self._key, self.text[self._from :].lstrip()

    def feed(self, text: str) -> None:
        """Read more text.

        Raises:
            ValueError: this isn't an object.
        """
        if self.is_complete:
            self.rest += text
            return
        self.text += text
        if not self._depth and self.text.lstrip()[:1] not in ("", "{"):
            raise ValueError(f"expected an object, got {self.text[:20]!r}")
        while not self.is_complete:
            pattern = _IN_STRING if self._is_in_string else _STRUCTURE
            found = pattern.search(self.text, self._at)
            if found is None:
                self._at = len(self.text)
                return
            if found[0] == "\\" and found.end() == len(self.text):
                self._at = found.start()  # what it escapes is still to come
                return
            self._at = found.end()
            self._take(found[0], found.start())

    def _take(self, character: str, place: int) -> None:
        if character == "\\":
            self._at += 1
        elif character == '"':
            self._is_in_string = not self._is_in_string
        elif character in "{[":
            self._depth += 1
            if self._depth == 1:
                self._from = place + 1
        elif character in "}]":
            if self._depth == 1:
                self._end_member(place)
                self.text, self.rest = self.text[: place + 1], self.text[place + 1 :]
                self.is_complete = True
            self._depth -= 1
        elif self._depth == 1 and character == ",":
            self._end_member(place)
        elif self._depth == 1 and self._key is None:
            self._key = _decoded(self.text[self._from : place])
            self._from = place + 1

    def _end_member(self, place: int) -> None:
        if self._key is not None:
            self.members[self._key] = self.text[self._from : place].strip()
        self._key = None
        self._from = place + 1


def _decoded(key: str) -> str:
    try:
        return str(json.loads(key))
    except ValueError:
        return key.strip()
