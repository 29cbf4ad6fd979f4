"""Responses of OpenAI's Responses API.

Source: https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from rxllm.chunks import (
    Chunk,
    End,
    FileOutput,
    Notice,
    Reasoning,
    Start,
    Token,
    ToolCall,
)
from rxllm.errors import AbortedStreamError, EmptyStreamError, TruncatedStreamError
from rxllm.models.remote.coercion import (
    as_arguments,
    as_float,
    as_int,
    as_object,
    as_objects,
    as_optional_text,
    as_text,
    is_json,
)
from rxllm.models.remote.finish_reasons import end_of
from rxllm.models.remote.history import Target
from rxllm.models.remote.logprobs import logprobs_in, token_of
from rxllm.models.remote.openai_output import citations_in
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.reported_error import error_in_json, error_in_text
from rxllm.models.remote.responses_request import responses_body
from rxllm.models.remote.responses_types import Event, coerced_event, usage_in
from rxllm.models.remote.sse import ERROR_EVENTS, EVENT_STREAM, ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.wire import JsonDecoder, TextJoiner, is_done_marker, is_heartbeat
from rxllm.requests import Request

__all__ = ["ResponsesReader", "ResponsesWire"]

_REASONS: Final = {"max_output_tokens": "length"}
_decoder: Final = msgspec.json.Decoder(Event)
_BEGINNINGS: Final = ("response.created", "response.in_progress", "response.queued")
_TERMINAL: Final = ("response.completed", "response.incomplete", "response.done")


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
        status = response.get("status")
        last = "response.failed" if status == "failed" else "response.completed"
        return [
            {"type": "response.created", "response": response},
            *(event for index, item in items for event in _events_of_item(index, item)),
            {"type": last, "response": response},
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
        target = Target(provider.name, model)
        with_logprobs = request.top_logprobs is not None
        return ResponsesReader(target, headers, strict, with_logprobs=with_logprobs)


def _events_of_item(index: int, item: dict[str, Any]) -> list[Any]:
    place = {"output_index": index}
    events: list[Any] = [{"type": "response.output_item.added", "item": item, **place}]
    for part in as_objects(item.get("content")):
        kind = {"refusal": "refusal", "reasoning_text": "reasoning_text"}.get(
            str(part.get("type")), "output_text"
        )
        delta = part.get("refusal") or part.get("text")
        logprobs = part.get("logprobs")
        events.append({"type": f"response.{kind}.delta", "delta": delta, "logprobs": logprobs})
        events += [
            {"type": "response.output_text.annotation.added", "annotation": annotation}
            for annotation in as_objects(part.get("annotations"))
        ]
    for number, part in enumerate(as_objects(item.get("summary"))):
        paragraph = "response.reasoning_summary_part.added"
        events.append({"type": paragraph, "summary_index": number})
        text = "response.reasoning_summary_text.delta"
        events.append({"type": text, "delta": part.get("text")})
    return [*events, {"type": "response.output_item.done", "item": item, **place}]


class ResponsesReader(Comparable):
    """Reads one response.

    - `response.created` emits `Start`. Events of unknown types are ignored.
    - Reasoning (its summary, or its text) ends with the whole item as its state. So does an item of
      a tool that the provider runs itself, and an image is also a `FileOutput`.
    - A `ToolCall` is emitted each time its arguments grow, and once more, complete, at its end.
    - A refusal is emitted as text, and the stream ends with `"content_filter"`.
    - The end marker is `response.completed`, `.incomplete` or `.failed`.
    """

    def __init__(
        self,
        target: Target,
        headers: Mapping[str, str],
        strict: bool,
        *,
        with_logprobs: bool = False,
    ) -> None:
        self.is_done: bool = False
        self._target = target
        self._with_logprobs = with_logprobs
        self._decoder = JsonDecoder(_decoder, strict, coerced_event, target.provider, headers)
        self._text = TextJoiner()
        self._reasoning = TextJoiner()
        self._arguments = TextJoiner()
        self._calls: dict[int, ToolCall] = {}  # of the open items
        self._call_count = 0
        self._has_begun = False
        self._has_output = False
        self._has_text = False  # in the open part
        self._has_message = False
        self._is_refused = False

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        """Append the chunks of `event` to `chunks`; see `Reader`."""
        data = event.data
        if is_heartbeat(data):
            return
        if is_done_marker(data):
            self.end(chunks)
        if event.type in ERROR_EVENTS and not data.lstrip().startswith("{"):
            raise self._decoder.failure(error_in_text(data))
        decoded = self._decoder.decode(data)
        if isinstance(decoded, Notice):
            chunks.append(decoded)
            return
        read = self._readers.get(decoded.type)
        if read is not None:
            self._has_output = self._has_output or decoded.type not in _BEGINNINGS
            read(self, decoded, chunks)
        elif decoded.type in _TERMINAL:
            self._finish(decoded, chunks)
        elif decoded.error or decoded.code or not decoded.type.startswith("response."):
            error = error_in_json(json.loads(data))
            if error is not None:
                raise self._decoder.failure(error)

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
                as_optional_text(response.get("id")) or "",
                f"{self._target.provider}/{name}",
                self._target.provider,
                as_float(response.get("created_at")),
            )
        )

    def _read_text(self, event: Event, chunks: list[Chunk]) -> None:
        if text := self._text.feed(as_text(event.delta)):
            self._has_text = True
            chunks.append(self._token(text, event.logprobs))

    def _end_text(self, event: Event, chunks: list[Chunk]) -> None:
        """Read a text that came without deltas."""
        if not self._has_text and (text := self._text.feed(as_text(event.text))):
            chunks.append(self._token(text, event.logprobs))
        if text := self._text.flush():
            chunks.append(Token(text))
        self._has_text = False

    def _token(self, text: str, logprobs: Any) -> Token:
        return token_of(text, logprobs_in(logprobs), is_asked=self._with_logprobs)

    def _refuse(self, event: Event, chunks: list[Chunk]) -> None:
        self._is_refused = True
        self._read_text(event, chunks)

    def _end_refusal(self, event: Event, chunks: list[Chunk]) -> None:
        self._is_refused = True
        self._end_text(msgspec.structs.replace(event, text=event.refusal), chunks)

    def _read_reasoning(self, event: Event, chunks: list[Chunk]) -> None:
        if text := self._reasoning.feed(as_text(event.delta)):
            chunks.append(Reasoning(text))

    def _separate(self, event: Event, chunks: list[Chunk]) -> None:
        """Separate the paragraphs of a summary."""
        if as_int(event.summary_index):
            chunks.append(Reasoning("\n\n"))

    def _cite(self, event: Event, chunks: list[Chunk]) -> None:
        chunks.extend(citations_in(event.annotation))

    def _open(self, event: Event, chunks: list[Chunk]) -> None:
        item = as_object(event.item)
        kind = item.get("type")
        if kind == "message" and self._has_message:
            chunks.append(Token("", state=self._target.state({"message": {}})))
        self._has_message = kind == "message"
        if kind == "function_call":
            call = ToolCall(
                as_optional_text(item.get("call_id") or item.get("id")) or "",
                as_optional_text(item.get("name")) or "",
                as_arguments(item.get("arguments")) or "",
                self._call_count,
            )
            self._call_count += 1
            self._calls[as_int(event.output_index) or 0] = call
            chunks.append(call)

    def _read_arguments(self, event: Event, chunks: list[Chunk]) -> None:
        index = as_int(event.output_index) or 0
        if (call := self._calls.get(index)) is not None:
            arguments = call.arguments + self._arguments.feed(as_text(event.delta))
            self._calls[index] = call = msgspec.structs.replace(call, arguments=arguments)
            chunks.append(call)

    def _end_arguments(self, event: Event, chunks: list[Chunk]) -> None:
        item = {"arguments": event.arguments} if event.arguments else {}
        self._close_call(as_int(event.output_index) or 0, item, chunks)

    def _close(self, event: Event, chunks: list[Chunk]) -> None:
        item = as_object(event.item)
        kind = item.get("type")
        if thought := self._reasoning.flush():
            chunks.append(Reasoning(thought))
        if kind == "function_call":
            self._close_call(as_int(event.output_index) or 0, item, chunks)
        elif kind == "message":
            if item.get("phase"):
                state = self._target.state({"message": {"phase": item["phase"]}})
                chunks.append(Token("", state=state))
                self._has_message = False  # the state is a border already
        elif kind is not None:
            if kind == "image_generation_call" and item.get("result"):
                media_type = f"image/{item.get('output_format') or 'png'}"
                chunks.append(FileOutput(media_type, as_text(item["result"])))
            if kind == "reasoning":
                item = {n: v for n, v in item.items() if n != "status" and v is not None}
            chunks.append(Reasoning("", self._target.state({"item": item})))

    def _close_call(self, index: int, item: dict[str, Any], chunks: list[Chunk]) -> None:
        call = self._calls.pop(index, None)
        if call is None:
            return
        given = as_arguments(item.get("arguments"))
        arguments = given or (call.arguments + self._arguments.flush()) or "{}"
        is_complete = is_json(arguments)
        chunks.append(msgspec.structs.replace(call, arguments=arguments, complete=is_complete))

    def _finish(self, event: Event, chunks: list[Chunk]) -> None:
        self.is_done = True
        self._begin(event, chunks)
        response = as_object(event.response)
        if not self._has_output:
            self._read_items(response, chunks)
        for index in tuple(self._calls):  # what a server left open
            self._close_call(index, {}, chunks)
        if text := self._text.flush():
            chunks.append(Token(text))
        if usage := as_object(response.get("usage")):
            chunks.append(usage_in(usage))
        reason = as_object(response.get("incomplete_details")).get("reason")
        if response.get("status") == "cancelled":
            raise AbortedStreamError(f"{self._target.provider} cancelled the response")
        if self._is_refused:
            chunks.append(End("content_filter"))
        elif reason is not None:
            chunks.append(end_of(_REASONS.get(str(reason), str(reason))))
        else:
            chunks.append(End("tool_calls" if self._call_count else "stop"))

    def _read_items(self, response: dict[str, Any], chunks: list[Chunk]) -> None:
        """Read an answer that came only with the last event."""
        for index, item in enumerate(as_objects(response.get("output"))):
            for event in _events_of_item(index, item):
                read = self._readers.get(event["type"])
                if read is not None:
                    read(self, coerced_event(event), chunks)

    def _fail(self, event: Event, chunks: list[Chunk]) -> None:
        response = as_object(event.response)
        error = error_in_json({"error": response.get("error") or "the response failed"})
        if error is not None:
            raise self._decoder.failure(error)

    _readers: ClassVar[dict[str, Callable[[ResponsesReader, Event, list[Chunk]], None]]] = {
        "response.created": _begin,
        "response.in_progress": _begin,
        "response.queued": _begin,
        "response.output_item.added": _open,
        "response.output_item.done": _close,
        "response.output_text.delta": _read_text,
        "response.output_text.done": _end_text,
        "response.output_text.annotation.added": _cite,
        "response.refusal.delta": _refuse,
        "response.refusal.done": _end_refusal,
        "response.reasoning_summary_part.added": _separate,
        "response.reasoning_summary_text.delta": _read_reasoning,
        "response.reasoning_text.delta": _read_reasoning,
        "response.function_call_arguments.delta": _read_arguments,
        "response.function_call_arguments.done": _end_arguments,
        "response.failed": _fail,
    }
