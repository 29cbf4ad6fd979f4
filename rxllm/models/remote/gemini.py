"""Responses of Gemini's own API.

Source: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from secrets import token_hex
from typing import Any, Final
from urllib.parse import quote

import msgspec

from rxllm.chunks import (
    Chunk,
    Citation,
    End,
    FileOutput,
    Notice,
    ProviderState,
    Reasoning,
    Start,
    Token,
    ToolCall,
    text_of,
)
from rxllm.errors import ContentFilteredError, EmptyStreamError, TruncatedStreamError
from rxllm.models.remote.coercion import (
    as_arguments,
    as_int,
    as_object,
    as_objects,
    as_optional_text,
    as_text,
)
from rxllm.models.remote.finish_reasons import check_not_aborted, end_of, finish_reason_in
from rxllm.models.remote.gemini_output import grounding_in, logprobs_in, usage_in
from rxllm.models.remote.gemini_request import gemini_body
from rxllm.models.remote.history import Target
from rxllm.models.remote.logprobs import token_of
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.reported_error import error_in_json, error_in_text
from rxllm.models.remote.sse import ERROR_EVENTS, EVENT_STREAM, ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.wire import (
    JsonDecoder,
    TextJoiner,
    is_done_marker,
    is_heartbeat,
    unsupported,
)
from rxllm.requests import Request

__all__ = ["GeminiReader", "GeminiWire"]


class Event(msgspec.Struct, rename="camel"):
    """The fields that are read from an event; those of any type are coerced."""

    candidates: Any = None
    usage_metadata: Any = None
    prompt_feedback: Any = None
    model_version: Any = None
    response_id: Any = None
    error: Any = None


_decoder: Final = msgspec.json.Decoder(Event)


def _coerced(value: Any) -> Event:
    """Read an event of another form: an error may come in a list."""
    error = error_in_json(value)
    if error is not None:
        raise ValueError(error.message)
    return Event()


class GeminiWire:
    """The `streamGenerateContent` method."""

    media_type = EVENT_STREAM

    def path(self, model: str) -> str:
        """Return the path of requests."""
        return f"/models/{quote(model)}:streamGenerateContent?alt=sse"

    def body(self, request: Request, model: str, provider: Provider) -> dict[str, Any]:
        """Return the body of a request."""
        return gemini_body(request, model, provider)

    def count_request(
        self, request: Request, model: str, provider: Provider
    ) -> tuple[str, dict[str, Any]]:
        """Return the path and the body of a request that counts tokens."""
        counted = {"model": f"models/{model}", **gemini_body(request, model, provider)}
        return f"/models/{quote(model)}:countTokens", {"generateContentRequest": counted}

    def events_of(self, answer: Any) -> list[Any] | None:
        """Return the events of an answer that wasn't sent as events: one, or a list of them."""
        events = as_objects(answer)
        return events if any("candidates" in event for event in events) else None

    def reader(
        self,
        request: Request,
        model: str,
        provider: Provider,
        headers: Mapping[str, str],
        strict: bool,
    ) -> GeminiReader:
        """Return a reader for one response."""
        target = Target(provider.name, model)
        with_logprobs = request.top_logprobs is not None
        return GeminiReader(target, headers, strict, with_logprobs=with_logprobs)


class GeminiReader(Comparable):
    """Reads one answer.

    - The first event emits `Start`.
    - A thought is `Reasoning`; its signature, or that of a text or a call, is the state. So is code
      that the provider runs itself, with its result.
    - A `ToolCall` is complete at once. Sources are emitted at the end, as `Citation`.
    - The end marker is the end of the body after a finish reason.
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
        self._call_count = 0
        self._cited: list[Citation] = []
        self._usage: dict[str, Any] = {}
        self._reason: str | None = None
        self._has_begun = False

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        """Append the chunks of `event` to `chunks`; see `Reader`."""
        data = event.data
        if event.type in ERROR_EVENTS:
            raise self._decoder.failure(error_in_text(data))
        if is_done_marker(data):
            self.end(chunks)
            return
        if is_heartbeat(data):
            return
        decoded = self._decoder.decode(data)
        if isinstance(decoded, Notice):
            chunks.append(decoded)
            return
        has_answer = any(getattr(decoded, name) for name in Event.__struct_fields__[:3])
        if decoded.error or not has_answer:
            error = error_in_json(json.loads(data), has_answer=has_answer)
            if error is not None:
                raise self._decoder.failure(error)
        self._read_answer(decoded, chunks)

    def end(self, chunks: list[Chunk]) -> None:
        """Append the final chunks at the end of the body; see `Reader`."""
        if not self._has_begun:
            raise EmptyStreamError(f"{self._target.provider} sent a response without any content")
        if self._reason is None:
            raise TruncatedStreamError(f"the response of {self._target.provider} ended early")
        self.is_done = True
        if thought := self._reasoning.flush():
            chunks.append(Reasoning(thought))
        if text := self._text.flush():
            chunks.append(Token(text))
        chunks.extend(self._cited)
        if self._usage:
            chunks.append(usage_in(self._usage))
        end = end_of(self._reason)
        is_call = end.finish_reason == "stop" and self._call_count
        chunks.append(End("tool_calls") if is_call else end)

    def _read_answer(self, event: Event, chunks: list[Chunk]) -> None:
        self._usage = as_object(event.usage_metadata) or self._usage
        candidates = as_objects(event.candidates)
        if not candidates:
            self._check_prompt(as_object(event.prompt_feedback))
        if not self._has_begun and (candidates or event.response_id):
            self._begin(event, chunks)
        for candidate in candidates:
            if not as_int(candidate.get("index")):
                self._read_candidate(candidate, chunks)

    def _check_prompt(self, feedback: dict[str, Any]) -> None:
        if reason := feedback.get("blockReason"):
            words = feedback.get("blockReasonMessage") or f"the prompt was blocked: {reason}"
            raise ContentFilteredError(f"{self._target.provider}: {words}")

    def _begin(self, event: Event, chunks: list[Chunk]) -> None:
        self._has_begun = True
        name = as_optional_text(event.model_version) or self._target.model
        provider = self._target.provider
        request_id = as_optional_text(event.response_id) or ""
        chunks.append(Start(request_id, f"{provider}/{name}", provider))

    def _read_candidate(self, candidate: dict[str, Any], chunks: list[Chunk]) -> None:
        parts = as_objects(as_object(candidate.get("content")).get("parts"))
        before = len(chunks)
        for part in parts:
            self._read_part(part, chunks)
        self._add_logprobs(candidate, chunks, before)
        self._cited += [each for each in grounding_in(candidate) if each not in self._cited]
        if reason := finish_reason_in(candidate.get("finishReason")):
            check_not_aborted(reason, self._target.provider)
            self._reason = reason

    def _read_part(self, part: dict[str, Any], chunks: list[Chunk]) -> None:
        signature = as_optional_text(part.get("thoughtSignature"))
        state = self._target.state({"signature": signature}) if signature else None
        if "functionCall" in part:
            self._read_call(as_object(part["functionCall"]), signature, chunks)
        elif "text" in part:
            self._read_text(part, state, chunks)
        elif "inlineData" in part:
            data = as_object(part["inlineData"])
            chunks.append(FileOutput(as_text(data.get("mimeType")), as_text(data.get("data"))))
        elif "fileData" in part:
            data = as_object(part["fileData"])
            media_type, url = as_text(data.get("mimeType")), as_text(data.get("fileUri"))
            chunks.append(FileOutput(media_type or "application/octet-stream", url=url))
        elif "executableCode" in part or "codeExecutionResult" in part:
            chunks.append(Reasoning("", self._target.state({"part": part})))
        elif part:
            chunks.append(unsupported({"type": next(iter(part))}))

    def _read_text(
        self, part: dict[str, Any], state: ProviderState | None, chunks: list[Chunk]
    ) -> None:
        kind: type[Token] | type[Reasoning] = Reasoning if part.get("thought") else Token
        joiner = self._reasoning if kind is Reasoning else self._text
        if text := joiner.feed(as_text(part["text"])):
            chunks.append(kind(text))
        if state is not None:
            chunks.append(kind("", state=state))

    def _read_call(self, call: dict[str, Any], signature: str | None, chunks: list[Chunk]) -> None:
        given_id = as_optional_text(call.get("id"))
        known = {"id": given_id, "signature": signature}
        data = {name: value for name, value in known.items() if value}
        chunks.append(
            ToolCall(
                given_id or f"call_{token_hex(12)}",
                as_optional_text(call.get("name")) or "",
                as_arguments(call.get("args")) or "{}",
                self._call_count,
                complete=True,
                state=self._target.state(data) if data else None,
            )
        )
        self._call_count += 1

    def _add_logprobs(self, candidate: dict[str, Any], chunks: list[Chunk], start: int) -> None:
        """Add the probabilities to the text of this event, if it is one piece."""
        known = logprobs_in(as_object(candidate.get("logprobsResult")))
        texts = [at for at in range(start, len(chunks)) if type(chunks[at]) is Token]
        if not known or len(texts) != 1:
            return
        text = text_of(chunks[texts[0]])
        chunks[texts[0]] = token_of(text, known, is_asked=self._with_logprobs)
