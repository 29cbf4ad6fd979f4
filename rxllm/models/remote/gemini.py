"""Responses of Gemini's own API.

Source: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from rxllm.chunks import (
    Chunk,
    End,
    Notice,
    Reasoning,
    Start,
    Token,
    text_of,
)
from rxllm.errors import (
    AbortedStreamError,
    ContentFilteredError,
    EmptyStreamError,
    TruncatedStreamError,
)
from rxllm.models.remote.coercion import (
    as_int,
    as_object,
    as_objects,
    as_optional_text,
    as_text,
)
from rxllm.models.remote.finish_reasons import check_not_aborted, end_of, finish_reason_in
from rxllm.models.remote.gemini_calls import CallReader
from rxllm.models.remote.gemini_output import (
    CitationReader,
    UsageReader,
    file_in,
    in_unicode,
    logprobs_in,
)
from rxllm.models.remote.gemini_request import gemini_body
from rxllm.models.remote.history import Target
from rxllm.models.remote.json_decoder import JsonDecoder, is_done_marker, is_heartbeat
from rxllm.models.remote.logprobs import token_of
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.reported_error import error_in_json, error_in_text
from rxllm.models.remote.sse import ERROR_EVENTS, EVENT_STREAM, ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.text_joiner import TextJoiner
from rxllm.models.remote.wire import unsupported
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
_READ: Final = ("text", "functionCall", "executableCode", "codeExecutionResult")
_MARKS: Final = ("thought", "thoughtSignature", "thought_signature")


def _coerced(value: Any) -> Event:
    """Read an event of another form: a list of events, or one with lone surrogates.

    Raises:
        ValueError: it isn't an event.
    """
    fields: dict[str, Any] = {}
    for event in as_objects(value):
        candidates = as_objects(fields.get("candidates")) + as_objects(event.get("candidates"))
        fields |= {name: each for name, each in event.items() if each is not None}
        fields["candidates"] = candidates
    if value and not fields:
        raise ValueError("an event must be an object")
    return msgspec.convert(fields, Event)


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
      that the provider runs itself, with its result. The signature of anything else is the state of
      an empty text after it.
    - A `ToolCall` is complete at once, or grows with the pieces of its arguments. Sources are
      emitted at the end, as `Citation`.
    - The usage so far is emitted every 16 tokens, and the last one right before `End`, or before
      the failure if the provider gives up the answer.
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
        self._calls = CallReader(target)
        self._citations = CitationReader()
        self._usage = UsageReader()
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
        error = None
        if decoded.error or not has_answer:
            error = error_in_json(json.loads(data), has_answer=has_answer)
        if error is None or decoded.candidates:
            self._read_answer(decoded, chunks)
        if error is not None:
            raise self._decoder.failure(error)

    def end(self, chunks: list[Chunk]) -> None:
        """Append the final chunks at the end of the body; see `Reader`."""
        if not self._has_begun:
            raise EmptyStreamError(f"{self._target.provider} sent a response without any content")
        if self._reason is None:
            raise TruncatedStreamError(f"the response of {self._target.provider} ended early")
        self.is_done = True
        self._flush(chunks)
        end = end_of(self._reason)
        self._calls.finish(chunks, may_be_complete=end.finish_reason in ("stop", "tool_calls"))
        chunks.extend(self._citations.finish())
        self._usage.finish(chunks)
        is_call = end.finish_reason == "stop" and self._calls.count
        chunks.append(End("tool_calls") if is_call else end)

    def _read_answer(self, event: Event, chunks: list[Chunk]) -> None:
        counts = as_object(event.usage_metadata)
        self._usage.read(counts)
        candidates = as_objects(event.candidates)
        if not candidates:
            self._check_prompt(as_object(event.prompt_feedback))
        if not self._has_begun and (candidates or event.response_id):
            self._begin(event, chunks)
        start = len(chunks)
        for candidate in candidates:
            if not as_int(candidate.get("index")):
                self._read_candidate(candidate, chunks)
        if self._has_begun and self._reason is None:
            self._usage.report(counts, chunks, start)

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
        self._citations.read(candidate)
        if reason := finish_reason_in(candidate.get("finishReason")):
            try:
                check_not_aborted(reason, self._target.provider)
            except AbortedStreamError:
                self._usage.finish(chunks)
                raise
            if self._reason is None or end_of(self._reason).finish_reason == "stop":
                self._reason = reason  # a plain stop after another reason says less

    def _read_part(self, part: dict[str, Any], chunks: list[Chunk]) -> None:
        signature = as_optional_text(part.get("thoughtSignature") or part.get("thought_signature"))
        kind: type[Token] | type[Reasoning] = Reasoning if part.get("thought") else Token
        if text := as_text(part.get("text")):
            self._read_text(kind, text, chunks)
        call = part.get("functionCall")
        if call is not None and (call != {} or self._calls.is_open):
            self._flush(chunks)
            self._calls.read(as_object(call), signature, chunks)
            signature = None
        if "executableCode" in part or "codeExecutionResult" in part:
            ran = {**part, **({"thoughtSignature": signature} if signature else {})}
            self._flush(chunks)
            chunks.append(Reasoning("", self._target.state({"part": in_unicode(ran)})))
            signature = None
        if (file := file_in(part)) is not None:
            chunks.append(file)
        elif (unread := _unread(part)) is not None:
            chunks.append(unsupported({"type": unread}))
        if signature:
            self._flush(chunks)
            chunks.append(kind("", state=self._target.state({"signature": signature})))

    def _read_text(
        self, kind: type[Token] | type[Reasoning], text: str, chunks: list[Chunk]
    ) -> None:
        """Read a piece of text, and emit a surrogate of the other kind that is still held."""
        joiner, other = self._text, self._reasoning
        if kind is Reasoning:
            joiner, other = other, joiner
        if rest := other.flush():
            chunks.append(Token(rest) if kind is Reasoning else Reasoning(rest))
        if text := joiner.feed(text):
            chunks.append(kind(text))

    def _flush(self, chunks: list[Chunk]) -> None:
        """Emit a surrogate that is still held: what follows it isn't its pair."""
        if rest := self._reasoning.flush():
            chunks.append(Reasoning(rest))
        if rest := self._text.flush():
            chunks.append(Token(rest))

    def _add_logprobs(self, candidate: dict[str, Any], chunks: list[Chunk], start: int) -> None:
        """Add the probabilities to the text of this event, if it is one piece."""
        known = logprobs_in(as_object(candidate.get("logprobsResult")))
        texts = [at for at in range(start, len(chunks)) if text_of(chunks[at])]
        if not known or len(texts) != 1:
            return
        text = text_of(chunks[texts[0]])
        chunks[texts[0]] = token_of(text, known, is_asked=self._with_logprobs)


def _unread(part: dict[str, Any]) -> str | None:
    """Return the name of what a part holds if it can't be read."""
    names = [name for name, value in part.items() if value and name not in _MARKS]
    is_read = any(name in _READ for name in names)
    return names[0] if names and not is_read else None
