"""Failures of providers, mapped to the errors of `rxllm.errors`: by status and code, never by text.

Sources: https://platform.openai.com/docs/guides/error-codes,
https://docs.anthropic.com/en/api/errors, https://openrouter.ai/docs/api/reference/errors-and-debugging,
https://console.groq.com/docs/errors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import msgspec

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

__all__ = [
    "ErrorObject",
    "error_in_place_of_stream",
    "error_in_stream",
    "error_of_response",
    "retry_after",
]

_BY_STATUS: Final[dict[int, type[RxLLMError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PermissionDeniedError,  # nothing left to pay with
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

# Codes that say more than the status beside them.
_BY_CODE: Final[dict[str, type[RxLLMError]]] = {
    "content_filter": ContentFilteredError,
    "content_policy_violation": ContentFilteredError,
    "moderation_blocked": ContentFilteredError,
    "context_length_exceeded": ContextLengthError,
    "exceed_context_size_error": ContextLengthError,
    "request_too_large": ContextLengthError,
    "insufficient_quota": PermissionDeniedError,  # a 429 that no waiting helps
    "billing_hard_limit_reached": PermissionDeniedError,
    "billing_not_active": PermissionDeniedError,
    "billing_error": PermissionDeniedError,
    "invalid_api_key": AuthenticationError,
    "model_not_found": ModelNotFoundError,
    "model_decommissioned": ModelNotFoundError,
}

# What an error inside of a stream, that has no status, may be.
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
_LONGEST_MESSAGE: Final = 500
_LONGEST_BODY: Final = 10_000


class _Metadata(msgspec.Struct):
    reasons: list[Any] | None = None


class ErrorObject(msgspec.Struct):
    """The `error` of a body or of an event, in the forms of OpenAI, Anthropic and OpenRouter."""

    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    metadata: _Metadata | None = None


class _ErrorBody(msgspec.Struct):
    error: ErrorObject | str | None = None
    message: str | None = None
    detail: Any = None
    type: str | None = None
    code: str | int | None = None

    def as_object(self) -> ErrorObject:
        if isinstance(self.error, ErrorObject):
            return self.error
        detail = None if self.detail is None else str(self.detail)
        return ErrorObject(self.error or self.message or detail, self.type, self.code)


def error_of_response(
    provider: str, status: int, headers: Mapping[str, str], body: bytes
) -> RxLLMError:
    """The error that a response with `status` is.

    Args:
        provider: its name, for the message.
        status: the HTTP status code.
        headers: of the response, looked up in lower case.
        body: what there is of it; JSON in any of the known forms says more.
    """
    told = _read(body)
    kind = _by_name(told, _BY_CODE) or _by_status(status)
    said = told.message or _phrase(status)
    failure = _make(kind, f"{provider} answered {status}: {said}", status, headers)
    failure.body = body[:_LONGEST_BODY].decode("utf-8", "replace")
    return failure


def error_in_place_of_stream(
    provider: str, content_type: str, headers: Mapping[str, str], body: bytes
) -> RxLLMError:
    """The error that a response with the status 200 is, that is no stream of events.

    Args:
        provider: its name, for the message.
        content_type: of the body.
        headers: of the response, looked up in lower case.
        body: what there is of it. If it tells of an error in JSON, that is the error.
    """
    told = _read(body)
    if told.message is not None:
        return error_in_stream(provider, told, headers)
    return MalformedStreamError(
        f"{provider} answered with {content_type}, and not with a stream of events"
    )


def error_in_stream(provider: str, told: ErrorObject, headers: Mapping[str, str]) -> RxLLMError:
    """The error that was told inside of a stream, after the status 200."""
    kind = _by_name(told, _BY_TYPE)
    status = int(str(told.code)) if str(told.code).isdecimal() else None
    if kind is None and status is not None:
        kind = _by_status(status)
    said = told.message or told.type or told.code or "no reason given"
    message = f"{provider} told of an error in its answer: {said}"
    return _make(kind or ServerError, message, status, headers)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How long to wait in seconds, from `retry-after-ms` or `retry-after` (seconds or a date)."""
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


def _timestamp(date: str) -> float:
    moment = parsedate_to_datetime(date)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _read(body: bytes) -> ErrorObject:
    try:
        return msgspec.json.decode(body, type=_ErrorBody).as_object()
    except (ValueError, RecursionError):  # no JSON, or no UTF-8
        return ErrorObject()


def _by_name(told: ErrorObject, table: Mapping[str, type[RxLLMError]]) -> type[RxLLMError] | None:
    kind = table.get(str(told.code)) or table.get(str(told.type))
    if kind is None and told.metadata is not None and told.metadata.reasons:
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
        # Between words, so that a key in it is there as a whole, to be found, or not at all.
        message = message[:_LONGEST_MESSAGE].rpartition(" ")[0] + " ..."
    request_id = next((headers[name] for name in _REQUEST_IDS if name in headers), None)
    if issubclass(kind, ProviderError):
        return kind(message, status=status, request_id=request_id, retry_after=retry_after(headers))
    failure = kind(message)
    failure.status, failure.request_id = status, request_id
    return failure
