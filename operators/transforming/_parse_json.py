"""`parse_json`: the JSON value in an answer, while it streams."""

from __future__ import annotations

from collections.abc import Callable
from json import JSONDecodeError
from typing import Any, Final

from reactivex import Observable

from rxllm.arguments import check_number
from rxllm.chunks import Chunk, Json
from rxllm.errors import MalformedStreamError
from rxllm.operators.transforming._json_schema import Check, SchemaViolation, check_of
from rxllm.operators.transforming._json_text import JsonText
from rxllm.operators.transforming._snapshots import Snapshot, snapshot_operator
from rxllm.stream import Stream

__all__ = ["parse_json"]

_FREE: Final = 65_536
"""Characters that are read in about a millisecond."""
_NOTHING: Final = object()


def parse_json(
    schema: Any = None, *, seconds: float = 0.1
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""Replace the text of an answer by the JSON value in it, again and again while it grows.

    ::

        S-{"a":-1,-"b"-:2}---E|
        [ parse_json(seconds=0.1) ]
        S-{}----{a:1}-({a:1,b:2}, complete)-E|

    Each `Json` holds the whole value as far as it has come; one that equals the last one is not
    sent. A string that has not ended is shown as far as it goes; a number at the end may still
    grow; `tru` is not shown. `complete` is True on the last one, which leaves as soon as the
    value is closed, once it has been checked. The text itself is dropped. Other chunks (reasoning
    in a batch, too) pass at once: they do not wait for the next look, and so may overtake up to
    `seconds` of text. A stream without text gets no `Json`.

    The value begins at the first `{` or `[` of the answer: a code fence or a sentence before it
    is left out, and so is all that follows the value, also a second one. An answer that begins
    with `"` is a bare string; a bare number, `true`, `false` or `null` must be all that it says
    (or all inside of a fence), and comes at its end.

    The JSON is that of RFC 8259. Of equal keys the last one counts. Integers are exact; `NaN`,
    numbers that no float holds, integers of more than 4,300 digits and half a surrogate pair
    (`"\ud83d"`) are malformed. However the text is cut into chunks, the complete value is the
    same.

    - Completion, error: `End` and completion in the midst of the value send what it had come to,
      and then fail. On an error what it had come to leaves first, not complete; and so it does on
      the `Notice("failed")` of its stream, after a merge.
    - Restart: what has been read of that stream is dropped; its value begins anew.
    - Disposal: upstream and timers are disposed, what has been read is dropped.
    - Demand: passes through; while the subscriber's valve is closed no incomplete value is sent.
      The text of the value is held until it ends, without a bound.
    - Cost: the value is read when its first text comes, and then once in `seconds`, so an
      incomplete one is at most that old. Above 65,536 characters this time grows in proportion.

    Args:
        schema: what the complete value is checked against. A type (`msgspec.Struct`, dataclass,
            `TypedDict`, `list[int]`, ...): `msgspec.convert` makes `Json.value` an instance of it.
            A dictionary: a JSON Schema, for which the package jsonschema has to be installed. A
            function: takes the value, returns the one to be sent, or raises `ValueError`
            (`Model.model_validate` of pydantic). Incomplete values are not checked.
        seconds: the least time between two incomplete values of a stream.

    Raises:
        ValueError: `seconds` is no finite time above 0, or a dictionary is no JSON Schema.
        TypeError: `schema` is nothing that a value can be checked against, or asynchronous, or
            `seconds` is no number; into `on_error`: a function has returned an awaitable.
        ImportError: `schema` is a JSON Schema, and jsonschema is not installed.
        MalformedStreamError: into `on_error`: the answer holds no JSON (the message says where,
            `__cause__` is the `JSONDecodeError`), or its value does not fit the schema. `partial`
            is the text up to there. What a function raises that is no `ValueError` is the error.

    >>> from rxllm.chunks import Token
    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> diagram = "1-2-3|"
    >>> lookup = {"1": Token('{"name": "M'), "2": Token('ia", "age"'), "3": Token(": 3}")}
    >>> for time, event in marbles.run(marbles.cold(diagram, lookup=lookup).pipe(parse_json())):
    ...     print(time, event)
    0.0 Json(value={'name': 'M'}, complete=False, source=None)
    2.0 Json(value={'name': 'Mia'}, complete=False, source=None)
    4.0 Json(value={'name': 'Mia', 'age': 3}, complete=True, source=None)
    5.0 |
    """
    seconds = check_number(
        "seconds", seconds, "the least time between two incomplete values", above=0
    )
    check = check_of(schema)
    return snapshot_operator("parse_json", lambda source: _Reading(source, check), seconds)


class _Reading(Snapshot):
    """The value of one source."""

    __slots__ = ("_check", "_last", "_source", "_text")

    def __init__(self, source: str | None, check: Check) -> None:
        super().__init__()
        self._source = source
        self._check = check
        self._text = JsonText()
        self._last: Any = _NOTHING

    @property
    def size(self) -> float:
        return self._text.length / _FREE

    def feed(self, text: str, out: list[Any]) -> None:
        if not self._text.ended:
            self._text.feed(text)
            self.unread = self._text.begun
            if self._text.ended:
                self._complete(out)

    def look(self, out: list[Any]) -> None:
        if not self.unread:
            return
        self.unread = False
        try:
            value = self._text.partial()
        except ValueError:
            return  # nothing to be seen yet, or malformed: that is told at its end
        if value != self._last:
            self._last = value
            out.append(Json(value, source=self._source))

    def end(self, out: list[Any]) -> None:
        if not self._text.ended:
            self.look(out)
            self._complete(out)

    def cut_off(self, out: list[Any]) -> None:
        self.look(out)

    def _complete(self, out: list[Any]) -> None:
        self.unread = False
        try:
            value = self._check(self._text.value())
        except JSONDecodeError as error:
            cut = self._text.begun and not self._text.ended
            what = "ends before its JSON value does" if cut else "is no valid JSON"
            raise self._failure(f"the answer {what}: {error}") from error
        except SchemaViolation as error:
            raise self._failure(f"the JSON value does not fit its schema: {error}") from error
        out.append(Json(value, complete=True, source=self._source))

    def _failure(self, message: str) -> MalformedStreamError:
        failure = MalformedStreamError(message)
        failure.partial = self._text.text
        return failure
