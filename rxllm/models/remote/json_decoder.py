"""Decodes the JSON of events, and tells what isn't any."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from rxllm.chunks import ErrorInfo, Notice
from rxllm.errors import MalformedStreamError, RxLLMError
from rxllm.models.remote.failures import error_in_stream
from rxllm.models.remote.reported_error import (
    ErrorObject,
    error_in_json,
    error_in_text,
    is_plain_error,
)
from rxllm.models.remote.state import Comparable

__all__ = ["JsonDecoder", "is_done_marker", "is_heartbeat"]

_T = TypeVar("_T")

_MALFORMED_IN_A_ROW: Final = 3
_SHOWN: Final = 200
_PINGS: Final = ("ping", "pong", "heartbeat", "keepalive", "keep-alive")


class JsonDecoder(Comparable, Generic[_T]):
    """Decodes the JSON of events, and skips or rejects malformed events.

    Args:
        decoder: decodes one event; shared by all readers.
        strict: True to reject the first malformed event, else the third in a row.
        coerce: reads an event whose fields have other types; raises a `ValueError` if it can't.
        provider: the provider's name, for messages.
        headers: the response headers, for errors.

    Attributes:
        has_skipped: whether any event was skipped.
        skipped: the beginning of the last one, or an empty text.
    """

    def __init__(
        self,
        decoder: msgspec.json.Decoder[_T],
        strict: bool,
        coerce: Callable[[Any], _T],
        provider: str,
        headers: Mapping[str, str],
    ) -> None:
        self.has_skipped: bool = False
        self.skipped: str = ""
        self._provider = provider
        self._headers = headers
        self._coerce = coerce
        self._decode = decoder.decode
        self._allowed = 0 if strict else _MALFORMED_IN_A_ROW - 1
        self._in_a_row = 0

    def decode(self, data: str) -> _T | Notice:
        """Return the event, or a notice that it was skipped.

        A lone surrogate escape isn't malformed here: its pair may be in the next event.

        Raises:
            RxLLMError: the event isn't of the expected form, but reports an error.
            MalformedStreamError: the event is malformed, and can't be skipped any more.
        """
        try:
            decoded = self._decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            try:
                value = json.loads(data)
            except (ValueError, RecursionError):
                if is_plain_error(data):
                    raise self.failure(error_in_text(data)) from None
                return self._skip(error, data)
            if isinstance(value, str) and is_plain_error(value):
                raise self.failure(error_in_text(value)) from None
            try:
                decoded = self._coerce(value)
            except (ValueError, RecursionError):
                if (reported := error_in_json(value)) is not None:
                    raise self.failure(reported) from None
                return self._skip(error, data)
        self._in_a_row = 0
        return decoded

    def failure(self, error: ErrorObject) -> RxLLMError:
        """Return the exception for an error that the provider has reported."""
        return error_in_stream(self._provider, error, self._headers)

    def doubt(self, data: str) -> None:
        """Note an event that says nothing known: without a finish reason, the end isn't clean."""
        self.has_skipped = True
        self.skipped = data[:_SHOWN]

    def _skip(self, error: Exception, data: str) -> Notice:
        self.doubt(data)
        self._in_a_row += 1
        if self._in_a_row > self._allowed:
            raise MalformedStreamError(f"malformed events in the stream: {error}") from error
        return Notice("malformed", skipped=1, error=ErrorInfo.of(error))


def is_heartbeat(data: str) -> bool:
    """Return True for the data of an event that says nothing: blank, or a comment.

    >>> is_heartbeat(" "), is_heartbeat(": OPENROUTER PROCESSING"), is_heartbeat("ping")
    (True, True, True)
    >>> is_heartbeat("{}")
    False
    """
    text = data.lstrip()
    return not text or text.startswith(":") or text.rstrip().lower() in _PINGS


def is_done_marker(data: str) -> bool:
    """Return True for `[DONE]`, which ends the streams of many APIs."""
    return "[DONE]" in data[:16] and data.strip() == "[DONE]"
