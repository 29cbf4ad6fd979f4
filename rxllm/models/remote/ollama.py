"""Responses of Ollama's own API: a JSON object a line.

Source: https://docs.ollama.com/api/chat.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from secrets import token_hex
from typing import Any, Final

import msgspec

from rxllm.chunks import Chunk, End, Notice, Reasoning, Start, Token, ToolCall, Usage
from rxllm.errors import EmptyStreamError, TruncatedStreamError
from rxllm.models.remote.call_ids import distinct_id
from rxllm.models.remote.coercion import (
    as_arguments,
    as_int,
    as_object,
    as_objects,
    as_optional_text,
    as_text,
    is_json,
)
from rxllm.models.remote.finish_reasons import check_not_aborted, end_of, finish_reason_in
from rxllm.models.remote.gemini_output import file_of
from rxllm.models.remote.history import Target
from rxllm.models.remote.json_decoder import JsonDecoder, is_heartbeat
from rxllm.models.remote.logprobs import logprobs_in, token_of
from rxllm.models.remote.ollama_request import ollama_body
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.reported_error import error_in_json, error_in_text
from rxllm.models.remote.sse import ERROR_EVENTS, ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.text_joiner import TextJoiner
from rxllm.models.remote.wire import unsupported
from rxllm.requests import Request

__all__ = ["OllamaReader", "OllamaWire"]


class Line(msgspec.Struct):
    """The fields that are read from a line; those of any type are coerced."""

    model: Any = None
    created_at: Any = None
    message: Any = None
    done: Any = None
    done_reason: Any = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    logprobs: Any = None
    error: Any = None


_decoder: Final = msgspec.json.Decoder(Line)


_IMAGE: Final = {"type": "images"}
_IDLE: Final = ("load", "unload")
"""The reasons of answers that only load the model, or release it."""


def _coerced(value: Any) -> Line:
    """Read a line with lone surrogates.

    Raises:
        ValueError: it isn't an object.
    """
    if not isinstance(value, dict):
        raise ValueError("a line must be an object")
    return msgspec.convert(value, Line)


class OllamaWire:
    """The `chat` method."""

    media_type = "application/x-ndjson"

    def path(self, model: str) -> str:
        """Return the path of requests."""
        return "/chat"

    def body(self, request: Request, model: str, provider: Provider) -> dict[str, Any]:
        """Return the body of a request."""
        return ollama_body(request, model, provider)

    def count_request(self, request: Request, model: str, provider: Provider) -> None:
        """Return `None`: this API can't count tokens."""

    def events_of(self, answer: Any) -> list[Any] | None:
        """Return the events of an answer that wasn't streamed."""
        return [answer] if isinstance(answer, dict) and "message" in answer else None

    def reader(
        self,
        request: Request,
        model: str,
        provider: Provider,
        headers: Mapping[str, str],
        strict: bool,
    ) -> OllamaReader:
        """Return a reader for one response."""
        target = Target(provider.name, model)
        with_logprobs = request.top_logprobs is not None
        return OllamaReader(target, headers, strict, with_logprobs=with_logprobs)


class OllamaReader(Comparable):
    """Reads one answer.

    - The first line emits `Start`.
    - Thinking is `Reasoning`; it ends with a state, so that the next request can return it.
    - A `ToolCall` is complete at once, with an id of our own if the line has none.
    - The end marker is a line with `done`. Its counts are the usage, if it has that of the prompt.
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
        self._decoder = JsonDecoder(_decoder, strict, _coerced, target.provider, headers)
        self._text = TextJoiner()
        self._reasoning = TextJoiner()
        self._is_thinking = False
        self._call_ids: list[str] = []
        self._has_begun = False
        self._has_output = False

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        """Append the chunks of `event` to `chunks`; see `Reader`."""
        if event.type in ERROR_EVENTS:
            raise self._decoder.failure(error_in_text(event.data))
        if is_heartbeat(event.data):
            return
        line = self._decoder.decode(event.data)
        if isinstance(line, Notice):
            chunks.append(line)
            return
        message = as_object(line.message)
        if line.error or not message:
            error = error_in_json(json.loads(event.data), has_answer=bool(message or line.done))
            if error is not None:
                raise self._decoder.failure(error)
        said: list[Chunk] = []
        self._read_message(message, line, said)
        self._has_output = self._has_output or bool(said)
        reason = finish_reason_in(line.done_reason) if line.done else None
        if reason in _IDLE and not self._has_output:
            raise EmptyStreamError(f"{self._target.provider} said nothing: {reason}")
        if not self._has_begun and (message or line.done):
            self._begin(line, chunks)
        chunks += said
        if line.done:
            self._finish(line, reason, chunks)

    def end(self, chunks: list[Chunk]) -> None:
        """Raise, because the body has ended before the end marker; see `Reader`."""
        if not self._has_begun:
            raise EmptyStreamError(f"{self._target.provider} sent a response without any content")
        raise TruncatedStreamError(f"the response of {self._target.provider} ended early")

    def _begin(self, line: Line, chunks: list[Chunk]) -> None:
        self._has_begun = True
        name = as_optional_text(line.model) or self._target.model
        provider = self._target.provider
        created = _timestamp(as_optional_text(line.created_at))
        chunks.append(Start(f"ollama-{token_hex(8)}", f"{provider}/{name}", provider, created))

    def _read_message(self, message: dict[str, Any], line: Line, chunks: list[Chunk]) -> None:
        if thought := self._reasoning.feed(as_text(message.get("thinking"))):
            self._is_thinking = True
            chunks.append(Reasoning(thought))
        if text := self._text.feed(as_text(message.get("content"))):
            self._end_thinking(chunks)
            known = logprobs_in(line.logprobs)
            chunks.append(token_of(text, known, is_asked=self._with_logprobs))
        images = message.get("images")
        for image in filter(None, images if isinstance(images, list) else [images]):
            self._end_thinking(chunks)
            chunks.append(file_of(image) if isinstance(image, str) else unsupported(_IMAGE))
        for call in as_objects(message.get("tool_calls")):
            self._end_thinking(chunks)
            chunks.append(self._call(call))

    def _call(self, call: dict[str, Any]) -> ToolCall:
        function = as_object(call.get("function")) or call
        name = as_optional_text(function.get("name")) or ""
        arguments = as_optional_text(as_arguments(function.get("arguments"))) or "{}"
        call_id = distinct_id(as_optional_text(call.get("id")), self._call_ids)
        self._call_ids.append(call_id)
        is_complete = bool(name) and is_json(arguments)
        return ToolCall(call_id, name, arguments, len(self._call_ids) - 1, is_complete)

    def _end_thinking(self, chunks: list[Chunk]) -> None:
        if self._is_thinking:
            self._is_thinking = False
            if thought := self._reasoning.flush():
                chunks.append(Reasoning(thought))
            chunks.append(Reasoning("", self._target.state({"field": "thinking"})))

    def _finish(self, line: Line, reason: str | None, chunks: list[Chunk]) -> None:
        self.is_done = True
        self._end_thinking(chunks)
        if text := self._text.flush():
            chunks.append(Token(text))
        if (read := as_int(line.prompt_eval_count)) is not None:  # a cached prompt isn't counted
            chunks.append(Usage(read, as_int(line.eval_count) or 0))
        check_not_aborted(reason or "", self._target.provider)
        end = end_of(reason)
        is_call = end.finish_reason == "stop" and self._call_ids
        chunks.append(End("tool_calls") if is_call else end)


def _timestamp(date: str | None) -> float | None:
    try:
        return datetime.fromisoformat(date or "").timestamp()
    except ValueError:
        return None
