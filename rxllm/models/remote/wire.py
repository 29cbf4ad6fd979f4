"""What the providers' APIs have in common: protocols and helpers for requests and responses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from rxllm.chunks import Chunk, ErrorInfo, Notice
from rxllm.errors import BadRequestError, MalformedStreamError, RxLLMError, UnsupportedError
from rxllm.messages import FilePart, ImagePart
from rxllm.models.remote.failures import error_in_stream
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.reported_error import (
    ErrorObject,
    error_in_json,
    error_in_text,
    is_plain_error,
)
from rxllm.models.remote.sse import ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.requests import SAMPLING_OPTIONS, Request

__all__ = [
    "JsonDecoder",
    "Reader",
    "TextJoiner",
    "Wire",
    "check_options",
    "is_done_marker",
    "is_heartbeat",
    "unsupported",
]

_T = TypeVar("_T")

_OPTIONAL: Final = (
    "seed",
    "top_k",
    "min_p",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "parallel_tool_calls",
    "reasoning",
)
"""The options that a provider supports if they are in its `option_names`."""

_MALFORMED_IN_A_ROW: Final = 3
_SHOWN: Final = 200
_PINGS: Final = ("ping", "pong", "heartbeat", "keepalive", "keep-alive")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Reader(Protocol):
    """Reads one response. `is_done` is True once its end marker has arrived.

    Text is passed on unchanged: nothing may depend on its content, only on whether it is empty. A
    reader is `Comparable` and can be deep-copied; no templates are used for one that isn't (see
    `BodyReader`).
    """

    is_done: bool

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        """Append the chunks of `event` to `chunks`.

        Raises:
            RxLLMError: the event reports an error, or is the third malformed event in a row.
        """
        ...

    def end(self, chunks: list[Chunk]) -> None:
        """Append the final chunks at the end of the body.

        Raises:
            StreamError: the response was incomplete.
        """
        ...


class Wire(Protocol):
    """One API, without any I/O."""

    media_type: str
    """Of the responses: server-sent events, or `application/x-ndjson`."""

    def path(self, model: str) -> str:
        """Return the path of requests, appended to the base URL."""
        ...

    def body(self, request: Request, model: str, provider: Provider) -> dict[str, Any]:
        """Return the body of a request, to be encoded as JSON.

        Raises:
            BadRequestError: the request asks for something that the API doesn't support.
        """
        ...

    def count_request(
        self, request: Request, model: str, provider: Provider
    ) -> tuple[str, dict[str, Any]] | None:
        """Return the path and the body to count a prompt's tokens; `None` if the API can't.

        Raises:
            BadRequestError: the request asks for something that the API doesn't support.
        """
        ...

    def events_of(self, answer: Any) -> list[Any] | None:
        """Return the events that stand for an answer that a server sent as a whole.

        Args:
            answer: the decoded JSON of its body.

        Returns:
            Events to be encoded as JSON, or `None` if `answer` is no answer of this API.
        """
        ...

    def reader(
        self,
        request: Request,
        model: str,
        provider: Provider,
        headers: Mapping[str, str],
        strict: bool,
    ) -> Reader:
        """Return a reader for the response to `request`, which has these headers."""
        ...


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


def unsupported(part: Mapping[str, Any]) -> Notice:
    """Return the notice of output that no chunk can carry."""
    kind = part.get("type")
    message = f"the model sent output of the type {kind!r}, which isn't supported"
    return Notice("unsupported", skipped=1, error=ErrorInfo("UnsupportedOutput", message))


class TextJoiner(Comparable):
    """Joins a high surrogate at the end of a delta with the low one at the start of the next."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return the text to pass on now. A surrogate without its pair becomes U+FFFD.

        >>> joiner = TextJoiner()
        >>> joiner.feed("a \\ud83e"), joiner.feed("\\udd8a!")
        ('a ', '🦊!')
        """
        if not self._held and (text.isascii() or not _SURROGATE.search(text)):
            return text
        text = self._held + text
        self._held = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        text = text.removesuffix(self._held)
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def flush(self) -> str:
        """Return U+FFFD if a surrogate is still waiting for its pair."""
        held, self._held = self._held, ""
        return "\ufffd" if held else ""


def check_options(request: Request, model: str, provider: Provider) -> None:
    """Check that the model supports the request.

    Args:
        request: the request.
        model: the provider's name for the model.
        provider: the provider, with what is known about the model.

    Raises:
        UnsupportedError: it doesn't.
        BadRequestError: `extra` contains `stream`.
    """
    for option in _OPTIONAL:
        if option == "reasoning" and request.reasoning == "none" and not provider.reasoning:
            continue  # there is nothing to turn off
        if getattr(request, option) is not None and option not in provider.option_names:
            raise UnsupportedError(
                f"{provider.name} doesn't support {option}: omit it, or pass it in `extra` under "
                "the server's own name",
                option,
            )
    if (request.confidence or request.top_logprobs is not None) and not provider.logprobs:
        field = "confidence" if request.confidence else "top_logprobs"
        raise UnsupportedError(f"{provider.name} doesn't report token probabilities", field)
    for ability, field, what in _asked(request):
        if not getattr(provider, ability):
            raise UnsupportedError(f"{provider.name}/{model} doesn't support {what}", field)
    if "stream" in request.extra:
        raise BadRequestError("extra must not contain `stream`: every answer is streamed")


def _asked(request: Request) -> Iterator[tuple[str, str, str]]:
    """Yield each ability that the request needs, the field that needs it, and words for it."""
    for option in SAMPLING_OPTIONS:
        if getattr(request, option) is not None:
            yield "sampling", option, f"{option}: omit it"
    if request.tools:
        yield "tools", "tools", "tools"
    if isinstance(request.response_format, dict):
        yield "json_schema", "response_format", "a JSON Schema as response_format"
    if request.messages[-1].role == "assistant":
        yield "prefill", "messages", "continuing a last assistant message"
    parts = [part for message in request.messages for part in message.parts]
    if any(isinstance(part, ImagePart) for part in parts):
        yield "images", "messages", "images"
    if any(isinstance(part, FilePart) for part in parts):
        yield "files", "messages", "files"
    if request.reasoning not in (None, "none"):
        yield "reasoning", "reasoning", "reasoning"
