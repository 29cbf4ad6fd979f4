"""Maps failures of providers to `rxllm.errors`, by status and code, never by message text.

Sources: https://platform.openai.com/docs/guides/error-codes,
https://docs.anthropic.com/en/api/errors, https://openrouter.ai/docs/api/reference/errors-and-debugging,
https://console.groq.com/docs/errors.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from rxllm.errors import (
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ContentFilteredError,
    ContextLengthError,
    MalformedStreamError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    RxLLMError,
    ServerError,
)
from rxllm.models.remote.rate_limits import rate_limits_in
from rxllm.models.remote.reported_error import (
    ErrorObject,
    error_in_json,
    error_in_text,
    is_plain_error,
)

__all__ = [
    "error_in_place_of_stream",
    "error_in_stream",
    "error_of_response",
    "retry_after",
]

_BY_STATUS: Final[dict[int, type[RxLLMError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PermissionDeniedError,  # payment required
    403: PermissionDeniedError,
    404: ModelNotFoundError,
    408: RequestTimeoutError,
    409: ConflictError,
    413: ContextLengthError,
    422: BadRequestError,
    429: RateLimitError,
    503: OverloadedError,
    529: OverloadedError,
}

# Codes that are more specific than the status sent with them.
_BY_CODE: Final[dict[str, type[RxLLMError]]] = {
    "content_filter": ContentFilteredError,
    "content_policy_violation": ContentFilteredError,
    "moderation_blocked": ContentFilteredError,
    "context_length_exceeded": ContextLengthError,
    "exceed_context_size_error": ContextLengthError,
    "request_too_large": ContextLengthError,
    "insufficient_quota": PermissionDeniedError,  # a 429 that waiting doesn't resolve
    "billing_hard_limit_reached": PermissionDeniedError,
    "billing_not_active": PermissionDeniedError,
    "billing_error": PermissionDeniedError,
    "invalid_api_key": AuthenticationError,
    "model_not_found": ModelNotFoundError,
    "model_decommissioned": ModelNotFoundError,
}

# Codes and types of errors inside a stream, which have no status.
_BY_TYPE: Final[dict[str, type[RxLLMError]]] = {
    **_BY_CODE,
    "authentication_error": AuthenticationError,
    "invalid_request_error": BadRequestError,
    "not_found_error": ModelNotFoundError,
    "overloaded_error": OverloadedError,
    "permission_error": PermissionDeniedError,
    "rate_limit_error": RateLimitError,
    "rate_limit_exceeded": RateLimitError,
    "timeout_error": RequestTimeoutError,
}

_REQUEST_IDS: Final = ("x-request-id", "request-id", "x-generation-id")
_STATUS_DIGITS: Final = 3
_LONGEST_MESSAGE: Final = 500
_SHORT: Final = 200
_LONGEST_BODY: Final = 10_000
_RETRY_DELAY: Final = re.compile(rb'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"')


def error_of_response(
    provider: str, status: int, headers: Mapping[str, str], body: bytes
) -> RxLLMError:
    """Return the error for a response with an error status.

    Args:
        provider: the provider's name, for the message.
        status: the HTTP status code.
        headers: the response headers, with names in lower case.
        body: the body or its beginning; JSON in a known form refines the error.
    """
    error = _read(body) or ErrorObject()
    kind = _by_name(error, _BY_CODE) or _by_status(status)
    reason = error.message or _phrase(status)
    failure = _make(kind, f"{provider} answered {status}: {reason}", status, headers)
    if isinstance(failure, ProviderError) and failure.retry_after is None:
        failure.retry_after = _delay_in(body) or _delay_of_limits(headers)
    failure.body = body[:_LONGEST_BODY].decode("utf-8", "replace")
    return failure


def error_in_place_of_stream(
    provider: str, content_type: str, headers: Mapping[str, str], body: bytes
) -> RxLLMError:
    """Return the error for a response with status 200 that isn't an event stream.

    Args:
        provider: the provider's name, for the message.
        content_type: the media type of the body.
        headers: the response headers, with names in lower case.
        body: the body or its beginning. If it holds an error as JSON, that error is returned.
    """
    text = body.decode("utf-8", "replace")
    try:
        error = error_in_json(json.loads(text))
    except (ValueError, RecursionError):
        error = error_in_text(text) if is_plain_error(text) else None
    if error is not None and error.message is not None:
        return error_in_stream(provider, error, headers)
    said = " ".join(text.split()) if text.lstrip()[:1] not in "<{[" else ""
    return MalformedStreamError(
        f"{provider} answered with {content_type} instead of an event stream"
        + (f": {said[:_SHORT]}" if said else "")
    )


def error_in_stream(provider: str, error: ErrorObject, headers: Mapping[str, str]) -> RxLLMError:
    """Return the error for an error event inside a stream, after the status 200."""
    kind = _by_name(error, _BY_TYPE)
    code = str(error.code)
    status = int(code) if code.isdecimal() and len(code) == _STATUS_DIGITS else None
    if kind is None and status is not None:
        kind = _by_status(status)
    reason = error.message or error.type or error.code or "no reason given"
    message = f"{provider} reported an error in the stream: {reason}"
    return _make(kind or ServerError, message, status, headers)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, from `retry-after-ms` or `retry-after` (seconds or a date)."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        then = _timestamp(headers["retry-after"])
    except (KeyError, ValueError, OverflowError):
        return None
    try:
        now = _timestamp(headers["date"])
    except (KeyError, ValueError, OverflowError):
        now = time.time()
    return max(0.0, then - now)


def _delay_in(body: bytes) -> float | None:
    """Return the seconds in Google's `RetryInfo`."""
    found = _RETRY_DELAY.search(body)
    return float(found[1]) if found else None


def _delay_of_limits(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until a limit that is used up is reset."""
    limits = rate_limits_in(headers)
    known = (limits.requests, limits.tokens) if limits is not None else ()
    used_up = [each.reset for each in known if each is not None and each.remaining == 0]
    return max((seconds for seconds in used_up if seconds is not None), default=None)


def _timestamp(date: str) -> float:
    moment = parsedate_to_datetime(date)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _read(body: bytes) -> ErrorObject | None:
    """Return the error in a body: JSON of any form, or a short plain text."""
    text = body.decode("utf-8", "replace").strip()
    is_page = text.startswith("<")
    return None if is_page or len(text) > _LONGEST_BODY else error_in_text(text)


def _by_name(error: ErrorObject, table: Mapping[str, type[RxLLMError]]) -> type[RxLLMError] | None:
    kind = table.get(str(error.code)) or table.get(str(error.type))
    if kind is None and error.metadata is not None and error.metadata.reasons:
        return ContentFilteredError
    return kind


def _by_status(status: int) -> type[RxLLMError]:
    return _BY_STATUS.get(status) or (ServerError if status >= 500 else ProviderError)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _make(
    kind: type[RxLLMError], message: str, status: int | None, headers: Mapping[str, str]
) -> RxLLMError:
    if len(message) > _LONGEST_MESSAGE:
        # Cut between words: a key in it is either complete, so it can be redacted, or absent.
        message = message[:_LONGEST_MESSAGE].rpartition(" ")[0] + " ..."
    request_id = next((headers[name] for name in _REQUEST_IDS if name in headers), None)
    if issubclass(kind, ProviderError):
        return kind(message, status=status, request_id=request_id, retry_after=retry_after(headers))
    failure = kind(message)
    failure.status, failure.request_id = status, request_id
    return failure
