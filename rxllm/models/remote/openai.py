"""Responses of OpenAI's chat completions, as OpenRouter, Groq and many servers send them too.

Sources: https://platform.openai.com/docs/api-reference/chat-streaming,
https://openrouter.ai/docs/api/reference/streaming, https://console.groq.com/docs/api-reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from rxllm.chunks import Chunk, Citation, End, Notice, Start, Token
from rxllm.errors import EmptyStreamError, TruncatedStreamError
from rxllm.models.remote.coercion import as_object, as_text
from rxllm.models.remote.finish_reasons import check_not_aborted, end_of, finish_reason_in
from rxllm.models.remote.history import Target
from rxllm.models.remote.json_decoder import JsonDecoder, is_done_marker, is_heartbeat
from rxllm.models.remote.logprobs import token_of
from rxllm.models.remote.openai_calls import CallReader
from rxllm.models.remote.openai_coercion import coerced_completion
from rxllm.models.remote.openai_output import citations_in, output_in
from rxllm.models.remote.openai_request import openai_body
from rxllm.models.remote.openai_states import ReasoningReader
from rxllm.models.remote.openai_types import (
    Choice,
    Completion,
    Delta,
    LogProbs,
    TokenCounts,
    ToolCallDelta,
)
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.reported_error import ErrorObject, error_in_json, error_in_text
from rxllm.models.remote.sse import ERROR_EVENTS, EVENT_STREAM, ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.text_joiner import TextJoiner
from rxllm.requests import Request

__all__ = ["OpenAIReader", "OpenAIWire"]

_decoder: Final = msgspec.json.Decoder(Completion)

_REPORTED: Final = 16
"""Output tokens between two reports of the usage so far."""

_THOUGHTS: Final = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
_FAILURE: Final = re.compile(
    r'"\w*(?:err|fail|fault|exception|message|title|detail|success)\w*"\s*:', re.IGNORECASE
)
"""Names of fields in which an unknown event may report a failure."""


class OpenAIWire:
    """The Chat Completions API."""

    media_type = EVENT_STREAM

    def path(self, model: str) -> str:
        """Return the path of requests."""
        return "/chat/completions"

    def body(self, request: Request, model: str, provider: Provider) -> dict[str, Any]:
        """Return the body of a request."""
        return openai_body(request, model, provider)

    def count_request(self, request: Request, model: str, provider: Provider) -> None:
        """Return `None`: this API can't count tokens."""

    def events_of(self, answer: Any) -> list[Any] | None:
        """Return the events of an answer that wasn't streamed: a message is read like a delta."""
        return [answer] if isinstance(answer, dict) and answer.get("choices") else None

    def reader(
        self,
        request: Request,
        model: str,
        provider: Provider,
        headers: Mapping[str, str],
        strict: bool,
    ) -> OpenAIReader:
        """Return a reader for one response."""
        target = Target(provider.name, model)
        with_logprobs = request.top_logprobs is not None
        return OpenAIReader(target, headers, strict, with_logprobs=with_logprobs)


class OpenAIReader(Comparable):
    """Reads one chat completion.

    - The first event emits `Start`; comments don't.
    - Reasoning ends with a state, so that the next request can return it; see `openai_states`.
    - A refusal is emitted as text, and the stream ends with `"content_filter"`.
    - A `ToolCall` is emitted each time its arguments grow, and once more, complete, at the end. A
      new id starts a new call, even if its index is already in use.
    - Usage may arrive before or after the finish reason. The last one counts, and is emitted right
      before `End`; one that comes with each token is also emitted every 16 tokens.
    - The end marker is `[DONE]`, or the end of the body after a finish reason. Without one, after
      an event that couldn't be read, `[DONE]` isn't a clean end.
    - An error may come in any form; see `reported_error`. What its event says comes before it.
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
        self._with_logprobs = with_logprobs
        self._model = target.model
        self._provider = provider = target.provider
        self._headers = headers
        self._decoder = JsonDecoder(_decoder, strict, coerced_completion, provider, headers)
        self._text = TextJoiner()
        self._reasoning = ReasoningReader(target)
        self._calls = CallReader(target)
        self._usage: TokenCounts | None = None
        self._reported = -_REPORTED  # the output tokens in the last usage emitted
        self._reason: str | None = None
        self._is_refused = False
        self._has_begun = False
        self._has_text = False  # in deltas, as the next two
        self._has_calls = False
        self._has_files = False
        self._messages: dict[str, str] = {}  # the texts so far, if they come as messages
        self._cited: list[Citation | Notice] = []

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        """Append the chunks of `event` to `chunks`; see `Reader`."""
        data = event.data
        if event.type in ERROR_EVENTS or event.type.endswith("_error"):
            raise self._decoder.failure(error_in_text(data))
        if is_done_marker(data):
            self._end(chunks)
            return
        if is_heartbeat(data):
            return
        completion = self._decoder.decode(data)
        if isinstance(completion, Notice):
            chunks.append(completion)
            return
        groq = completion.x_groq
        error = self._reported_error(completion, data)
        if error is not None:
            self._read_last_words(completion, chunks)
            raise self._decoder.failure(error)
        if not (completion.choices or completion.is_known) and _FAILURE.search(data):
            self._decoder.doubt(data)
        if not self._has_begun and (completion.id or completion.choices):  # Azure's first has none
            self._begin(completion, chunks)
        for choice in completion.choices or ():
            if choice.index == 0:
                self._read_delta(choice, chunks)
                self._read_finish(choice)
                if choice.citations:
                    self._cite(choice.citations, chunks)
        sources = completion.search_results or completion.citations or completion.sources
        if sources and self._has_begun:
            self._cite(sources, chunks)
        if completion.images and self._has_begun:
            self._read_output(Delta(images=completion.images), chunks)
        usage = completion.usage
        if usage is None and groq is not None:
            usage = groq.usage
        if usage is not None and (self._usage is None or not usage.is_empty):
            self._usage = usage
            self._report_usage(usage, completion, chunks)

    def end(self, chunks: list[Chunk]) -> None:
        """Append the final chunks at the end of the body; see `Reader`."""
        if self._has_begun and self._reason is None:
            skipped = self._decoder.skipped
            after = f", after events that can't be read: {skipped}" if skipped else ""
            raise TruncatedStreamError(f"the response of {self._provider} ended early{after}")
        self._end(chunks)

    def _report_usage(
        self, usage: TokenCounts, completion: Completion, chunks: list[Chunk]
    ) -> None:
        """Emit the usage so far, so that it is known if the stream is left early.

        Some servers send it with each token; see `continuous_usage_stats` of vLLM.
        """
        written = usage.completion_tokens
        if completion.choices and self._reason is None and written >= self._reported + _REPORTED:
            self._reported = written
            chunks.append(usage.as_chunk(estimated=True))

    def _end(self, chunks: list[Chunk]) -> None:
        if not self._has_begun:
            raise EmptyStreamError(f"{self._provider} sent a response without any content")
        if self._reason is None and self._decoder.has_skipped:
            raise TruncatedStreamError(
                f"the response of {self._provider} ended without a finish reason, after events "
                f"that can't be read: {self._decoder.skipped}"
            )
        self._finish(chunks)

    def _reported_error(self, completion: Completion, data: str) -> ErrorObject | None:
        groq = completion.x_groq
        error = None
        if completion.may_be_error:
            error = error_in_json(json.loads(data), has_answer=completion.has_answer)
        if error is None and groq is not None and groq.error:
            error = error_in_json({"error": groq.error})
        for choice in completion.choices or ():
            if error is None and (found := choice.reported_error):
                around = as_object(json.loads(data))
                error = error_in_json({**around, "error": found}, has_answer=True)
        return error

    def _read_last_words(self, completion: Completion, chunks: list[Chunk]) -> None:
        """Read what an event with an error says besides."""
        said: list[Chunk] = []
        for choice in completion.choices or ():
            if choice.index == 0:
                self._read_delta(choice, said)
        if said and not self._has_begun:
            self._begin(completion, chunks)
        chunks += said

    def _begin(self, completion: Completion, chunks: list[Chunk]) -> None:
        self._has_begun = True
        name = f"{self._provider}/{completion.model or self._model}"
        request_id = completion.id or self._headers.get("x-request-id", "")
        chunks.append(Start(request_id, name, self._provider, completion.created))

    def _read_delta(self, choice: Choice, chunks: list[Chunk]) -> None:
        delta = choice.delta
        if delta is not None and delta.says_something:
            if delta.content:
                self._has_text = True
            if delta.tool_calls or delta.function_call:
                self._has_calls = True
            if delta.images or delta.audio:
                self._has_files = True
        elif choice.text:
            delta = Delta(choice.text)
        elif choice.message is not None:
            delta = self._added_by(choice.message)
        if delta is not None:
            self._reasoning.read(delta, chunks)
            if delta.content and (text := self._text.feed(delta.content)):
                chunks.append(self._token(text, choice.logprobs))
            if delta.refusal and (text := self._text.feed(delta.refusal)):
                self._is_refused = True
                chunks.append(Token(text))
            if delta.tool_calls:
                chunks.extend(map(self._calls.read, delta.tool_calls))
            elif delta.function_call is not None:
                call = ToolCallDelta(index=0, function=delta.function_call)
                chunks.append(self._calls.read(call))
            if delta.has_output:
                self._read_output(delta, chunks)

    def _token(self, text: str, logprobs: LogProbs | None) -> Token:
        if logprobs is None:
            return Token(text)
        known = [token.as_value() for token in logprobs.content or ()]
        return token_of(text, known, is_asked=self._with_logprobs)

    def _read_finish(self, choice: Choice) -> None:
        reason = choice.finish_reason
        if choice.native_finish_reason == "limit":  # which this API has no word for
            reason = "limit"
        if reason and (reason := finish_reason_in(reason)):
            check_not_aborted(reason, self._provider)
            if self._reason is None or end_of(self._reason).finish_reason == "stop":
                self._reason = reason  # a plain stop after another reason says less

    def _added_by(self, message: Delta) -> Delta:
        """What a message adds: servers send it whole, in pieces, or whole as it grows.

        After deltas, it repeats what they have said.
        """
        fields: dict[str, Any] = {}
        if self._reasoning.has_begun and not self._messages.keys() & set(_THOUGHTS):
            fields = dict.fromkeys((*_THOUGHTS, "reasoning_details"))
        if self._has_text:
            fields["content"] = None
        if self._has_calls:
            fields |= {"tool_calls": None, "function_call": None}
        if self._has_files:
            fields |= {"images": None, "audio": None}
        for name in ("content", *_THOUGHTS, "refusal"):
            if name not in fields and (text := getattr(message, name)):
                before = self._messages.get(name, "")
                fields[name] = text.removeprefix(before)
                self._messages[name] = before + fields[name]
        return msgspec.structs.replace(message, **fields)

    def _read_output(self, delta: Delta, chunks: list[Chunk]) -> None:
        """Read what isn't text."""
        found = as_object(delta.context).get("citations")
        for cited in (delta.annotations, delta.citations, found):
            self._cite(cited, chunks)
        if transcript := as_object(delta.audio).get("transcript"):
            chunks.append(Token(self._text.feed(as_text(transcript))))
        chunks.extend(output_in(delta))

    def _cite(self, annotations: Any, chunks: list[Chunk]) -> None:
        """Read citations, each once: some servers repeat them in each event."""
        for citation in citations_in(annotations) if annotations else ():
            if citation not in self._cited:
                self._cited.append(citation)
                chunks.append(citation)

    def _finish(self, chunks: list[Chunk]) -> None:
        self.is_done = True
        if text := self._text.flush():
            chunks.append(Token(text))
        self._reasoning.finish(chunks)
        end = end_of(self._reason)
        # At the token limit, the last call may have been cut off.
        chunks += self._calls.finish(may_be_complete=end.finish_reason in ("tool_calls", "stop"))
        if self._usage is not None:
            chunks.append(self._usage.as_chunk())
        chunks.append(End("content_filter") if self._is_refused else end)
