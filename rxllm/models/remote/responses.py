"""Responses of OpenAI's Responses API.

Source: https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from rxllm.chunks import Chunk, End, Notice, Start
from rxllm.errors import EmptyStreamError, TruncatedStreamError
from rxllm.models.remote.coercion import as_float, as_object, as_objects, as_optional_text
from rxllm.models.remote.history import Target
from rxllm.models.remote.json_decoder import JsonDecoder, is_done_marker, is_heartbeat
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.reported_error import error_in_text
from rxllm.models.remote.responses_end import end_in, error_in_event, is_incomplete
from rxllm.models.remote.responses_output import OutputReader
from rxllm.models.remote.responses_request import responses_body
from rxllm.models.remote.responses_types import Event, coerced_event, usage_in
from rxllm.models.remote.sse import ERROR_EVENTS, EVENT_STREAM, ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.requests import Request

__all__ = ["ResponsesReader", "ResponsesWire"]

_decoder: Final = msgspec.json.Decoder(Event)
_BEGINNINGS: Final = ("response.created", "response.in_progress", "response.queued")
_LAST: Final = ("response.completed", "response.incomplete", "response.done")


class ResponsesWire:
    """The Responses API."""

    media_type = EVENT_STREAM

    def path(self, model: str) -> str:
        """Return the path of requests."""
        return "/responses"

    def body(self, request: Request, model: str, provider: Provider) -> dict[str, Any]:
        """Return the body of a request."""
        return responses_body(request, model, provider)

    def count_request(
        self, request: Request, model: str, provider: Provider
    ) -> tuple[str, dict[str, Any]] | None:
        """Return the path and the body of a request that counts tokens, of OpenAI itself."""
        if provider.name != "openai":
            return None
        body = responses_body(request, model, provider)
        counted = ("model", "input", "tools", "tool_choice", "text", "reasoning")
        return "/responses/input_tokens", {name: body[name] for name in counted if name in body}

    def events_of(self, answer: Any) -> list[Any] | None:
        """Return the events of a response that wasn't streamed."""
        response = as_object(answer)
        if response.get("object") != "response":
            return None
        items = enumerate(as_objects(response.get("output")))
        begun = {name: response.get(name) for name in ("id", "model", "created_at")}
        done = "response.output_item.done"
        return [
            {"type": "response.created", "response": begun},
            *({"type": done, "output_index": index, "item": item} for index, item in items),
            {"type": "response.completed", "response": response},
        ]

    def reader(
        self,
        request: Request,
        model: str,
        provider: Provider,
        headers: Mapping[str, str],
        strict: bool,
    ) -> ResponsesReader:
        """Return a reader for one response."""
        return ResponsesReader(
            Target(provider.name, model),
            headers,
            strict,
            with_logprobs=request.top_logprobs is not None,
            max_tokens=request.max_tokens,
        )


class ResponsesReader(Comparable):
    """Reads one response.

    - The first event of the answer emits `Start`. Events of unknown types are ignored.
    - Reasoning (its summary, or its text) ends with the whole item as its state. So does an item of
      a tool that the provider runs itself, and an image is also a `FileOutput`.
    - A `ToolCall` is emitted each time its arguments grow, and once more, complete, at its end. A
      call that was cut off is not complete.
    - A refusal is emitted as text, and the stream ends with `"content_filter"`.
    - Parts, items and the last event repeat what was streamed before: of them, only what is new is
      emitted.
    - The end marker is `response.completed`, `.incomplete` or `.failed`.
    """

    def __init__(
        self,
        target: Target,
        headers: Mapping[str, str],
        strict: bool,
        *,
        with_logprobs: bool = False,
        max_tokens: int | None = None,
    ) -> None:
        self.is_done: bool = False
        self._target = target
        self._max_tokens = max_tokens
        self._decoder = JsonDecoder(_decoder, strict, coerced_event, target.provider, headers)
        self._output = OutputReader(target, with_logprobs=with_logprobs)
        self._has_begun = False

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        """Append the chunks of `event` to `chunks`; see `Reader`."""
        data = event.data
        if event.type in ERROR_EVENTS:
            raise self._decoder.failure(error_in_text(data))
        if is_heartbeat(data):
            return
        if is_done_marker(data):
            self.end(chunks)
        decoded = self._decoder.decode(data)
        if isinstance(decoded, Notice):
            chunks.append(decoded)
            return
        is_output = self._output.knows(decoded.type)
        error = None
        if not is_output or decoded.error:
            error = error_in_event(decoded, data)
        if is_output or (decoded.type in (*_BEGINNINGS, *_LAST) and error is None):
            self._begin(decoded, chunks)
        if is_output:
            self._output.read(decoded, chunks)
        if error is not None:
            raise self._decoder.failure(error)
        if decoded.type in _LAST:
            self._finish(decoded, chunks)

    def end(self, chunks: list[Chunk]) -> None:
        """Raise, because the body has ended before the end marker; see `Reader`."""
        if not self._has_begun:
            raise EmptyStreamError(f"{self._target.provider} sent a response without any content")
        raise TruncatedStreamError(f"the response of {self._target.provider} ended early")

    def _begin(self, event: Event, chunks: list[Chunk]) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        response = as_object(event.response)
        name = as_optional_text(response.get("model")) or self._target.model
        chunks.append(
            Start(
                as_optional_text(response.get("id") or event.response_id) or "",
                f"{self._target.provider}/{name}",
                self._target.provider,
                as_float(response.get("created_at")),
            )
        )

    def _finish(self, event: Event, chunks: list[Chunk]) -> None:
        self.is_done = True
        response = as_object(event.response)
        is_cut = is_incomplete(event)
        self._output.finish(as_objects(response.get("output")), chunks, is_cut=is_cut)
        if usage := as_object(response.get("usage")):
            chunks.append(usage_in(usage))
        end = end_in(event, self._target.provider, self._max_tokens)
        if self._output.is_refused:
            end = End("content_filter")
        chunks.append(end or End("tool_calls" if self._output.call_count else "stop"))
