"""Which JSON Schemas an answer can be held to; see https://json-schema.org/draft/2020-12.

A keyword that isn't in the list below is an error, since ignoring it would break a promise.
llguidance, which does the work, has bounds of its own for most of what costs time or memory; the
bounds here are for the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

from rxllm.errors import BadRequestError, UnsupportedError

__all__ = ["FORMATS", "KEYWORDS", "check_schema", "place_of"]

_MOST_BYTES: Final = 64 * 1024
_MOST_PROPERTIES: Final = 400
_MOST_PATTERNS: Final = 50
_MOST_MULTIPLE: Final = 10_000
"""The largest product of all `multipleOf`, in units of the last decimal place: time and memory grow
with it."""

_TYPES: Final = {"array", "boolean", "integer", "null", "number", "object", "string"}


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_type(value: Any) -> bool:
    kinds = value if isinstance(value, list) else [value]
    return bool(kinds) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)


def _is_list_of(test: Callable[[Any], bool], *, minimum: int = 0) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) >= minimum and all(map(test, value))


def _is_map_of_schemas(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


def _is_anything(_: Any) -> bool:
    return True


_SCHEMAS: Final = ("a list of schemas", _is_list_of(_is_schema, minimum=1))
_MAP: Final = ("an object of schemas", _is_map_of_schemas)
_SCHEMA: Final = ("a schema", _is_schema)
_COUNT: Final = ("a whole number, 0 or more", _is_count)
_NUMBER: Final = ("a number", _is_number)
_TEXT: Final = ("a string", _is_text)
_ANYTHING: Final = ("anything", _is_anything)

FORMATS: Final = (
    "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid",
)  # fmt: skip
"""The values of `format`."""

KEYWORDS: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "type": (f"one or several of {', '.join(sorted(_TYPES))}", _is_type),
    "enum": ("a list of values", _is_list_of(_is_anything, minimum=1)),
    "const": _ANYTHING,
    "properties": _MAP,
    "patternProperties": _MAP,
    "additionalProperties": _SCHEMA,
    "required": ("a list of strings", _is_list_of(_is_text)),
    "minProperties": _COUNT,
    "maxProperties": _COUNT,
    "items": _SCHEMA,
    "prefixItems": _SCHEMAS,
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "minLength": _COUNT,
    "maxLength": _COUNT,
    "pattern": _TEXT,
    "format": _TEXT,
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "exclusiveMaximum": _NUMBER,
    "multipleOf": ("a number above 0", lambda value: _is_number(value) and value > 0),
    "anyOf": _SCHEMAS,
    "allOf": _SCHEMAS,
    "oneOf": _SCHEMAS,
    "$ref": _TEXT,
    "$defs": _MAP,
    "definitions": _MAP,
    "$schema": _TEXT,
    "$id": _TEXT,
    "$comment": _ANYTHING,
    "title": _ANYTHING,
    "description": _ANYTHING,
    "default": _ANYTHING,
    "examples": _ANYTHING,
    "deprecated": _ANYTHING,
    "readOnly": _ANYTHING,
    "writeOnly": _ANYTHING,
}
"""The keywords, what their values must be, and a test of that. Those after `$id` say nothing."""


def check_schema(schema: dict[str, Any]) -> None:
    """Check that an answer can be held to everything in a schema.

    Raises:
        BadRequestError: it isn't a valid schema.
        UnsupportedError: an answer can't be held to it; the message names the keyword and its
            place, as a JSON pointer.
    """
    try:
        text = json.dumps(schema, allow_nan=False)
    except RecursionError:
        raise UnsupportedError("the JSON Schema is nested too deeply", _FIELD) from None
    except (TypeError, ValueError) as error:
        raise BadRequestError(f"the JSON Schema isn't JSON: {error}", _FIELD) from None
    if len(text) > _MOST_BYTES:
        raise _unsupported(f"{len(text)} bytes; at most {_MOST_BYTES} are supported", "#")
    multiples: set[Decimal] = set()
    bounds: dict[str, set[Decimal]] = {name: set() for name in _BOUNDS}
    for place, each in _subschemas(schema):
        _check_keywords(each, place)
        if "multipleOf" in each:
            multiples.add(_decimal(each["multipleOf"]))
        for name in _BOUNDS & each.keys():
            bounds[name].add(_decimal(each[name]))
    _check_multiples(multiples)
    _check_bounds(bounds)


def place_of(reason: str, schema: dict[str, Any]) -> str:
    """Return where the keyword stands that llguidance complains about, as a JSON pointer.

    >>> place_of("oneOf constraints are not supported", {"items": {"oneOf": [True]}})
    '#/items/oneOf'
    """
    names = {name for word, names in _WORDS.items() if word in reason for name in names}
    names = names or KEYWORDS.keys() & set(re.findall(r"\$?\w+", reason))
    found = [
        (f"{place}/{name}", value)
        for place, each in _subschemas(schema)
        for name, value in each.items()
        if name in names
    ]
    named = [place for place, value in found if isinstance(value, str) and value in reason]
    return next(iter(named or [place for place, _ in found]), "#")


_FIELD: Final = "response_format"
_WORDS: Final = {
    "egex": ("pattern", "patternProperties"),
    "min/maxProperties": ("minProperties", "maxProperties"),
    "patternProperty": ("patternProperties",),
    "Pointer": ("$ref",),
}
"""Parts of llguidance's messages, and the keywords that they are about."""

_BOUNDS: Final = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}


def _subschemas(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each schema inside of `schema`, and itself, with its place."""
    waiting = [("#", schema)]
    while waiting:
        place, each = waiting.pop()
        yield place, each
        for name, value in each.items():
            kind, inside = KEYWORDS[name], f"{place}/{name}"
            if kind is _SCHEMA and isinstance(value, dict):
                waiting.append((inside, value))
            elif kind is _MAP:
                waiting += _dicts(inside, value.items())
            elif kind is _SCHEMAS:
                waiting += _dicts(inside, enumerate(value))


def _dicts(place: str, parts: Iterable[tuple[object, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{place}/{str(name).replace('~', '~0').replace('/', '~1')}", part)
        for name, part in parts
        if isinstance(part, dict)
    ]


def _check_keywords(schema: dict[str, Any], place: str) -> None:
    for name, value in schema.items():
        if name not in KEYWORDS:
            raise _unsupported(f"the keyword {name!r}", place)
        what, is_valid = KEYWORDS[name]
        if not is_valid(value):
            shown = json.dumps(value)[:80]
            raise BadRequestError(f"{place}/{name} must be {what}, got {shown}", _FIELD)
    for name, most in (("properties", _MOST_PROPERTIES), ("patternProperties", _MOST_PATTERNS)):
        if len(schema.get(name, ())) > most:
            raise _unsupported(f"more than {most} {name}", place)
    if not schema.get("$ref", "#").startswith("#"):
        raise _unsupported("a $ref to another document", place)
    if schema.get("format", FORMATS[0]) not in FORMATS:
        raise _unsupported(f"the format {schema['format']!r}", f"{place}/format")


def _check_multiples(multiples: set[Decimal]) -> None:
    unit = min((each.normalize() for each in multiples), key=_exponent, default=Decimal(1))
    unit = Decimal(1).scaleb(min(0, _exponent(unit)))
    product = Decimal(1)
    for each in multiples:
        product *= each / unit
        if product > _MOST_MULTIPLE:
            raise _unsupported(f"multipleOf with a product above {_MOST_MULTIPLE}", "#")


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)  # noqa: S101 - a finite number
    return exponent


def _check_bounds(bounds: dict[str, set[Decimal]]) -> None:
    """Reject an exclusive bound that is whole, with an opposite one at a distance below 1.

    llguidance 1.9.1 lets the bound itself through.
    """
    for exclusive, opposite in (
        ("exclusiveMinimum", ("maximum", "exclusiveMaximum")),
        ("exclusiveMaximum", ("minimum", "exclusiveMinimum")),
    ):
        for bound in bounds[exclusive]:
            others = bounds[opposite[0]] | bounds[opposite[1]]
            if bound == bound.to_integral_value() and any(abs(bound - it) < 1 for it in others):
                raise _unsupported(f"{exclusive} with another bound less than 1 away", "#")


def _decimal(number: float) -> Decimal:
    return Decimal(str(number))


def _unsupported(what: str, place: str) -> UnsupportedError:
    return UnsupportedError(f"the JSON Schema has {what} (at {place})", _FIELD)
