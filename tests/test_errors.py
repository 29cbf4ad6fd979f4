"""The tree of errors, and the classification of each."""

from __future__ import annotations

import errno
import inspect
import re

import pytest

from rxllm import errors
from rxllm.errors import RxLLMError, classify_error

RETRY = {
    "RequestTimeoutError", "ConflictError", "RateLimitError", "ServerError", "OverloadedError",
    "StreamError", "ConnectionFailedError", "TruncatedStreamError", "AbortedStreamError",
    "MalformedStreamError",
    "EmptyStreamError", "ModelCrashedError", "StoreUnavailableError",
    "NodeLostError",
} - {"StreamError"}  # fmt: skip
FALLBACK = {
    "AllModelsFailedError",
    "ModelError", "ModelNotFoundError", "ModelLoadError", "AuthenticationError",
    "PermissionDeniedError", "ContextLengthError", "ConnectTimeoutError", "FirstTokenTimeoutError",
    "StallTimeoutError", "CircuitOpenError", "PoolFullError", "CertificateError",
    "QualityError", "UnsupportedError",
}  # fmt: skip


def make(name: str) -> RxLLMError:
    kind = getattr(errors, name)
    return kind("why", [LookupError()]) if name == "AllModelsFailedError" else kind("why")  # type: ignore[no-any-return]


CLASSES = [
    name
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, RxLLMError)
]


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_is_classified(name: str) -> None:
    error = make(name)
    expected = "retry" if name in RETRY else "fallback" if name in FALLBACK else "raise"
    assert classify_error(error) == expected
    assert error.retryable == (expected == "retry")
    assert error.partial == ""
    assert str(error) == "why"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), "retry"),
        (ConnectionResetError(), "retry"),
        (BrokenPipeError(), "retry"),
        (OSError(errno.ETIMEDOUT, "Connection timed out"), "retry"),
        (TimeoutError(), "fallback"),
        (ValueError(), "raise"),
        (FileNotFoundError(), "raise"),
        (KeyboardInterrupt(), "raise"),
    ],
)
def test_connections_that_are_reset_refused_or_timed_out_are_retried(
    error: BaseException, expected: str
) -> None:
    assert classify_error(error) == expected


def test_every_class_is_in_the_docstrings_tree_and_in_all() -> None:
    drawn = errors.__doc__ or ""
    for name in CLASSES:
        assert re.search(rf"(^|─ ){name}\b", drawn.replace("    RxLLM", "RxLLM"), re.MULTILINE)
        assert name in errors.__all__


def test_builtin_bases_are_kept() -> None:
    assert isinstance(errors.BadRequestError("x"), ValueError)
    assert isinstance(errors.StallTimeoutError("x"), TimeoutError)
    assert isinstance(errors.NoEventLoopError("x"), RuntimeError)


def test_errors_carry_the_providers_details() -> None:
    error = errors.RateLimitError("slow down", retry_after=2.5, status=429, request_id="r1")
    assert (error.retry_after, error.status, error.request_id) == (2.5, 429, "r1")
    assert errors.AllModelsFailedError("all", [error]).errors == (error,)
