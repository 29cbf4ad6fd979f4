"""Request bodies, and error responses."""

from __future__ import annotations

import asyncio
import math
import re
from typing import Final, TypeVar

import msgspec
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from rxllm.server.limits import Limits
from rxllm.web.encoding import to_json
from rxllm.web.failures import (
    InvalidMessageError,
    RefusedError,
    TooLargeError,
    failure_message,
    status_of,
)
from rxllm.web.stream_messages import StreamFailed

__all__ = [
    "decoded",
    "invalid",
    "json_response",
    "read_body",
    "refusal",
    "refuse",
    "retry_headers",
]

_T = TypeVar("_T")

_RETRY_AFTER: Final = {429: 1.0, 503: 5.0}


def refuse(error: BaseException, stream_id: str | None = None) -> web.Response:
    """Return the error response for a request that fails before its first byte."""
    return refusal(failure_message(error, stream_id), status_of(error))


def refusal(message: StreamFailed, status: int) -> web.Response:
    """Return `message` as a response. 429 and 503 have a `Retry-After` header, in whole seconds,
    from the provider if it sent one."""
    return json_response(message, status, retry_headers(message, status))


def retry_headers(message: StreamFailed, status: int) -> dict[str, str]:
    """Return the `Retry-After` header, if one applies."""
    wait = message.retry_after or _RETRY_AFTER.get(status)
    if wait is None or not math.isfinite(wait):
        return {}
    return {"Retry-After": str(max(0, math.ceil(wait)))}


def json_response(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Return `value` as a JSON response with `Cache-Control: no-store`."""
    return web.Response(
        body=to_json(value),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


async def read_body(request: web.Request, limits: Limits) -> bytes:
    """Read the body of a request. The size is checked here because aiohttp's `client_max_size`
    comes from the outermost application, which may not be ours.

    Raises:
        TooLargeError: it is longer than `limits.body_bytes`.
        InvalidMessageError: its encoding is broken, or it is incomplete.
        RefusedError: it was not received in time (408), or it is compressed (415): a small body
            may unpack to a huge one.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        raise RefusedError(
            "unsupported_encoding", f"the Content-Encoding {encoding[:50]!r} is not accepted", 415
        )
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > limits.body_bytes:
                    break
            data = bytes(body) or await request.read()  # a middleware may have read it before
    except TimeoutError:
        raise RefusedError(
            "request_timeout", f"the body was not received within {limits.body_seconds:g} s", 408
        ) from None
    except web.HTTPRequestEntityTooLarge:  # raised by a middleware that replaces the request
        raise _too_large(limits) from None
    except (web.RequestPayloadError, ClientError, HttpProcessingError) as error:
        request.content.feed_eof()  # or aiohttp keeps reading, and logs the same error
        request.protocol.close()
        raise InvalidMessageError(f"the body can't be read: {error}", "body") from None
    except ConnectionError:
        raise InvalidMessageError("the body is incomplete", "body") from None
    if len(data) > limits.body_bytes:
        raise _too_large(limits)
    return data


def _too_large(limits: Limits) -> TooLargeError:
    return TooLargeError(f"the body must be at most {limits.body_bytes} bytes", "body")


def decoded(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T:
    """Decode a body.

    Raises:
        InvalidMessageError: it is invalid JSON or has the wrong shape.
    """
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise invalid(error) from None
    except RecursionError:
        raise InvalidMessageError("the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidMessageError("invalid JSON: not UTF-8") from None


_PATH: Final = re.compile(r" - at `(?:key in )?\$\.?(.*?)`$")
_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `(\w+)`")


def invalid(error: msgspec.DecodeError) -> InvalidMessageError:
    """Convert an error of msgspec, with the invalid field if it is known."""
    text = str(error)
    where = _PATH.search(text)
    path = [where[1]] if where is not None and where[1] else []
    for pattern in (_MISSING, _UNKNOWN_FIELD):
        named = pattern.search(text)
        path += [named[1]] if named is not None else []
    message = text if isinstance(error, msgspec.ValidationError) else f"invalid JSON: {text}"
    return InvalidMessageError(message, ".".join(path) or None)
