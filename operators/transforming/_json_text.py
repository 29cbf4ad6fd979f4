"""A JSON value inside an answer: where it starts, where it ends, and what it is."""

from __future__ import annotations

import json
import math
import re
from json import JSONDecodeError
from typing import Any, Final

import jiter

__all__ = ["JsonText", "parse_json_at"]

_OPENING: Final = re.compile(r"[{\[]")
_MARKS: Final = re.compile(r'\\(?s:.)?|["{}\[\]]')
_FENCE: Final = re.compile(r"```\w*")
_SPACE: Final = " \t\r\n\ufeff"
_STRINGS_AND_NUMBERS: Final = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"|-?Infinity|NaN|-?\d[\d.eE+-]*', re.DOTALL
)
_LONE_SURROGATE: Final = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)|\\.")
_decoder: Final = json.JSONDecoder()


class JsonText:
    """The text of an answer, and the JSON value in it.

    The value starts at the first `{` or `[`, or at a `"` preceded only by white space, and ends
    where that is closed. A bare number, `true`, `false` or `null` is the whole answer, and ends
    with it. Each character is read once, however the text is cut.

    Attributes:
        length: length of the value so far, in characters.
        ended: True once the value is closed.
    """

    __slots__ = (
        "_blank",
        "_depth",
        "_escaped",
        "_in_string",
        "_pieces",
        "_start",
        "ended",
        "length",
    )

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._start = 0
        self._blank = True
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.length = 0
        self.ended = False

    @property
    def begun(self) -> bool:
        """True once the value has started."""
        return self.length > 0

    @property
    def text(self) -> str:
        """The answer, without the text after the value."""
        text = "".join(self._pieces)
        self._pieces = [text]
        return text

    def feed(self, piece: str) -> str:
        """Add the next piece of the answer, and return what it has after the value."""
        if self.ended:
            return piece
        left = ""
        start = 0 if self.begun else self._beginning_in(piece)
        if start is None:
            self._start += len(piece)
        else:
            if not self.begun:
                self._start += start
            end = self._end_in(piece, start)
            if end is not None:
                self.ended = True
                piece, left = piece[:end], piece[end:]
            self.length += len(piece) - start
        self._pieces.append(piece)
        return left

    def partial(self) -> Any:
        """The value so far, with an unfinished string or number at its end.

        Raises:
            ValueError: there is nothing to show yet, or this isn't JSON.
        """
        value = self.text[self._start :].encode()
        return jiter.from_json(value, partial_mode="trailing-strings", allow_inf_nan=False)

    def value(self) -> Any:
        """The value, once it has ended or no more text follows.

        Raises:
            JSONDecodeError: there is no valid, representable JSON value; `pos` says where.
        """
        text = self.text
        if self.begun:
            return parse_json_at(text, self._start)[0]
        bare = text.strip(_SPACE)
        if fence := _FENCE.match(bare):
            bare = bare[fence.end() :].removesuffix("```").strip(_SPACE)
        if not bare:
            raise JSONDecodeError("no JSON value", text, len(text))
        start = text.rindex(bare)
        value, end = parse_json_at(text, start)
        if end != start + len(bare):
            raise JSONDecodeError("text after the JSON value", text, end)
        return value

    def _beginning_in(self, piece: str) -> int | None:
        if self._blank:
            begun = piece.lstrip(_SPACE)
            if begun:
                self._blank = False
                if begun[0] == '"':
                    return len(piece) - len(begun)
        opening = _OPENING.search(piece)
        return opening.start() if opening else None

    def _end_in(self, piece: str, start: int) -> int | None:
        if self._escaped:
            start += 1
            self._escaped = False
        for match in _MARKS.finditer(piece, start):
            mark = match[0]
            if mark[0] == "\\":
                self._escaped = len(mark) == 1
            elif mark == '"':
                self._in_string = not self._in_string
                if not self._in_string and not self._depth:
                    return match.end()
            elif not self._in_string:
                self._depth += 1 if mark in "{[" else -1
                if not self._depth:
                    return match.end()
        return None


def parse_json_at(text: str, start: int) -> tuple[Any, int]:
    """Return the value that starts at `start`, and where it ends.

    Raises:
        JSONDecodeError: there is no valid, representable JSON value; `pos` says where.
    """
    try:
        value, end = _decoder.raw_decode(text, start)
    except JSONDecodeError:
        raise
    except RecursionError:
        raise JSONDecodeError("nested too deeply", text, start) from None
    except ValueError:  # an integer with more digits than Python converts, rejected below
        value, end = None, len(text)
    _check_what_was_read(text, start, end)
    return value, end


def _check_what_was_read(text: str, start: int, end: int) -> None:
    """Reject values that Python reads but a float or UTF-8 can't represent."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise JSONDecodeError("lone surrogate", text, error.start) from None
    for match in _STRINGS_AND_NUMBERS.finditer(text, start, end):
        found = match[0]
        if found[0] != '"':
            if not _is_finite(found):
                raise JSONDecodeError("NaN or number out of range", text, match.start())
        elif "\\u" in found:
            for escape in _LONE_SURROGATE.finditer(found):
                if escape[1]:
                    position = match.start() + escape.start()
                    raise JSONDecodeError("lone surrogate", text, position)


def _is_finite(number: str) -> bool:
    if number.lstrip("-").isdigit():
        try:
            int(number)
        except ValueError:
            return False
        return True
    return math.isfinite(float(number))
