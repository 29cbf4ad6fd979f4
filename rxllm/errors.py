"""Exceptions, and how recovery handles each of them.

::

    RxLLMError
    ├── BadRequestError              also a ValueError: the request is invalid for any model
    │   └── UnsupportedError         ... for this model: another one may support it
    ├── NoEventLoopError             also a RuntimeError: no event loop is running
    ├── ModelError
    │   ├── ModelNotFoundError       no model of that name
    │   ├── ModelLoadError           a local model's file is missing, of the wrong kind, or broken
    │   └── ModelCrashedError        the process of a local model ended; the next stream starts it
    ├── ProviderError                a remote model returned an error (status, request_id,
    │   │                            retry_after)
    │   ├── AuthenticationError      401
    │   ├── PermissionDeniedError    403
    │   ├── RequestTimeoutError      408
    │   ├── ConflictError            409
    │   ├── RateLimitError           429
    │   ├── ServerError              5xx
    │   └── OverloadedError          503, 529, or an error within the stream
    ├── ContextLengthError           the prompt is too long for the model's context
    ├── ContentFilteredError         refused by a content filter
    ├── StreamError
    │   ├── ConnectionFailedError    refused, reset, or no route
    │   │   └── NodeLostError        the server that ran the stream has died
    │   ├── CertificateError         the server's certificate can't be trusted
    │   ├── TruncatedStreamError     ended without its end marker
    │   ├── AbortedStreamError       given up by the provider
    │   ├── MalformedStreamError     can't be parsed
    │   ├── EmptyStreamError         ended without any content
    │   └── RestartedStreamError     restarted where output can't be taken back
    ├── StreamTimeoutError           also a TimeoutError
    │   ├── ConnectTimeoutError
    │   ├── FirstTokenTimeoutError
    │   ├── StallTimeoutError        too long between two tokens
    │   └── TotalTimeoutError
    ├── PoolFullError                no slot came free in time
    ├── StoreUnavailableError        the store that processes share can't be reached
    ├── BudgetSpentError             the client has spent what it may spend
    ├── CircuitOpenError             the model has failed too often recently
    ├── QualityError                 the answer failed a condition of quality_gate
    ├── InvalidAnswerError           the answer isn't of the type that was asked for (path)
    ├── LaggedBehindError            a subscriber was too slow and was evicted
    ├── StreamCancelledError         the task behind a stream was cancelled, not by its subscriber
    ├── StreamStateError             also a RuntimeError: started twice, paused after its end, ...
    └── AllModelsFailedError         every model was tried and failed (errors: one per model)

Every error holds the text received before the failure in `partial`, if known, and the underlying
exception in `__cause__`.
"""

from __future__ import annotations

import copy
import errno
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias, TypeVar

__all__ = [
    "AbortedStreamError",
    "AllModelsFailedError",
    "AuthenticationError",
    "BadRequestError",
    "BudgetSpentError",
    "CertificateError",
    "CircuitOpenError",
    "ConflictError",
    "ConnectTimeoutError",
    "ConnectionFailedError",
    "ContentFilteredError",
    "ContextLengthError",
    "EmptyStreamError",
    "ErrorAction",
    "FirstTokenTimeoutError",
    "InvalidAnswerError",
    "LaggedBehindError",
    "MalformedStreamError",
    "ModelCrashedError",
    "ModelError",
    "ModelLoadError",
    "ModelNotFoundError",
    "NoEventLoopError",
    "NodeLostError",
    "OverloadedError",
    "PermissionDeniedError",
    "PoolFullError",
    "ProviderError",
    "QualityError",
    "RateLimitError",
    "RequestTimeoutError",
    "RestartedStreamError",
    "RxLLMError",
    "ServerError",
    "StallTimeoutError",
    "StoreUnavailableError",
    "StreamCancelledError",
    "StreamError",
    "StreamStateError",
    "StreamTimeoutError",
    "TotalTimeoutError",
    "TruncatedStreamError",
    "UnsupportedError",
    "classify_error",
    "separate_error",
    "write_partial",
]

_Error = TypeVar("_Error", bound=Exception)

ErrorAction: TypeAlias = Literal["retry", "fallback", "raise"]


class RxLLMError(Exception):
    """Base class of all errors of a model stream.

    Attributes:
        partial: the text that the subscriber has already received (`""` if none, or not known).
        messages: of a run of an agent, the conversation without the answer that failed: ask the
            agent with it, and the run continues.
        status: the HTTP status code, if a remote model returned an error.
        request_id: the provider's id for the request, to quote to its support.
        body: the beginning of the provider's response body.
    """

    partial: str = ""
    messages: tuple[Any, ...] = ()
    status: int | None = None
    request_id: str | None = None
    body: str = ""

    @property
    def retryable(self) -> bool:
        """Whether asking the same model again may help: `classify_error(error) == "retry"`."""
        return classify_error(self) == "retry"


class BadRequestError(RxLLMError, ValueError):
    """The request is invalid, whichever model it is sent to.

    Attributes:
        field: the invalid field of the `Request` (`"max_tokens"`), if it is a single one.
    """

    field: str | None = None

    def __init__(self, message: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnsupportedError(BadRequestError):
    """This model can't do what the request asks for; nothing was sent. Another model may."""


class NoEventLoopError(RxLLMError, RuntimeError):
    """A stream needs a running event loop, but none is running."""


class ModelError(RxLLMError):
    """A model is unavailable; another one may be available."""


class ModelNotFoundError(ModelError):
    """There is no model of this name."""


class ModelLoadError(ModelError):
    """A local model can't be loaded: its file is missing, of the wrong kind, or broken."""


class ModelCrashedError(ModelError):
    """The process of a local model has ended. The next stream starts it again."""


class ProviderError(RxLLMError):
    """A remote model returned an error.

    Args:
        message: the provider's error message.
        status: the HTTP status code.
        request_id: the provider's id for the request, to quote to its support.
        retry_after: seconds to wait before asking again, if the provider says so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after


class AuthenticationError(ProviderError):
    """The API key is invalid (401)."""


class PermissionDeniedError(ProviderError):
    """The API key is valid but does not permit this request (403)."""


class RequestTimeoutError(ProviderError):
    """The provider timed out waiting (408)."""


class ConflictError(ProviderError):
    """The request conflicts with another one (409)."""


class RateLimitError(ProviderError):
    """Too many requests or tokens (429)."""


class ServerError(ProviderError):
    """The provider failed (5xx)."""


class OverloadedError(ServerError):
    """The provider is overloaded (503, 529, or an error within the stream)."""


class ContextLengthError(RxLLMError):
    """The prompt, or the prompt plus the requested output, exceeds the model's context."""


class ContentFilteredError(RxLLMError):
    """The request or the answer was refused by a content filter."""


class StreamError(RxLLMError):
    """The stream itself failed."""


class ConnectionFailedError(StreamError):
    """The connection was refused, reset, or never established."""


class NodeLostError(ConnectionFailedError):
    """The server that ran the stream has died, or can't be reached."""


class CertificateError(StreamError):
    """The server's certificate can't be trusted. A retry would fail the same way."""


class TruncatedStreamError(StreamError):
    """The stream ended without its end marker."""


class MalformedStreamError(StreamError):
    """The stream's data can't be parsed."""


class AbortedStreamError(StreamError):
    """The provider gave up the answer, and said so in its finish reason."""


class EmptyStreamError(StreamError):
    """The stream ended without any content."""


class RestartedStreamError(StreamError):
    """The stream restarted after text had gone where it can't be taken back."""


class StreamTimeoutError(RxLLMError, TimeoutError):
    """A time limit was exceeded. Asking a silent model again would only multiply the wait."""


class ConnectTimeoutError(StreamTimeoutError):
    """Connecting took too long."""


class FirstTokenTimeoutError(StreamTimeoutError):
    """The first token took too long."""


class StallTimeoutError(StreamTimeoutError):
    """The time between two tokens was too long."""


class TotalTimeoutError(StreamTimeoutError):
    """The whole stream took too long."""


class PoolFullError(RxLLMError):
    """No slot became free in time."""


class StoreUnavailableError(RxLLMError):
    """The store that several processes share can't be reached, or has not answered in time."""

    retry_after: float | None = 1.0


class BudgetSpentError(RxLLMError):
    """The client has spent what it may spend; nothing was sent."""


class CircuitOpenError(RxLLMError):
    """The model failed too often recently and isn't asked for a while.

    Its `__cause__` is the last of these failures, if known.
    """


class QualityError(RxLLMError):
    """The answer is too slow, repeats itself, or fails another quality condition."""


class InvalidAnswerError(RxLLMError):
    """The answer isn't JSON of the type given as `response_format`; its text is in `partial`.

    Attributes:
        path: the place of the wrong value, such as `"$.cats[0].age"`; `None` if the answer isn't
            valid JSON.
    """

    path: str | None = None

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class LaggedBehindError(RxLLMError):
    """A subscriber was too slow and was evicted."""


class StreamCancelledError(RxLLMError):
    """The task behind a stream was cancelled by something other than its subscriber."""


class StreamStateError(RxLLMError, RuntimeError):
    """The operation isn't allowed in the stream's current state."""


class AllModelsFailedError(RxLLMError):
    """Every model was tried and failed. `errors` holds one error per model, in order."""

    def __init__(self, message: str, errors: Sequence[Exception]) -> None:
        super().__init__(message)
        self.errors: tuple[Exception, ...] = tuple(errors)


_RETRY: Final = (
    RequestTimeoutError,
    ConflictError,
    RateLimitError,
    ServerError,
    ConnectionFailedError,
    TruncatedStreamError,
    AbortedStreamError,
    MalformedStreamError,
    EmptyStreamError,
    ModelCrashedError,
    StoreUnavailableError,
    ConnectionError,
)
_FALLBACK: Final = (
    UnsupportedError,
    ModelError,
    CertificateError,
    AuthenticationError,
    PermissionDeniedError,
    ContextLengthError,
    ConnectTimeoutError,
    FirstTokenTimeoutError,
    StallTimeoutError,
    CircuitOpenError,
    QualityError,
    PoolFullError,
    AllModelsFailedError,
)


def classify_error(error: BaseException) -> ErrorAction:
    """Return what should follow `error`: a retry, a fallback to another model, or neither.

    - `"retry"`: connections refused, reset or lost, or that the system has timed out; 408, 409, 429
      and 5xx; overload; an empty, truncated, aborted or malformed stream; a shared store that can't
      be reached.
    - `"fallback"`: a request that this model doesn't support; timeouts of the connection, of the
      first token and between tokens; a context that is too small; a model that can't be found,
      loaded or used with this key; a certificate that can't be trusted; an open circuit; a full
      pool; an answer that fails a quality condition; `AllModelsFailedError`.
    - `"raise"`: a bad request, filtered content, the total time limit, a budget that is spent, a
      subscriber that lagged behind, cancellation, and any unknown error.

    >>> classify_error(RateLimitError("slow down", retry_after=2.0))
    'retry'
    >>> classify_error(ConnectionResetError())
    'retry'
    >>> classify_error(ValueError())
    'raise'
    """
    if isinstance(error, _RETRY) or getattr(error, "errno", None) == errno.ETIMEDOUT:
        return "retry"
    if isinstance(error, _FALLBACK):
        return "fallback"
    is_foreign_timeout = isinstance(error, TimeoutError) and not isinstance(error, RxLLMError)
    return "fallback" if is_foreign_timeout else "raise"


def separate_error(error: _Error) -> _Error:
    """Return a copy of `error` for another stream that fails for the same reason.

    Each stream stores in its error what its own subscriber has received (`partial`, notes): an
    error shared by two streams would show one client the text of the other.
    """
    if type(error).__module__ == "builtins":
        copied = copy.copy(error)  # some keep state that only their `__init__` can set
    else:  # another `__init__` may take something other than `args`
        copied = type(error).__new__(type(error), *error.args)
        copied.args = error.args
        copied.__dict__.update(error.__dict__)
    if notes := getattr(error, "__notes__", None):
        copied.__notes__ = list(notes)
    copied.__cause__, copied.__context__ = error.__cause__, error.__context__
    copied.__suppress_context__ = error.__suppress_context__
    copied.__traceback__ = error.__traceback__
    write_partial(copied, "")
    return copied


def write_partial(error: Exception, text: str) -> None:
    """Store the text that was passed on in `error.partial`.

    An exception that doesn't allow it, or already uses the name for something other than a string
    (as `asyncio.IncompleteReadError` does), stays unchanged.
    """
    with suppress(Exception):
        known = getattr(error, "partial", "")
        if isinstance(known, str) and known != text:
            error.partial = text  # type: ignore[attr-defined]
