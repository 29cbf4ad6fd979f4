"""What the providers' APIs have in common: protocols and helpers for requests and responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from rxllm.chunks import Chunk, ErrorInfo, Notice
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import FilePart, ImagePart
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.sse import ServerSentEvent
from rxllm.requests import SAMPLING_OPTIONS, Request

__all__ = [
    "Reader",
    "Wire",
    "check_options",
    "unsupported",
]

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
    "verbosity",
)
"""The options that a provider supports if they are in its `option_names`."""


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


def unsupported(part: Mapping[str, Any]) -> Notice:
    """Return the notice of output that no chunk can carry."""
    kind = part.get("type")
    message = f"the model sent output of the type {kind!r}, which isn't supported"
    return Notice("unsupported", skipped=1, error=ErrorInfo("UnsupportedOutput", message))


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
