"""The schema of a type as the APIs of providers take it, and the answers to it.

The APIs answer with an object. An answer of another type is asked for as `{"value": ...}`, of which
only the value is passed on. A schema that was given as a dictionary is sent as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec

from rxllm.answer_schema import AnswerSchema, map_schema
from rxllm.chunks import Chunk, Token
from rxllm.requests import Request

__all__ = ["ValueReader", "is_closed", "sent_schema", "value_reader"]

_OPENING: Final = re.compile(r'\s*\{\s*"value"\s*:\s*(?=\S)')
_COMPACT: Final = '{"value":'
_SPACE: Final = re.compile(r"\s+")
_SAYING: Final = frozenset({"anyOf", "$ref", "enum", "const"})
_MARKS: Final = re.compile(r'\\(?s:.)?|["{}\[\]]')


def sent_schema(schema: dict[str, Any], refused: Collection[str] = ()) -> dict[str, Any]:
    """Return a schema as it is sent.

    Args:
        schema: the `response_format` of a request.
        refused: keywords that the API refuses. In the schema of a type they become a part of the
            description, and are checked when the answer is read.

    >>> sent_schema(AnswerSchema(int))["properties"]
    {'value': {'type': 'integer'}}
    """
    if not isinstance(schema, AnswerSchema):
        return schema

    def described(each: dict[str, Any]) -> dict[str, Any]:
        words = [f"{name}: {each.pop(name)}" for name in refused if name in each]
        if words:
            each["description"] = f"{each.get('description', '')} ({', '.join(words)})".lstrip()
        return each

    changed = map_schema(schema, described)
    if schema.is_object:
        return changed
    parts = {"$defs": changed.pop("$defs")} if "$defs" in changed else {}
    return {
        "type": "object",
        "properties": {"value": changed},
        "required": ["value"],
        "additionalProperties": False,
        **parts,
    }


def is_closed(schema: dict[str, Any]) -> bool:
    """Return whether a schema says everything about a value, as OpenAI's strict mode demands.

    A schema that was given as a dictionary is taken to do so.
    """
    if not isinstance(schema, AnswerSchema):
        return True
    open_ones: list[dict[str, Any]] = []

    def note(each: dict[str, Any]) -> dict[str, Any]:
        if not _says_all(each):
            open_ones.append(each)
        return each

    map_schema(schema, note)
    return not open_ones


def _says_all(schema: dict[str, Any]) -> bool:
    kind = schema.get("type")
    if kind == "object":
        return schema.get("additionalProperties") is False
    if kind == "array":
        return "items" in schema and "prefixItems" not in schema
    return kind is not None or not _SAYING.isdisjoint(schema)


def value_reader(request: Request) -> ValueReader | None:
    """Return what unwraps the answer to a request; `None` if it isn't wrapped."""
    schema = request.response_format
    is_wrapped = isinstance(schema, AnswerSchema) and not schema.is_object
    return ValueReader() if is_wrapped else None


class ValueReader:
    """Removes what `sent_schema` has put around a value, however the text is cut.

    An answer that isn't wrapped, of a server that ignores schemas, stays as it is.

    >>> reader = ValueReader()
    >>> [reader.feed(text) for text in ('{"val', 'ue": [{"a"', ": 1}", "]} ")]
    ['', '[{"a"', ': 1}', ']']
    """

    def __init__(self) -> None:
        self._before: str | None = ""  # the text up to the value; `None` after it
        self._depth = 0
        self._is_bare = self._in_string = self._escaped = self._ended = False

    def chunks(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        """Return chunks of the answer without the text that isn't of the value."""
        kept: list[Chunk] = []
        for chunk in chunks:
            if type(chunk) is Token and chunk.text:
                text = self.feed(chunk.text)
                if text or chunk.state is not None:
                    kept.append(msgspec.structs.replace(chunk, text=text))
            else:
                kept.append(chunk)
        return kept

    def feed(self, text: str) -> str:
        """Return the part of the next piece of text that is of the value."""
        if self._before is not None:
            self._before = begun = self._before + text
            opening = _OPENING.match(begun)
            if opening is None and _COMPACT.startswith(_SPACE.sub("", begun)):
                return ""  # what comes next will tell
            self._is_bare = opening is None
            self._before = None
            text = begun if opening is None else begun[opening.end() :]
        if self._is_bare:
            return text
        return "" if self._ended else text[: self._end_in(text)]

    def _end_in(self, text: str) -> int:
        """Return where the value ends in the next piece of it."""
        start = 1 if self._escaped else 0
        self._escaped = False
        for mark in _MARKS.finditer(text, start):
            sign = mark[0]
            if sign[0] == "\\":
                self._escaped = len(sign) == 1
            elif sign == '"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._depth += 1 if sign in "{[" else -1
                if self._depth < 0:
                    self._ended = True
                    return mark.start()
        return len(text)
