"""What goes wrong, as an HTTP status and as a `Failed` message."""

from __future__ import annotations

import asyncio
import math
import re
from typing import Final, TypeVar

import msgspec
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from rxllm import errors
from rxllm.errors import RxLLMError
from rxllm.server.limits import Limits
from rxllm.server.messages import Failed
from rxllm.sinks._encoding import to_json
from rxllm.sinks._stream_messages import code_of
from rxllm.sinks._stream_messages import failed as _failed

__all__ = [
    "DrainingError",
    "InvalidMessageError",
    "RefusedError",
    "StreamNotFoundError",
    "TooLargeError",
    "decoded",
    "failed",
    "invalid",
    "json_response",
    "read_body",
    "refusal",
    "refuse",
    "retry_headers",
    "status_of",
    "status_of_message",
]


_T = TypeVar("_T")


class TooLargeError(errors.BadRequestError):
    """A request is above a limit of the server. `field` is what is too long."""


class InvalidMessageError(errors.BadRequestError):
    """A body or a message is no JSON, or not of the form that is asked for."""


class RefusedError(RxLLMError):
    """The server does not serve this client, or not in this way."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class StreamNotFoundError(RxLLMError, KeyError):
    """There is no stream of this id, or not any more."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # that of KeyError is the repr


class DrainingError(RxLLMError):
    """The server is being shut down, and takes no new streams."""


_STATUS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (TooLargeError, 413),
    (errors.BadRequestError, 400),
    (errors.ContextLengthError, 400),
    (errors.ContentFilteredError, 400),
    (errors.ModelNotFoundError, 404),
    (errors.ModelLoadError, 503),
    (errors.RateLimitError, 429),
    (errors.PoolFullError, 429),
    (errors.OverloadedError, 503),
    (errors.CircuitOpenError, 503),
    (DrainingError, 503),
    (StreamNotFoundError, 404),
    (errors.StreamTimeoutError, 504),
    (errors.StreamStateError, 409),
    (errors.LaggedBehindError, 408),
    # A provider that refuses the key of the server, or fails: not this client's doing.
    (errors.ProviderError, 502),
    (errors.StreamError, 502),
    (errors.QualityError, 502),
    (errors.AllModelsFailedError, 502),
)
_RETRY_AFTER: Final = {429: 1.0, 503: 5.0}


def status_of(error: BaseException) -> int:
    """The HTTP status for `error`: 500 for what is no error of `rxllm`."""
    if isinstance(error, RefusedError) and error.status is not None:
        return error.status
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 500


def status_of_message(message: Failed) -> int:
    """The HTTP status for an error that comes as a message.

    >>> status_of_message(Failed(code="rate_limit", message="slow down"))
    429
    """
    return _STATUS_OF_CODE.get(message.code, 500)


def _statuses() -> dict[str, int]:
    named = [getattr(errors, name) for name in errors.__all__] + [TooLargeError, DrainingError]
    kinds = [it for it in named if isinstance(it, type) and issubclass(it, Exception)]
    blank = [kind.__new__(kind) for kind in kinds]
    return {code_of(error): status_of(error) for error in blank}


_STATUS_OF_CODE: Final = _statuses()


def failed(
    error: BaseException, stream_id: str | None = None, *, position: int | None = None
) -> Failed:
    """`error` as a message. Of what is no `RxLLMError` nothing is told: it may hold anything."""
    message = _failed(error, stream_id, position)
    if isinstance(error, RefusedError):
        message.code = error.code
    message.field = getattr(error, "field", None)
    message.retryable = message.retryable or status_of(error) in _RETRY_AFTER
    return message


def refuse(error: BaseException, stream_id: str | None = None) -> web.Response:
    """The answer to a request that fails before its first byte: a status, and `Failed` as JSON."""
    return refusal(failed(error, stream_id), status_of(error))


def refusal(message: Failed, status: int) -> web.Response:
    """`message` with a status; with 429 and 503 goes a `Retry-After`, in whole seconds: that of
    the provider where it gave one."""
    return json_response(message, status, retry_headers(message, status))


def retry_headers(message: Failed, status: int) -> dict[str, str]:
    """`Retry-After`, where it makes sense."""
    wait = message.retry_after or _RETRY_AFTER.get(status)
    if wait is None or not math.isfinite(wait):
        return {}
    return {"Retry-After": str(max(0, math.ceil(wait)))}


def json_response(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """`value` as JSON, that nobody keeps."""
    return web.Response(
        body=to_json(value),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


async def read_body(request: web.Request, limits: Limits) -> bytes:
    """The body of a request. It is counted here: the `client_max_size` of aiohttp is that of the
    outermost application, which may not be ours.

    Raises:
        TooLargeError: it is longer than `limits.body_bytes`.
        InvalidMessageError: its encoding is broken, or it did not come whole.
        RefusedError: it did not come in time (408).
    """
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
            "request_timeout", f"the body did not come within {limits.body_seconds:g} s", 408
        ) from None
    except web.HTTPRequestEntityTooLarge:  # of a middleware that replaces the request
        raise _too_large(limits) from None
    except (web.RequestPayloadError, ClientError, HttpProcessingError) as error:
        request.content.feed_eof()  # or aiohttp reads on after the answer, and logs the same error
        request.protocol.close()
        raise InvalidMessageError(f"the body can't be read: {error}", "body") from None
    except ConnectionError:
        raise InvalidMessageError("the body did not come whole", "body") from None
    if len(data) > limits.body_bytes:
        raise _too_large(limits)
    return data


def _too_large(limits: Limits) -> TooLargeError:
    return TooLargeError(f"a body has {limits.body_bytes} bytes at most", "body")


def decoded(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T:
    """A body as what it has to be.

    Raises:
        InvalidMessageError: it is something else.
    """
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise invalid(error) from None
    except RecursionError:
        raise InvalidMessageError("this is nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidMessageError("this is no JSON: it is not in UTF-8") from None


_PATH: Final = re.compile(r" - at `(?:key in )?\$\.?(.*?)`$")
_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `(\w+)`")


def invalid(error: msgspec.DecodeError) -> InvalidMessageError:
    """What msgspec says of a message that can't be read, with the field that is wrong."""
    text = str(error)
    where = _PATH.search(text)
    path = [where[1]] if where is not None and where[1] else []
    for pattern in (_MISSING, _UNKNOWN_FIELD):
        named = pattern.search(text)
        path += [named[1]] if named is not None else []
    message = text if isinstance(error, msgspec.ValidationError) else f"this is no JSON: {text}"
    return InvalidMessageError(message, ".".join(path) or None)
