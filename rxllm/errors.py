"""What can go wrong, and what follows a failure.

::

    RxLLMError
    ├── BadRequestError              also a ValueError: what was asked can't be right
    ├── NoEventLoopError             also a RuntimeError: there is no running event loop
    ├── ModelError
    │   ├── ModelNotFoundError       no such model
    │   └── ModelLoadError           a local model's file is missing, of the wrong kind, or broken
    ├── ProviderError                a remote model answered with an error (status, request_id,
    │   │                            retry_after)
    │   ├── AuthenticationError      401
    │   ├── PermissionDeniedError    403
    │   ├── RequestTimeoutError      408
    │   ├── ConflictError            409
    │   ├── RateLimitError           429
    │   ├── ServerError              5xx
    │   └── OverloadedError          503, 529, or said in the stream
    ├── ContextLengthError           the prompt does not fit into the model's context
    ├── ContentFilteredError         refused for its content
    ├── StreamError
    │   ├── ConnectionFailedError    refused, reset, or no route
    │   ├── CertificateError         the server can't prove who it is
    │   ├── TruncatedStreamError     it ended without its end marker
    │   ├── MalformedStreamError     what came can't be read
    │   ├── EmptyStreamError         it ended without any content
    │   └── RestartedStreamError     it began again, where that can't be told
    ├── StreamTimeoutError           also a TimeoutError
    │   ├── ConnectTimeoutError
    │   ├── FirstTokenTimeoutError
    │   ├── StallTimeoutError        too long between two tokens
    │   └── TotalTimeoutError
    ├── PoolFullError                no slot came free in time
    ├── CircuitOpenError             the model has failed too often recently
    ├── QualityError                 the answer is no good: a condition of quality_gate says so
    ├── LaggedBehindError            a subscriber was too slow, and was put out
    ├── StreamCancelledError         the task behind a stream was cancelled by somebody else
    ├── StreamStateError             also a RuntimeError: started twice, paused after its end, ...
    └── AllModelsFailedError         every model was tried (errors: one for each)

Every error keeps what the stream had said before it failed in `partial`, where that is known, and
the exception behind it in `__cause__`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Literal, TypeAlias, TypeVar

__all__ = [
    "AllModelsFailedError",
    "AuthenticationError",
    "BadRequestError",
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
    "LaggedBehindError",
    "MalformedStreamError",
    "ModelError",
    "ModelLoadError",
    "ModelNotFoundError",
    "NoEventLoopError",
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
    "StreamCancelledError",
    "StreamError",
    "StreamStateError",
    "StreamTimeoutError",
    "TotalTimeoutError",
    "TruncatedStreamError",
    "classify_error",
    "separate_error",
    "write_partial",
]

_Error = TypeVar("_Error", bound=Exception)

ErrorAction: TypeAlias = Literal["retry", "fallback", "raise"]


class RxLLMError(Exception):
    """Anything that goes wrong in a model stream.

    Attributes:
        partial: the text that the subscriber has already seen (`""`: none, or not known).
        status: the HTTP status code, where a remote model answered with an error.
        request_id: the provider's name for the request, for its support.
        body: the beginning of what it answered.
    """

    partial: str = ""
    status: int | None = None
    request_id: str | None = None
    body: str = ""

    @property
    def retryable(self) -> bool:
        """True if asking the same model again may help: `classify_error(error) == "retry"`."""
        return classify_error(self) == "retry"


class BadRequestError(RxLLMError, ValueError):
    """What was asked for can't be right, whichever model is asked.

    Attributes:
        field: the field of the `Request` that can't be (`"max_tokens"`), where it is one.
    """

    field: str | None = None

    def __init__(self, message: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NoEventLoopError(RxLLMError, RuntimeError):
    """A stream needs a running event loop, and there is none."""


class ModelError(RxLLMError):
    """A model can't be had; another one may be."""


class ModelNotFoundError(ModelError):
    """There is no model of this name."""


class ModelLoadError(ModelError):
    """A local model can't be loaded: its file is missing, of the wrong kind, or broken."""


class ProviderError(RxLLMError):
    """A remote model answered with an error.

    Args:
        message: what the provider said.
        status: the HTTP status code.
        request_id: the provider's name for the request, for its support.
        retry_after: how long to wait before asking again, in seconds, where the provider says so.
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
    """The key is wrong (401)."""


class PermissionDeniedError(ProviderError):
    """The key is right, and does not allow this (403)."""


class RequestTimeoutError(ProviderError):
    """The provider gave up waiting (408)."""


class ConflictError(ProviderError):
    """The request collided with another one (409)."""


class RateLimitError(ProviderError):
    """Too many requests or tokens (429)."""


class ServerError(ProviderError):
    """The provider failed (5xx)."""


class OverloadedError(ServerError):
    """The provider has too much to do (503, 529, or an error inside of the stream)."""


class ContextLengthError(RxLLMError):
    """The prompt, or the prompt and the asked output, don't fit into the model's context."""


class ContentFilteredError(RxLLMError):
    """The request or the answer was refused for its content."""


class StreamError(RxLLMError):
    """A stream broke."""


class ConnectionFailedError(StreamError):
    """The connection was refused, reset, or never made."""


class CertificateError(StreamError):
    """The server's certificate can't be trusted. Asked again, it will be the same."""


class TruncatedStreamError(StreamError):
    """The stream ended without its end marker."""


class MalformedStreamError(StreamError):
    """What came through the stream can't be read."""


class EmptyStreamError(StreamError):
    """The stream ended without any content."""


class RestartedStreamError(StreamError):
    """The stream began again after text had been passed on to where a restart can't be told."""


class StreamTimeoutError(RxLLMError, TimeoutError):
    """A time limit was passed. A silent route asked again only multiplies the wait."""


class ConnectTimeoutError(StreamTimeoutError):
    """The connection took too long."""


class FirstTokenTimeoutError(StreamTimeoutError):
    """The first token took too long."""


class StallTimeoutError(StreamTimeoutError):
    """The time between two tokens was too long."""


class TotalTimeoutError(StreamTimeoutError):
    """The whole stream took too long."""


class PoolFullError(RxLLMError):
    """No slot came free in time."""


class CircuitOpenError(RxLLMError):
    """The model failed too often recently, and is not asked for a while.

    Its `__cause__` is the last of these failures, where that is known.
    """


class QualityError(RxLLMError):
    """The answer is too slow, repeats itself, or is no good by another condition."""


class LaggedBehindError(RxLLMError):
    """A subscriber was too slow, and was put out."""


class StreamCancelledError(RxLLMError):
    """The task behind a stream was cancelled by somebody other than its subscriber."""


class StreamStateError(RxLLMError, RuntimeError):
    """A running stream was asked for something that its state does not allow."""


class AllModelsFailedError(RxLLMError):
    """Every model was tried, and failed. `errors` holds one error for each, in their order."""

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
    MalformedStreamError,
    EmptyStreamError,
    ConnectionError,
)
_FALLBACK: Final = (
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
    """What should follow `error`: a retry, a fallback to another model, or neither.

    - `"retry"`: connections refused, reset or cut; 408, 409, 429 and 5xx; overloaded; an empty,
      truncated or unreadable stream.
    - `"fallback"`: time-outs to connect, to the first token and between tokens; a context that is
      too small; a model that can't be found, loaded or used with this key; a certificate that can't
      be trusted; an open circuit, a full pool; an answer that is no good; models that have all
      failed.
    - `"raise"`: a bad request, filtered content, the total time limit, a subscriber that lagged
      behind, cancellation, and anything that is not known.

    >>> classify_error(RateLimitError("slow down", retry_after=2.0))
    'retry'
    >>> classify_error(ConnectionResetError())
    'retry'
    >>> classify_error(ValueError())
    'raise'
    """
    if isinstance(error, _RETRY):
        return "retry"
    if isinstance(error, _FALLBACK):
        return "fallback"
    is_foreign_timeout = isinstance(error, TimeoutError) and not isinstance(error, RxLLMError)
    return "fallback" if is_foreign_timeout else "raise"


def separate_error(error: _Error) -> _Error:
    """A copy of `error` for another stream that fails for the same reason.

    Each stream writes into its error what its own subscriber has seen (`partial`, notes): an
    object that two streams share would show one client the text of the other.
    """
    if type(error).__module__ == "builtins":
        copied = copy.copy(error)  # some keep their state where only their `__init__` can put it
    else:  # another `__init__` may take something else than `args`
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
    """Write the text that was passed on into `error.partial`.

    An exception that can't take it, or has something other than a text there (as
    `asyncio.IncompleteReadError` has), stays as it is.
    """
    with suppress(Exception):
        known = getattr(error, "partial", "")
        if isinstance(known, str) and known != text:
            error.partial = text  # type: ignore[attr-defined]
