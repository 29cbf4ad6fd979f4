"""Finds the error that a provider reports, in whatever JSON or text it reports it.

Servers that speak like OpenAI report errors in many forms; those met in public bug reports are
covered by `tests/models/remote/test_reported_errors.py`.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import msgspec

from rxllm.models.remote.coercion import as_object

__all__ = ["ErrorObject", "error_in_json", "error_in_text", "is_plain_error"]

_Json: TypeAlias = Any

_ERRORS: Final = ("error", "errors", "base_resp", "fault")
_MESSAGES: Final = (
    *("message", "Message", "msg", "error_message", "errorMessage", "error_msg", "status_msg"),
    *("detail", "reason", "description", "title", "text", "error", "errors", "data"),
)
_CODES: Final = ("code", "status_code", "statusCode", "error_code", "errorCode", "status")
_ANSWER: Final = ("choices", "usage", "id", "object", "delta", "type")
"""Fields of events that may belong to an answer."""

_FINE: Final = ("", "0", "ok", "success", "null", "none", "false")
_BAD_STATUS: Final = re.compile(
    r"err|fail|invalid|denied|forbid|exceed|limit|unavail|overload|abort|timeout|unauth|bad|\d",
    re.IGNORECASE,
)
_EXCEPTION: Final = re.compile(r".*(?:exception|fault)", re.IGNORECASE)
_PLAIN_ERROR: Final = re.compile(
    r"[\w .\[(-]{0,60}(?:error|exception)\b|Traceback \(", re.IGNORECASE
)
_NAME: Final = re.compile(r"[a-z]+(?:_[a-z]+)+")
_PHRASES: Final = {status.phrase.lower() for status in HTTPStatus}
_DEEPEST: Final = 8
_LARGEST_CODE: Final = 1_000_000


class _Metadata(msgspec.Struct):
    """Of OpenRouter: why a request was refused, and the words of the provider behind it."""

    reasons: list[Any] | None = None
    raw: Any = None


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
            `error` makes it an error. If it has choices that say nothing, `detail` alone doesn't.

    >>> error_in_json({"error": {"message": "out of memory", "code": 500}})
    ErrorObject(message='out of memory', type=None, code=500, metadata=None)
    >>> error_in_json({"error": True, "detail": ["no", "memory"]}).message
    'no; memory'
    >>> error_in_json([{"detail": "not found"}]).message
    'not found'
    >>> error_in_json({"error": None, "choices": []})
    """
    if isinstance(value, list):
        parts = [each for each in value if isinstance(each, dict)]
        return next((found for each in parts if (found := error_in_json(each))), None)
    if not isinstance(value, dict):
        return None
    for name in _error_fields(value, has_answer=has_answer):
        reported = value.get(name)
        if _is_reported(reported) or (name == "error" and reported == {} and not has_answer):
            return _read(reported, value)
    if has_answer:
        return None
    kinds = [str(value.get(name)).lower() for name in ("type", "object", "status", "event")]
    is_error = any(kind.endswith("error") for kind in kinds) or value.get("success") is False
    codes = {name: value[name] for name in _CODES if name in value}
    has_failed = any(_is_failure(code, name) for name, code in codes.items())
    is_bare = not (codes or "event" in value or any(name in value for name in _ANSWER))
    if (is_error or has_failed or is_bare) and (is_error or _message(value) is not None):
        return _read(value, {})
    return None


def _error_fields(value: dict[str, _Json], *, has_answer: bool) -> list[str]:
    """The fields whose value is an error, if there is any."""
    if has_answer:
        return [_ERRORS[0]]
    own = [name for name in value if _EXCEPTION.fullmatch(name) and isinstance(value[name], dict)]
    return [*_ERRORS, *([] if value.get("choices") else ["detail"]), *own]


def _is_reported(error: _Json) -> bool:
    """Any error that isn't empty, nor an object of empty fields or with a code of success."""
    if isinstance(error, dict):
        codes = [error[name] for name in _CODES if error.get(name) not in (None, "")]
        has_failed = not codes or any(_is_failure(code, "code") for code in codes)
        return any(error.values()) and has_failed
    return error.lower() not in _FINE if isinstance(error, str) else bool(error)


def _is_failure(code: _Json, name: str) -> bool:
    """Whether a code, if it is one, is that of a failure. A `status` may be any word."""
    if _is_number(code):
        return code != 0 and not 200 <= code < 300
    if not isinstance(code, str) or code.lower() in _FINE or code.startswith("2"):
        return False
    return name != "status" or _BAD_STATUS.search(code) is not None


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
    >>> is_plain_error("RuntimeError: CUDA out of memory")
    True
    >>> is_plain_error('{"error": '), is_plain_error("hello")
    (False, False)
    """
    return _PLAIN_ERROR.match(text) is not None


def _read(reported: _Json, around: dict[str, _Json]) -> ErrorObject:
    """Read the value of `error`; what it lacks is taken from the object around it."""
    fields = as_object(reported)
    if isinstance(fields.get("error"), dict):
        return _read(fields["error"], fields)
    if isinstance(reported, list):  # of messages, or of errors
        first = next((each for each in reported if isinstance(each, dict)), {})
        fields = {name: first[name] for name in ("type", *_CODES) if name in first}
    message = None if reported is True or _is_number(reported) else _message(reported)
    if message is None or _is_label(message):
        others = {name: around[name] for name in _MESSAGES if name != "error" and name in around}
        message = _message(others) or message
    if message is None and any(fields[name] for name in fields.keys() - {"type", "code"}):
        message = json.dumps(reported)  # no field that is known to hold the words
    metadata = _metadata(fields.get("metadata"))
    if metadata is not None and (raw := _message(metadata.raw)) is not None:
        message = f"{message}: {raw}" if message else raw
    name = reported if isinstance(reported, str) and _NAME.fullmatch(reported) else None
    code = reported if _is_number(reported) else _code_in(fields) or _code_in(around)
    kind = _name(fields.get("type")) or name or _name(around.get("type"))
    return ErrorObject(message, kind, _code(code), metadata)


def _is_label(text: str) -> bool:
    """Whether a text names the kind of an error, so that other words say more."""
    return bool(_NAME.fullmatch(text)) or text.isdecimal() or text.lower() in _PHRASES


def _code_in(fields: dict[str, _Json]) -> _Json:
    """The first number among the fields for codes, or the first of them."""
    given = [fields[name] for name in _CODES if fields.get(name)]
    numbers = [each for each in given if _is_number(each) or str(each)[:4].isdecimal()]
    return next(iter(numbers or given), None)


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
    fields = as_object(value)
    reasons, raw = fields.get("reasons"), fields.get("raw")
    return _Metadata(reasons if isinstance(reasons, list) else None, raw) if fields else None


def _name(value: _Json) -> str | None:
    return value if isinstance(value, str) and value not in ("", "error") else None


def _code(value: _Json) -> str | int | None:
    return int(value) if _is_number(value) else _name(value)


def _is_number(value: _Json) -> bool:
    """Whether a value is a number that may be a code."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -_LARGEST_CODE < value < _LARGEST_CODE
