"""The JSON values in a growing text: several after one another, or the elements of an array."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json import JSONDecodeError
from typing import Any, Final

from rxllm.operators.transforming._json_text import parse_json_at

__all__ = ["JsonItemsText"]

_OPENING: Final = re.compile(r"[{\[]")
_MARKS: Final = re.compile(r'\\(?s:.)?|["{}\[\],:]')


class _Level:
    """An object or an array that isn't closed yet."""

    __slots__ = ("has_value", "is_array", "is_key", "key", "keys", "start")

    def __init__(self, is_array: bool, keys: int | None) -> None:
        self.is_array = is_array
        self.keys = keys  # how many keys of the path lead to it; None if they don't
        self.is_key = not is_array  # whether the next string is a key
        self.key: str | None = None
        self.start = 0  # of the next element of an array
        self.has_value = False  # whether that element, an object or an array, is complete


class JsonItemsText:
    """The text of an answer, and the JSON values in it that are wanted.

    Each character is read once, however the text is cut; the text of a value is dropped once the
    value is complete.

    Args:
        path: the keys that lead to the array whose elements are wanted; `None` if each value of the
            text is.
    """

    def __init__(self, path: tuple[str, ...] | None) -> None:
        self._path = path
        self._levels: list[_Level] = []
        self._pieces: list[str] = []
        self._begun = 0  # where the kept text starts
        self._end = 0
        self._wanted: int | None = None  # the number of levels around the wanted values
        self._in_string = self._escaped = False
        self._string = 0  # where the last string started
        self._value = 0  # where the value of the text started

    @property
    def is_open(self) -> bool:
        """Whether a value has begun that isn't complete."""
        return bool(self._levels)

    @property
    def text(self) -> str:
        """The text that is kept, from the value that is open."""
        return "".join(self._pieces)

    def feed(self, piece: str) -> Iterator[Any]:
        """Add text, and yield the values that are complete with it.

        Raises:
            JSONDecodeError: one of them isn't valid JSON.
        """
        begun = self._end
        self._end += len(piece)
        self._pieces.append(piece)
        position = 0
        while position < len(piece):
            if not self._levels:
                opening = _OPENING.search(piece, position)
                if opening is None:
                    break
                self._open(opening[0], begun + opening.start())
                position = opening.end()
                continue
            for match in self._marks(piece, position):
                position = match.end()
                yield from self._take(match[0], begun + match.start())
                if not self._levels:
                    break
            else:
                break
        if not self._levels:
            self._drop(self._end)

    def _marks(self, piece: str, position: int) -> Iterator[re.Match[str]]:
        if self._escaped:
            position += 1
            self._escaped = False
        return _MARKS.finditer(piece, position)

    def _take(self, mark: str, at: int) -> Iterator[Any]:
        if mark[0] == "\\":
            self._escaped = len(mark) == 1
        elif mark == '"':
            self._quote(at)
        elif self._in_string:
            return
        elif mark in "{[":
            self._open(mark, at)
        elif mark in "}]":
            yield from self._close(at)
        else:
            yield from self._separate(mark, at)

    def _quote(self, at: int) -> None:
        self._in_string = not self._in_string
        level = self._levels[-1]
        if self._in_string:
            self._string = at
            if level.is_key and level.keys is not None:
                self._drop(at)  # what is before a key on the path isn't wanted
        elif level.is_key and level.keys is not None:
            try:
                level.key = json.loads(self._slice(self._string, at + 1), strict=False)
            except JSONDecodeError:
                level.key = None  # reported with the value that it is in

    def _open(self, mark: str, at: int) -> None:
        path, outer = self._path, self._levels[-1] if self._levels else None
        keys: int | None = None
        if outer is None:
            self._value = at
        if path is not None:
            keys = 0 if outer is None else self._keys_after(outer, path)
        level = _Level(mark == "[", keys)
        level.start = at + 1
        self._levels.append(level)
        if path is not None and level.is_array and keys == len(path):
            self._wanted = len(self._levels)

    @staticmethod
    def _keys_after(outer: _Level, path: tuple[str, ...]) -> int | None:
        keys = outer.keys
        if keys is None or outer.is_array or keys == len(path) or outer.key != path[keys]:
            return None
        return keys + 1

    def _separate(self, mark: str, at: int) -> Iterator[Any]:
        level = self._levels[-1]
        if not level.is_array:
            level.is_key = mark == ","
        elif mark == ",":
            yield from self._element(level, at)

    def _close(self, at: int) -> Iterator[Any]:
        level = self._levels[-1]
        if level.is_array:
            yield from self._element(level, at)
        if len(self._levels) == self._wanted:
            self._wanted = None
        self._levels.pop()
        if not self._levels and self._path is None:
            yield self._parsed(self._value, at + 1)
        elif self._levels and len(self._levels) == self._wanted:
            outer = self._levels[-1]
            yield from self._element(outer, at + 1)
            outer.start, outer.has_value = at + 1, True

    def _element(self, level: _Level, at: int) -> Iterator[Any]:
        start, level.start = level.start, at + 1
        had_value, level.has_value = level.has_value, False
        if len(self._levels) != self._wanted:
            return
        text = self._slice(start, at)
        if text.strip():
            if had_value:
                raise JSONDecodeError("text after the JSON value", text, 0)
            yield self._parsed(start, at)
            self._drop(at)

    def _parsed(self, start: int, end: int) -> Any:
        text = self._slice(start, end)
        stripped = text.strip()
        begun = text.index(stripped)
        value, length = parse_json_at(text, begun)
        if length != begun + len(stripped):
            raise JSONDecodeError("text after the JSON value", text, length)
        return value

    def _slice(self, start: int, end: int) -> str:
        text = "".join(self._pieces)
        self._pieces = [text]
        return text[start - self._begun : end - self._begun]

    def _drop(self, end: int) -> None:
        self._pieces = [self._slice(end, self._end)]
        self._begun = end
