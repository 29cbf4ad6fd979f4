"""What the APIs of providers have in common: how a request is written and an answer is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from rxllm.chunks import Chunk, ErrorInfo, Notice
from rxllm.errors import BadRequestError, MalformedStreamError
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.sse import ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.requests import Request

__all__ = ["JsonDecoder", "Reader", "TextJoiner", "Wire", "check_options"]

_T = TypeVar("_T")

_MALFORMED_IN_A_ROW: Final = 3
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class Reader(Protocol):
    """Reads one answer. `is_done` is True once its end marker has come.

    Text is passed on as it is: nothing depends on what it says, only on whether there is any. A
    reader is `Comparable` and can be deep-copied; one that isn't is never asked for a template (see
    `BodyReader`).
    """

    is_done: bool

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        """Append what `event` says to `chunks`.

        Raises:
            RxLLMError: it tells of an error, or the third event in a row can't be read.
        """
        ...

    def end(self, chunks: list[Chunk]) -> None:
        """The body has ended. Append what is still to be said.

        Raises:
            StreamError: the answer had not.
        """
        ...


class Wire(Protocol):
    """One API. It knows no connection."""

    path: str
    """Where requests go to, behind the base URL."""

    def headers(self, key: str | None) -> dict[str, str]:
        """The headers that carry the key."""
        ...

    def body(self, request: Request, model: str, provider: Provider) -> dict[str, Any]:
        """The body of a request, to be written as JSON.

        Raises:
            BadRequestError: the request asks for what the API can't do.
        """
        ...

    def reader(
        self, model: str, provider: Provider, headers: Mapping[str, str], strict: bool
    ) -> Reader:
        """A reader for the answer whose response has these headers."""
        ...


class JsonDecoder(Comparable, Generic[_T]):
    """Decodes the JSON of events, and says what becomes of those that are malformed.

    Args:
        decoder: of one event, shared by all readers.
        strict: the first malformed event is an error; else the third in a row.
    """

    def __init__(self, decoder: msgspec.json.Decoder[_T], strict: bool) -> None:
        self._kind = decoder.type
        self._decode = decoder.decode
        self._allowed = 0 if strict else _MALFORMED_IN_A_ROW - 1
        self._in_a_row = 0

    def decode(self, data: str) -> _T | Notice:
        """The event, or a notice that it was skipped.

        A surrogate escape without its pair is no malformed JSON here: the pair may be in the next
        event.

        Raises:
            MalformedStreamError: it is one too many.
        """
        try:
            decoded = self._decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            if not _ESCAPED_SURROGATE.search(data):
                return self._skip(error)
            try:
                decoded = msgspec.convert(json.loads(data), self._kind)
            except (ValueError, RecursionError):
                return self._skip(error)
        self._in_a_row = 0
        return decoded

    def _skip(self, error: Exception) -> Notice:
        self._in_a_row += 1
        if self._in_a_row > self._allowed:
            raise MalformedStreamError(f"events of the stream can't be read: {error}") from error
        return Notice("malformed", skipped=1, error=ErrorInfo.of(error))


class TextJoiner(Comparable):
    """Joins a surrogate at the end of one delta with its pair at the beginning of the next."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be passed on now. A surrogate that finds no pair is U+FFFD.

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
        """What is left at the end."""
        held, self._held = self._held, ""
        return "\ufffd" if held else ""


def check_options(request: Request, provider: Provider) -> None:
    """Check that the provider has the options that were asked for.

    Raises:
        BadRequestError: it doesn't.
    """
    for option in ("seed", "top_k", "min_p", "repeat_penalty"):
        if getattr(request, option) is not None and option not in provider.sampling:
            raise BadRequestError(
                f"{provider.name} has no option {option}: leave it out, or give it in `extra` "
                "under the server's own name"
            )
    if request.confidence and not provider.logprobs:
        raise BadRequestError(f"{provider.name} does not tell the probabilities of tokens")
    if request.messages[-1].role == "assistant" and not provider.prefill:
        raise BadRequestError(f"{provider.name} can't go on from a beginning of the answer")
    if "stream" in request.extra:
        raise BadRequestError("every answer is streamed: `stream` can't be in extra")
