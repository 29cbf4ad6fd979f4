"""Reads JSON whose fields have other types than documented, as far as their meaning is clear."""

from __future__ import annotations

import json
import math
from typing import Any, TypeAlias, TypeVar, get_args

import msgspec

__all__ = [
    "as_arguments",
    "as_counts",
    "as_float",
    "as_int",
    "as_object",
    "as_objects",
    "as_optional_text",
    "as_text",
    "is_json",
]

_Json: TypeAlias = Any
_Struct = TypeVar("_Struct", bound=msgspec.Struct)

_TEXTS = ("text", "content", "value", "thinking", "reasoning", "summary")


def as_text(value: _Json) -> str:
    """Return the text in a value: of a text, a number, a part, or a list of parts.

    >>> as_text(["a", {"type": "text", "text": "b"}, 3, None])
    'ab3'
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, list):
        return "".join(map(as_text, value))
    if isinstance(value, dict):
        return next((text for name in _TEXTS if (text := as_text(value.get(name)))), "")
    return str(value)


def as_optional_text(value: _Json) -> str | None:
    """Return a text or a number as text, without lone surrogates; anything else as `None`."""
    if isinstance(value, bool | list | dict) or value is None:
        return None
    return str(value).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def as_float(value: _Json) -> float | None:
    """Return the number in a number or a text.

    >>> as_float("2.5"), as_float(3), as_float("three"), as_float(True)
    (2.5, 3.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_int(value: _Json) -> int | None:
    """Return the integer nearest to a number or a text that holds one.

    >>> as_int("2"), as_int(2.0), as_int(None)
    (2, 2, None)
    """
    number = as_float(value)
    return None if number is None else round(number)


def as_counts(kind: type[_Struct], value: _Json) -> _Struct:
    """Return a `Struct` of numbers, and of such `Struct`s, from an object with such fields.

    A field that isn't a number keeps its default.
    """
    fields, counts = as_object(value), {}
    for field in msgspec.structs.fields(kind):
        given = fields.get(field.encode_name)
        types = get_args(field.type) or (field.type,)
        struct = next((each for each in types if issubclass(each, msgspec.Struct)), None)
        if struct is not None:
            counts[field.name] = as_counts(struct, given)
        elif (number := as_float(given) if float in types else as_int(given)) is not None:
            counts[field.name] = number
    return kind(**counts)


def as_object(value: _Json) -> dict[str, _Json]:
    """Return an object; anything else is an empty one."""
    return value if isinstance(value, dict) else {}


def as_objects(value: _Json) -> list[dict[str, _Json]]:
    """Return the objects of a list, or a single object as a list."""
    if isinstance(value, dict):
        return [value]
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def as_arguments(value: _Json) -> str | None:
    """Return the arguments of a call: JSON as text, also if they come as an object."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return as_optional_text(value)


def is_json(text: str, *, strict: bool = True) -> bool:
    """Return whether `text` is a complete JSON value, without NaN if `strict`.

    >>> is_json('{"a": 1}'), is_json('{"a"'), is_json('{"a": NaN}')
    (True, False, False)
    """
    try:
        json.loads(text, parse_constant=_refuse if strict else None)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
