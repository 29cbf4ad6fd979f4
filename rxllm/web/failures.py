"""Failures as reported to clients: a code, a message, an HTTP status."""

from __future__ import annotations

import re
from typing import Final

from rxllm import errors
from rxllm.errors import RxLLMError, classify_error
from rxllm.web.stream_messages import StreamFailed

__all__ = [
    "DrainingError",
    "InvalidMessageError",
    "RefusedError",
    "RoomElsewhereError",
    "StreamNotFoundError",
    "TooLargeError",
    "code_of",
    "failure_message",
    "status_of",
    "status_of_message",
]


class TooLargeError(errors.BadRequestError):
    """The request exceeds a limit of the server. `field` names the part that is too long."""


class InvalidMessageError(errors.BadRequestError):
    """The body or message isn't valid JSON, or doesn't match the schema."""


class RefusedError(RxLLMError):
    """The server refuses this client or this request."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status: int | None = status


class StreamNotFoundError(RxLLMError, KeyError):
    """There is no stream with this id, or it is no longer kept."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError would return the repr


class RoomElsewhereError(RxLLMError):
    """Another server has the room: `address` is the address of that server."""

    def __init__(self, message: str, address: str) -> None:
        super().__init__(message)
        self.address = address


class DrainingError(RxLLMError):
    """The server is shutting down and accepts no new streams."""


_STATUS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (TooLargeError, 413),
    (errors.BadRequestError, 400),
    (errors.ContextLengthError, 400),
    (errors.ContentFilteredError, 400),
    (errors.ModelNotFoundError, 404),
    (errors.ModelLoadError, 503),
    (errors.ModelCrashedError, 503),
    (errors.RateLimitError, 429),
    (errors.PoolFullError, 429),
    (errors.BudgetSpentError, 402),
    (errors.OverloadedError, 503),
    (errors.CircuitOpenError, 503),
    (errors.StoreUnavailableError, 503),
    (DrainingError, 503),
    (StreamNotFoundError, 404),
    (errors.StreamTimeoutError, 504),
    (errors.StreamStateError, 409),
    (RoomElsewhereError, 421),
    (errors.LaggedBehindError, 408),
    # A provider rejected the server's key, or failed: not the client's fault.
    (errors.ProviderError, 502),
    (errors.StreamError, 502),
    (errors.QualityError, 502),
    (errors.InvalidAnswerError, 502),
    (errors.AllModelsFailedError, 502),
)


def status_of(error: BaseException) -> int:
    """Return the HTTP status for `error`; 500 if it isn't an error of rxllm."""
    if isinstance(error, RefusedError) and error.status is not None:
        return error.status
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 500


def status_of_message(message: StreamFailed) -> int:
    """Return the HTTP status for an error message.

    >>> status_of_message(StreamFailed(code="rate_limit", message="slow down"))
    429
    """
    return _STATUS_OF_CODE.get(message.code, 500)


def _statuses() -> dict[str, int]:
    named = [getattr(errors, name) for name in errors.__all__] + [TooLargeError, DrainingError]
    kinds = [it for it in named if isinstance(it, type) and issubclass(it, Exception)]
    blank = [kind.__new__(kind) for kind in kinds]
    return {code_of(error): status_of(error) for error in blank}


def code_of(error: BaseException) -> str:
    """Return the code of an error: its class name, or `"internal"` if it isn't one of rxllm's.

    >>> from rxllm.errors import RateLimitError
    >>> code_of(RateLimitError("slow down")), code_of(ValueError("a bug"))
    ('rate_limit', 'internal')
    """
    if not isinstance(error, RxLLMError):
        return "internal"
    if isinstance(error, RefusedError):
        return error.code
    name = type(error).__name__.removesuffix("Error")
    return "failed" if name == "RxLLM" else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


_MAY_PASS: Final = (errors.PoolFullError, errors.CircuitOpenError, DrainingError)
"""Errors after which a client may retry, although a pipeline in this process should not."""


def failure_message(
    error: BaseException,
    stream_id: str | None = None,
    *,
    position: int | None = None,
    partial: str = "",
) -> StreamFailed:
    """Return the message that reports an error to a client.

    Messages of foreign exceptions are never sent to clients: they may contain anything.

    Args:
        error: the error to report.
        stream_id, position: stream and position of the event that reports it.
        partial: the text received before the failure, used if the error doesn't hold it.

    >>> failure_message(ValueError("no such table: passwords")).message
    'internal server error'
    """
    is_ours = isinstance(error, RxLLMError)
    may_pass = classify_error(error) == "retry" or isinstance(error, _MAY_PASS)
    return StreamFailed(
        id=stream_id,
        code=code_of(error),
        message=str(error) if is_ours else "internal server error",
        field=getattr(error, "field", None),
        retryable=may_pass or (isinstance(error, RefusedError) and error.status in (429, 503)),
        partial=(getattr(error, "partial", "") if is_ours else "") or partial or None,
        position=position,
        retry_after=getattr(error, "retry_after", None),
        address=error.address if isinstance(error, RoomElsewhereError) else None,
    )


_STATUS_OF_CODE: Final = _statuses()
