"""Finds the error that a provider reports, in whatever JSON or text it reports it.

Servers that speak like OpenAI report errors in many forms; those met in public bug reports are
covered by `tests/models/remote/test_reported_errors.py`.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, TypeAlias

import msgspec

__all__ = ["ErrorObject", "error_in_json", "error_in_text", "is_plain_error", "is_reported"]

_Json: TypeAlias = Any

_ERRORS: Final = ("error", "errors", "detail")
_MESSAGES: Final = ("message", "msg", "detail", "reason", "description", "text", "error", "errors")
_PLAIN_ERROR: Final = re.compile(r"[\w .]{0,40}\b(?:error|exception)\b", re.IGNORECASE)
_DEEPEST: Final = 8


class _Metadata(msgspec.Struct):
    reasons: list[Any] | None = None


class ErrorObject(msgspec.Struct):
    """The `error` of a body or an event, as OpenAI, Anthropic and OpenRouter send it."""

    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    metadata: _Metadata | None = None


def error_in_json(value: _Json, *, has_answer: bool = False) -> ErrorObject | None:
    """Return the error that a decoded event or body reports, or `None`.

    Args:
        value: any JSON value. Of a list, the first element that reports an error counts.
        has_answer: whether the event also carries a part of the answer. Then only a value of
            `error` makes it an error.

    >>> error_in_json({"error": {"message": "out of memory", "code": 500}})
    ErrorObject(message='out of memory', type=None, code=500, metadata=None)
    >>> error_in_json({"error": True, "detail": ["no", "memory"]}).message
    'no; memory'
    >>> error_in_json([{"detail": "not found"}]).message
    'not found'
    >>> error_in_json({"error": None, "choices": []})
    """
    if isinstance(value, list):
        return next((found for each in value if (found := error_in_json(each))), None)
    if not isinstance(value, dict):
        return None
    for name in _ERRORS[: 1 if has_answer else None]:
        if is_reported(value.get(name)):
            return _read(value[name], value)
    is_error = "error" in (value.get("type"), value.get("object"))
    has_code = bool(value.get("code") and value.get("message"))
    return _read(value, {}) if not has_answer and (is_error or has_code) else None


def is_reported(error: _Json) -> bool:
    """Return whether the value of `error` reports one: any that isn't empty, and also `{}`."""
    return bool(error) or error == {}


def error_in_text(text: str) -> ErrorObject:
    """Return the error whose whole report is `text`: JSON of any form, or plain text.

    >>> error_in_text("CUDA out of memory").message
    'CUDA out of memory'
    >>> error_in_text('{"message": {"text": "too long"}}').message
    'too long'
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ErrorObject(text.strip() or None)
    return error_in_json(value) or _read(value, {})


def is_plain_error(text: str) -> bool:
    """Return True if a text that isn't JSON looks like the report of an error.

    >>> is_plain_error("error: CUDA out of memory"), is_plain_error("Internal Server Error")
    (True, True)
    >>> is_plain_error('{"error": '), is_plain_error("hello")
    (False, False)
    """
    return _PLAIN_ERROR.match(text) is not None


def _read(reported: _Json, around: dict[str, _Json]) -> ErrorObject:
    """Read the value of `error`; what it lacks is taken from the object around it."""
    fields = reported if isinstance(reported, dict) else {}
    if isinstance(reported, list):  # of messages, or of errors
        first = next((each for each in reported if isinstance(each, dict)), {})
        fields = {name: first[name] for name in ("type", "code") if name in first}
    message = None if reported is True or _is_number(reported) else _message(reported)
    if message is None:
        message = _message(
            {name: around[name] for name in _MESSAGES if name != "error" and name in around}
        )
    if message is None and any(fields[name] for name in fields.keys() - {"type", "code"}):
        message = json.dumps(reported)  # no field that is known to hold the words
    code = reported if _is_number(reported) else fields.get("code") or around.get("code")
    return ErrorObject(
        message,
        _name(fields.get("type")) or _name(around.get("type")),
        _code(code),
        _metadata(fields.get("metadata")),
    )


def _message(value: _Json, depth: int = 0) -> str | None:
    """Return the words in a value of any form."""
    if isinstance(value, str):
        return value.strip() or None
    if value is None or isinstance(value, bool) or depth == _DEEPEST:
        return None
    if isinstance(value, list):
        return "; ".join(filter(None, (_message(each, depth + 1) for each in value))) or None
    if not isinstance(value, dict):
        return str(value)
    for name in _MESSAGES:
        if (message := _message(value.get(name), depth + 1)) is not None:
            return message
    return None


def _metadata(value: _Json) -> _Metadata | None:
    reasons = value.get("reasons") if isinstance(value, dict) else None
    return _Metadata(reasons) if isinstance(reasons, list) else None


def _name(value: _Json) -> str | None:
    return value if isinstance(value, str) and value not in ("", "error") else None


def _code(value: _Json) -> str | int | None:
    return int(value) if _is_number(value) else _name(value)


def _is_number(value: _Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
