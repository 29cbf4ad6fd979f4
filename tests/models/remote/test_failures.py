"""Failures of providers, mapped by status and code, and their `retry_after`."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest

from rxllm.errors import (
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ContentFilteredError,
    ContextLengthError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    RxLLMError,
    ServerError,
)
from rxllm.models.remote.failures import error_of_response, retry_after


def error(status: int, body: Any = b"", **headers: str) -> RxLLMError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return error_of_response("openai", status, named, data)


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (302, ProviderError, False),
        (400, BadRequestError, False),
        (401, AuthenticationError, False),
        (402, PermissionDeniedError, False),
        (403, PermissionDeniedError, False),
        (404, ModelNotFoundError, False),
        (408, RequestTimeoutError, True),
        (409, ConflictError, True),
        (413, ContextLengthError, False),
        (418, ProviderError, False),
        (422, BadRequestError, False),
        (429, RateLimitError, True),
        (500, ServerError, True),
        (502, ServerError, True),
        (503, OverloadedError, True),
        (529, OverloadedError, True),
        (599, ServerError, True),
    ],
)
def test_408_409_429_and_5xx_are_retried_and_400_401_403_404_are_not(
    status: int, kind: type[Exception], retryable: bool
) -> None:
    failure = error(status)
    assert type(failure) is kind
    assert getattr(failure, "retryable", None) is retryable
    assert str(status) in str(failure)
    if isinstance(failure, ProviderError):
        assert failure.status == status


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "context_length_exceeded", ContextLengthError),
        (400, "content_filter", ContentFilteredError),
        (400, "content_policy_violation", ContentFilteredError),
        (429, "insufficient_quota", PermissionDeniedError),
        (400, "model_not_found", ModelNotFoundError),
        (400, "invalid_api_key", AuthenticationError),
        (429, "something_new", RateLimitError),
    ],
)
@pytest.mark.parametrize("field", ["code", "type"])
def test_a_code_takes_precedence_over_the_status(
    status: int, code: str, kind: type[Exception], field: str
) -> None:
    failure = error(status, {"error": {"message": "why", field: code}})
    assert type(failure) is kind
    assert str(failure) == f"openai answered {status}: why"


def test_flagged_input_is_filtered_content() -> None:
    flagged = {"code": 403, "message": "flagged", "metadata": {"reasons": ["violence"]}}
    assert type(error(403, {"error": flagged})) is ContentFilteredError


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "why", "type": "x"}},
        {"type": "error", "error": {"type": "x", "message": "why"}, "request_id": "r"},
        {"error": "why"},
        {"object": "error", "message": "why", "code": 500},
        {"detail": "why"},
    ],
)
def test_known_forms_of_error_bodies(body: Any) -> None:
    assert str(error(500, body)) == "openai answered 500: why"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"3", b'{"error": null}', b'{"error": 3}'])
def test_without_a_readable_body_the_message_names_the_status(body: bytes) -> None:
    assert str(error(500, body)) == "openai answered 500: Internal Server Error"


def test_a_body_in_another_encoding_keeps_the_class_and_retry_after() -> None:
    latin = '{"error": {"message": "f\xfcr heute"}}'.encode("latin-1")
    failure = error(429, latin, retry_after="1")
    assert isinstance(failure, RateLimitError)
    assert failure.retry_after == 1.0


def test_every_class_keeps_status_request_id_and_body() -> None:
    failure = error(400, {"error": "why"}, x_request_id="r1")
    assert type(failure) is BadRequestError
    assert (failure.status, failure.request_id, failure.body) == (400, "r1", '{"error":"why"}')


def test_a_long_message_is_cut_between_words() -> None:
    message = str(error(500, {"error": "x " * 238 + "sk-a-very-long-secret and more"}))
    assert message.endswith("x ...")
    assert "sk-a" not in message


@pytest.mark.parametrize(
    "date", ["Wed, 21 Oct 99999999999 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 +99999999999999"]
)
def test_an_invalid_date_gives_no_retry_after(date: str) -> None:
    assert retry_after({"retry-after": date}) is None


def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    headers = {"retry-after": "Wed Oct 21 07:28:30 2015", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    waited = retry_after(headers)
    monkeypatch.undo()
    time.tzset()
    assert waited == 30.0


def test_a_very_long_message_is_cut() -> None:
    assert len(str(error(500, {"error": "x" * 100_000}))) < 600


@pytest.mark.parametrize("name", ["x_request_id", "request_id", "x_generation_id"])
def test_the_request_id_is_read_from_known_headers(name: str) -> None:
    failure = error(500, **{name: "r1"})
    assert isinstance(failure, ProviderError)
    assert failure.request_id == "r1"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30.0,
        ),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_counts_from_now_if_the_response_has_no_date() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3500 < (retry_after({"retry-after": then}) or 0) <= 3600


def test_overloaded_servers_send_retry_after_too() -> None:
    failure = error(503, retry_after="7")
    assert isinstance(failure, OverloadedError)
    assert failure.retry_after == 7.0


def test_the_delay_may_be_in_the_body_or_in_the_rate_limits() -> None:
    body = b'{"error": {"code": 429, "details": [{"@type": "RetryInfo", "retryDelay": "13s"}]}}'
    error = error_of_response("gemini", 429, {}, body)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 13.0
    limits = {
        "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "7s",
        "x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "60s",
    }  # fmt: skip
    error = error_of_response("openai", 429, limits, b"{}")
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 7.0
