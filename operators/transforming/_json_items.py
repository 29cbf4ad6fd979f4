"""`json_items`: the JSON values of an answer, each as it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from json import JSONDecodeError
from typing import Any

from reactivex import Observable

from rxllm.chunks import Batch, Chunk, Json, Token, text_of
from rxllm.errors import MalformedStreamError
from rxllm.operators._text_operator import TextState, text_operator
from rxllm.operators.transforming._json_items_text import JsonItemsText
from rxllm.operators.transforming._json_schema import Check, SchemaViolation, check_of
from rxllm.stream import Stream

__all__ = ["json_items"]


def json_items(
    schema: Any = None, *, path: str | None = None
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""Replace the text of an answer with the JSON values in it, each as it is complete.

    ::

        S-{"a":1}-\n{"a"-:2}-E|
        [ json_items() ]
        S-0---------------1--E|   0: Json({a:1}, complete), 1: Json({a:2}, complete, index=1)

    Without a `path`, the values are the objects and arrays of the text, after one another: JSON
    Lines, or several objects with a text around them, which is dropped. Each `{` and `[` begins a
    value, also one that is meant as text. With a `path`, they are the
    elements of an array, before the array ends: `path=""` for `[...]`, `path="data.items"` for
    `{"data": {"items": [...]}}`. What else is in the value is dropped, and not checked.

    `Json.index` counts the values from 0. Each is one that `parse_json` accepts. Other chunks
    (including reasoning in a batch) pass at once. The values are the same however the text is cut
    into chunks.

    - Completion, error: a value that isn't closed at `End` or completion is an error. Any other
      error is passed on; the value that is open then is dropped.
    - Restart: the value that is open is dropped, and values are counted from 0 again. Those that
      were sent belong to the answer before it.
    - Disposal: upstream is disposed, and the text is dropped.
    - Demand: passes through. The text of a value is held until the value is complete, without a
      bound.

    Args:
        schema: checks each value, and may make an instance of it, as in `parse_json`.
        path: the keys that lead to an array, with dots between them; `None` for the values of the
            text themselves.

    Raises:
        TypeError, ValueError, ImportError: the schema is invalid, as for `parse_json`; `path` is
            not a string.
        MalformedStreamError: into `on_error`, if a value isn't valid JSON, doesn't match the
            schema, or isn't closed. `partial` is its text. Any other exception from a function
            becomes the error of the stream.

    >>> from rxllm.chunks import Token
    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> texts = ['{"cats": [{"name": "Mi', 'a"}, {"na', 'me": "Leo"}]}']
    >>> source = marbles.cold("1-2-3|", lookup=dict(zip("123", map(Token, texts))))
    >>> events = marbles.run(source.pipe(json_items(path="cats")))
    >>> for time, event in events[:-1]:
    ...     print(time, event.index, event.value)
    2.0 0 {'name': 'Mia'}
    4.0 1 {'name': 'Leo'}
    """
    if not isinstance(path, str | None):
        raise TypeError(f"path must be a string such as 'data.items', or None, got {path!r}")
    keys = None if path is None else tuple(path.split(".")) if path else ()
    check = check_of(schema, "json_items")
    return text_operator("json_items", lambda source: _Items(source, keys, check))


class _Items(TextState):
    """The values of one source."""

    __slots__ = ("_check", "_count", "_source", "_text")

    def __init__(self, source: str | None, keys: tuple[str, ...] | None, check: Check) -> None:
        self._source = source
        self._check = check
        self._text = JsonItemsText(keys)
        self._count = 0

    def text(self, chunk: Token | Batch) -> Iterator[Chunk]:
        if type(chunk) is Batch:
            for part in chunk.chunks:
                if type(part) is Token:
                    yield from self._read(part.text)
                else:
                    yield part
        else:
            yield from self._read(text_of(chunk))

    def end(self) -> Iterator[Chunk]:
        if self._text.is_open:
            raise self._failure("the answer ends before its JSON value does")
        return iter(())

    def _read(self, text: str) -> Iterator[Chunk]:
        values = self._text.feed(text)
        while True:
            try:
                value = self._check(next(values))
            except StopIteration:
                return
            except JSONDecodeError as error:
                raise self._failure(f"value {self._count} is not valid JSON: {error}") from error
            except SchemaViolation as error:
                message = f"value {self._count} doesn't match its schema: {error}"
                raise self._failure(message) from error
            yield Json(value, complete=True, index=self._count, source=self._source)
            self._count += 1

    def _failure(self, message: str) -> MalformedStreamError:
        failure = MalformedStreamError(message)
        failure.partial = self._text.text
        return failure
