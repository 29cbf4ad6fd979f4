"""`parse_json`: the JSON value in an answer, while it streams."""

from __future__ import annotations

from collections.abc import Callable
from json import JSONDecodeError
from typing import Any, Final

from reactivex import Observable

from rxllm.arguments import check_number
from rxllm.chunks import Chunk, ErrorInfo, Json, Notice
from rxllm.errors import MalformedStreamError
from rxllm.operators.transforming._json_items_text import JsonItemsText
from rxllm.operators.transforming._json_schema import Check, SchemaViolation, check_of
from rxllm.operators.transforming._json_text import JsonText
from rxllm.operators.transforming._snapshots import Snapshot, snapshot_operator
from rxllm.stream import Stream

__all__ = ["parse_json"]

_FREE: Final = 65_536
"""Characters that are parsed in about a millisecond."""
_NOTHING: Final = object()
_MORE: Final = ErrorInfo(
    "MoreJson", "the answer has another JSON value after the first: use ops.json_items"
)


def parse_json(
    schema: Any = None, *, seconds: float = 0.1
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""Replace the text of an answer with the JSON value in it, repeatedly while it grows.

    ::

        S-{"a":-1,-"b"-:2}---E|
        [ parse_json(seconds=0.1) ]
        S-{}----{a:1}-({a:1,b:2}, complete)-E|

    Each `Json` holds the whole value so far; one that equals the previous one isn't sent. An
    unfinished string is shown in part; a number at the end may still grow; `tru` isn't shown.
    `complete` is True on the last one, which is sent as soon as the value is closed and has been
    checked. The text itself is dropped. Other chunks (including reasoning in a batch) pass
    immediately, and may overtake up to `seconds` of text. A stream without text gets no `Json`.

    The value starts at the first `{` or `[` of the answer: a code fence or a sentence before it is
    ignored, and so is everything after the value. If that is another value, a `Notice` of kind
    `"unsupported"` says so: see `json_items` for several. An answer that starts
    with `"` is a bare string; a bare number, `true`, `false` or `null` must be the whole answer (or
    the whole content of a fence), and is sent at its end.

    The JSON must conform to RFC 8259. Of equal keys the last one wins. Integers are exact; `NaN`,
    numbers that don't fit a float, integers of more than 4,300 digits and lone surrogates
    (`"\ud83d"`) are malformed. The complete value is the same however the text is cut into chunks.

    - Completion, error: `End` or completion in the middle of the value sends the value so far, then
      fails. An error sends the incomplete value first; so does `Notice("failed")` of its stream,
      after a merge.
    - Restart: the text of that stream is dropped, and its value starts over.
    - Disposal: upstream and timers are disposed, and the text is dropped.
    - Demand: passes through; no incomplete value is sent while the subscriber's valve is closed.
      The text of the value is held until it ends, without a bound.
    - Cost: the value is parsed when its first text arrives, then at most once every `seconds`, so
      an incomplete one is at most that old. Above 65,536 characters the interval grows in
      proportion.

    Args:
        schema: checks the complete value; incomplete values aren't checked. A type
            (`msgspec.Struct`, dataclass, `TypedDict`, `list[int]`, a pydantic model, ...):
            `Json.value` is an instance of it. A dictionary: a JSON Schema, which needs the package
            jsonschema. A function: receives the value, and returns the one to send or raises
            `ValueError`.
        seconds: minimum time between two incomplete values of a stream.

    Raises:
        ValueError: `seconds` is not finite or not above 0, or a dictionary is not a valid JSON
            Schema.
        TypeError: `schema` is not a supported kind of schema, or is asynchronous, or `seconds` is
            not a number; into `on_error`, if a function returned an awaitable.
        ImportError: `schema` is a JSON Schema, and jsonschema isn't installed.
        MalformedStreamError: into `on_error`, if the answer isn't valid JSON (the message says
            where, `__cause__` is the `JSONDecodeError`), or its value doesn't match the schema.
            `partial` is the text up to there. Any other exception from a function becomes the error
            of the stream.

    >>> from rxllm.chunks import Token
    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> diagram = "1-2-3|"
    >>> lookup = {"1": Token('{"name": "M'), "2": Token('ia", "age"'), "3": Token(": 3}")}
    >>> for time, event in marbles.run(marbles.cold(diagram, lookup=lookup).pipe(parse_json())):
    ...     print(time, event)
    0.0 Json(value={'name': 'M'}, complete=False, index=0, source=None)
    2.0 Json(value={'name': 'Mia'}, complete=False, index=0, source=None)
    4.0 Json(value={'name': 'Mia', 'age': 3}, complete=True, index=0, source=None)
    5.0 |
    """
    seconds = check_number(
        "seconds", seconds, "minimum time between two incomplete values", above=0
    )
    check = check_of(schema)
    return snapshot_operator("parse_json", lambda source: _JsonSnapshot(source, check), seconds)


class _JsonSnapshot(Snapshot):
    """The value of one source."""

    __slots__ = ("_check", "_last", "_more", "_source", "_text")

    def __init__(self, source: str | None, check: Check) -> None:
        super().__init__()
        self._source = source
        self._check = check
        self._text = JsonText()
        self._last: Any = _NOTHING
        self._more: JsonItemsText | None = JsonItemsText(None)  # until another value was seen

    @property
    def size(self) -> float:
        return self._text.length / _FREE

    def feed(self, text: str, out: list[Any]) -> None:
        if self._text.ended:
            self._look_for_more(text, out)
            return
        left = self._text.feed(text)
        self.unread = self._text.begun
        if self._text.ended:
            self._complete(out)
            self._look_for_more(left, out)

    def look(self, out: list[Any]) -> None:
        if not self.unread:
            return
        self.unread = False
        try:
            value = self._text.partial()
        except ValueError:
            return  # nothing to show yet, or malformed, which is reported at the end
        if value != self._last:
            self._last = value
            out.append(Json(value, source=self._source))

    def end(self, out: list[Any]) -> None:
        if not self._text.ended:
            self.look(out)
            self._complete(out)

    def cut_off(self, out: list[Any]) -> None:
        self.look(out)

    def _look_for_more(self, text: str, out: list[Any]) -> None:
        if self._more is None or not text:
            return
        try:
            if next(self._more.feed(text), _NOTHING) is _NOTHING:
                return
            out.append(Notice("unsupported", skipped=1, error=_MORE, source=self._source))
        except JSONDecodeError:
            pass  # brackets in a text
        self._more = None

    def _complete(self, out: list[Any]) -> None:
        self.unread = False
        try:
            value = self._check(self._text.value())
        except JSONDecodeError as error:
            cut = self._text.begun and not self._text.ended
            what = "ends before its JSON value does" if cut else "is not valid JSON"
            raise self._failure(f"the answer {what}: {error}") from error
        except SchemaViolation as error:
            raise self._failure(f"the JSON value doesn't match its schema: {error}") from error
        out.append(Json(value, complete=True, source=self._source))

    def _failure(self, message: str) -> MalformedStreamError:
        failure = MalformedStreamError(message)
        failure.partial = self._text.text
        return failure
