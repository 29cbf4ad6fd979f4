"""Requests in a journal: without secrets, and with hashes in place of bytes."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from difflib import SequenceMatcher
from hashlib import sha256
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from rxllm.errors import BadRequestError
from rxllm.requests import Request

__all__ = ["differences", "key_of", "record_of"]

_SECRET: Final = re.compile(
    r"headers?$|authorization|cookie|api_?key|secret|passw(or)?d|passphrase|credential|bearer"
    r"|(access|auth|session|id|refresh|hf|github|bot|api)_?token|signature|^(token|key|auth|sig)$"
    r"|(private|access|account|subscription|encryption|shared|master)[_-]?key|^pwd$"
    r"|connection_?string"
    r"|^x_(amz|goog)_",
    re.IGNORECASE,
)
_BYTES: Final = (bytes, bytearray, memoryview)

_SHOWN: Final = 40
"""Characters of a differing value that are shown."""

_COMPARED: Final = 2_000
"""Characters of a differing value that are compared to find the nearest request."""


def record_of(request: Request) -> dict[str, Any]:
    """Return the JSON form of `request` in a journal.

    Raises:
        BadRequestError: a value in it can't be written as JSON.
    """
    try:
        fields = msgspec.to_builtins(request, builtin_types=_BYTES, str_keys=True)
        record: dict[str, Any] = _with_digests(fields)
        for message in record["messages"]:
            if isinstance(message["content"], list):
                message["content"] = [_with_safe_url(part) for part in message["content"]]
        if "extra" in record:
            record["extra"] = _without_secrets(record["extra"])
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequestError(f"the request can't be written as JSON: {error}") from error
    return record


def key_of(record: dict[str, Any]) -> str:
    """Return a string that is equal for equal requests."""
    return json.dumps(record, sort_keys=True)


def differences(asked: dict[str, Any], recorded: list[dict[str, Any]]) -> str:
    """Describe how a request differs from the nearest one of those recorded, of which there are."""
    nearest = min((_changes(asked, record) for record in recorded), key=_distance)
    words = [
        f"{path} ({_shown(was, now)}, asked: {_shown(now, was)})"
        for path, (was, now) in list(nearest.items())[:3]
    ]
    more = len(nearest) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "")


def _changes(asked: dict[str, Any], recorded: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the differing values as JSON, by their place; `""` where there is none."""
    now, was = dict(_leaves(asked)), dict(_leaves(recorded))
    return {
        path: (was.get(path, ""), now.get(path, ""))
        for path in {**was, **now}
        if was.get(path) != now.get(path)
    }


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if value and isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, f"{path}.{name}" if path else name)
    elif value and isinstance(value, list):
        for position, each in enumerate(value):
            yield from _leaves(each, f"{path}[{position}]")
    else:
        yield path, json.dumps(value, ensure_ascii=False)


def _distance(changes: dict[str, tuple[str, str]]) -> tuple[int, float]:
    alike = [
        SequenceMatcher(None, was[:_COMPARED], now[:_COMPARED]).quick_ratio()
        for was, now in changes.values()
    ]
    return len(changes), -sum(alike)


def _shown(value: str, other: str) -> str:
    """Return a value, or of a long one the part where it begins to differ from another one."""
    if not value:
        return "not set"
    if len(value) <= _SHOWN:
        return value
    same = next((n for n, (a, b) in enumerate(zip(value, other, strict=False)) if a != b), 0)
    begin = min(max(0, same - _SHOWN // 2), len(value) - _SHOWN)
    end = begin + _SHOWN
    return f"{'...' if begin else ''}{value[begin:end]}{'...' if end < len(value) else ''}"


def _digest(data: bytes) -> dict[str, Any]:
    return {"sha256": sha256(data).hexdigest(), "size": len(data)}


def _with_digests(value: Any) -> Any:
    if isinstance(value, _BYTES):
        return _digest(bytes(value))
    if isinstance(value, dict):
        return {name: _with_digests(each) for name, each in value.items()}
    return [_with_digests(each) for each in value] if isinstance(value, list | tuple) else value


def _with_safe_url(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a message without secrets in its URL; a data URL becomes its digest."""
    url = part.get("url")
    if not isinstance(url, str):
        return part
    try:
        if not url.lower().startswith("data:"):
            return {**part, "url": _without_credentials(url)}
        return _from_data_url(part, url)
    except ValueError:  # it isn't a URL
        return {**part, "url": _digest(url.encode("utf-8", "surrogatepass"))}


def _from_data_url(part: dict[str, Any], url: str) -> dict[str, Any]:
    head, _, payload = url[len("data:") :].partition(",")
    is_base64 = head.lower().endswith(";base64")
    data = b64decode(payload) if is_base64 else unquote_to_bytes(payload)
    media_type = part.get("media_type") or head.partition(";")[0]
    rest = {name: value for name, value in part.items() if name != "url"}
    return {**rest, "media_type": media_type, "data": _digest(data)}


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    kept = [each for each in parts.query.split("&") if not _is_secret(each.partition("=")[0])]
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="&".join(kept)).geturl()


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_secrets(each) for name, each in value.items() if not _is_secret(name)
        }
    return [_without_secrets(each) for each in value] if isinstance(value, list) else value


def _is_secret(name: str) -> bool:
    return _SECRET.search(name.replace("-", "_")) is not None
