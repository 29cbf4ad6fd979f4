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
from rxllm.models.remote.coercion import (
    as_arguments,
    as_int,
    as_object,
    as_objects,
    as_optional_text,
    as_text,
    is_json,
)
from rxllm.models.remote.finish_reasons import check_not_aborted, end_of
from rxllm.models.remote.history import Target
from rxllm.models.remote.logprobs import logprobs_in, token_of
from rxllm.models.remote.ollama_request import ollama_body
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.reported_error import error_in_json
from rxllm.models.remote.sse import ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.wire import JsonDecoder, TextJoiner, is_heartbeat
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


def _coerced(value: Any) -> Line:
    raise ValueError("a line must be an object")


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
    - A `ToolCall` is complete at once, with an id of our own.
    - The end marker is a line with `done`.
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
        self._call_count = 0
        self._has_begun = False

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        """Append the chunks of `event` to `chunks`; see `Reader`."""
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
        if not self._has_begun and (message or line.done):
            self._begin(line, chunks)
        self._read_message(message, line, chunks)
        if line.done:
            self._finish(line, chunks)

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
        calls = as_objects(message.get("tool_calls"))
        if text := self._text.feed(as_text(message.get("content"))):
            self._end_thinking(chunks)
            known = logprobs_in(line.logprobs)
            chunks.append(token_of(text, known, is_asked=self._with_logprobs))
        for call in calls:
            self._end_thinking(chunks)
            function = as_object(call.get("function"))
            arguments = as_arguments(function.get("arguments")) or "{}"
            chunks.append(
                ToolCall(
                    as_optional_text(call.get("id")) or f"call_{token_hex(12)}",
                    as_optional_text(function.get("name")) or "",
                    arguments,
                    self._call_count,
                    complete=is_json(arguments),
                )
            )
            self._call_count += 1

    def _end_thinking(self, chunks: list[Chunk]) -> None:
        if self._is_thinking:
            self._is_thinking = False
            if thought := self._reasoning.flush():
                chunks.append(Reasoning(thought))
            chunks.append(Reasoning("", self._target.state({"field": "thinking"})))

    def _finish(self, line: Line, chunks: list[Chunk]) -> None:
        self.is_done = True
        self._end_thinking(chunks)
        if text := self._text.flush():
            chunks.append(Token(text))
        chunks.append(Usage(as_int(line.prompt_eval_count) or 0, as_int(line.eval_count) or 0))
        reason = as_optional_text(line.done_reason)
        check_not_aborted(reason or "", self._target.provider)
        end = end_of(reason)
        is_call = end.finish_reason == "stop" and self._call_count
        chunks.append(End("tool_calls") if is_call else end)


def _timestamp(date: str | None) -> float | None:
    try:
        return datetime.fromisoformat(date or "").timestamp()
    except ValueError:
        return None
