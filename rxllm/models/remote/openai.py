"""Responses of OpenAI's chat completions, as OpenRouter, Groq and many servers send them too.

Sources: https://platform.openai.com/docs/api-reference/chat-streaming,
https://openrouter.ai/docs/api/reference/streaming, https://console.groq.com/docs/api-reference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from rxllm.chunks import Chunk, Citation, End, FileOutput, Notice, Start, Token
from rxllm.errors import EmptyStreamError, TruncatedStreamError
from rxllm.models.remote.coercion import as_object, as_objects, as_text
from rxllm.models.remote.finish_reasons import check_not_aborted, end_of, finish_reason_in
from rxllm.models.remote.history import Target
from rxllm.models.remote.logprobs import token_of
from rxllm.models.remote.openai_calls import CallReader
from rxllm.models.remote.openai_coercion import coerced_completion
from rxllm.models.remote.openai_output import citations_in, file_in
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
from rxllm.models.remote.wire import (
    JsonDecoder,
    TextJoiner,
    is_done_marker,
    is_heartbeat,
    unsupported,
)
from rxllm.requests import Request

__all__ = ["OpenAIReader", "OpenAIWire"]

_decoder: Final = msgspec.json.Decoder(Completion)

_REPORTED: Final = 16
"""Output tokens between two reports of the usage so far."""


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
      an event that couldn't be read, `[DONE]` is no clean end.
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
        self._has_delta = False
        self._message = ""  # the text so far, if it comes as messages
        self._cited: list[Citation] = []

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        """Append the chunks of `event` to `chunks`; see `Reader`."""
        data = event.data
        if event.type in ERROR_EVENTS:
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
        if not self._has_begun and (completion.id or completion.choices):  # Azure's first has none
            self._begin(completion, chunks)
        for choice in completion.choices or ():
            if choice.index == 0:
                self._read_delta(choice, chunks)
                self._read_finish(choice)
        sources = completion.search_results or completion.citations
        if sources and self._has_begun:
            self._cite(sources, chunks)
        usage = completion.usage
        if usage is None and groq is not None:
            usage = groq.usage
        if usage is not None and (self._usage is None or not usage.is_empty):
            self._usage = usage
            self._report_usage(usage, completion, chunks)

    def end(self, chunks: list[Chunk]) -> None:
        """Append the final chunks at the end of the body; see `Reader`."""
        if self._has_begun and self._reason is None:
            raise TruncatedStreamError(f"the response of {self._provider} ended early")
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
            chunks.append(usage.as_chunk())

    def _end(self, chunks: list[Chunk]) -> None:
        if not self._has_begun:
            raise EmptyStreamError(f"{self._provider} sent a response without any content")
        if self._reason is None and self._decoder.has_skipped:
            raise TruncatedStreamError(
                f"the response of {self._provider} ended without a finish reason, after events "
                "that can't be read"
            )
        self._finish(chunks)

    def _reported_error(self, completion: Completion, data: str) -> ErrorObject | None:
        groq = completion.x_groq
        error = None
        if completion.may_be_error:
            error = error_in_json(json.loads(data), has_answer=completion.has_answer)
        if error is None and groq is not None and groq.error:
            error = error_in_json({"error": groq.error})
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
        if delta is None and choice.text:
            delta = Delta(choice.text)
        elif delta is None and choice.message is not None and not self._has_delta:
            delta = self._added_by(choice.message)
        elif delta is not None and delta.says_something:
            self._has_delta = True  # a message that follows repeats the whole answer
        if delta is not None:
            self._reasoning.read(delta, chunks)
            if delta.content and (text := self._text.feed(delta.content)):
                chunks.append(self._token(text, choice.logprobs))
            if delta.refusal and (text := self._text.feed(delta.refusal)):
                self._is_refused = True
                chunks.append(Token(text))
            if delta.tool_calls:
                chunks.extend(map(self._calls.read, delta.tool_calls))
            if delta.annotations or delta.images or delta.audio or delta.parts:
                self._read_output(delta, chunks)
            if delta.function_call is not None:
                call = ToolCallDelta(index=0, function=delta.function_call)
                chunks.append(self._calls.read(call))

    def _token(self, text: str, logprobs: LogProbs | None) -> Token:
        if logprobs is None:
            return Token(text)
        known = [token.as_value() for token in logprobs.content or ()]
        return token_of(text, known, is_asked=self._with_logprobs)

    def _read_finish(self, choice: Choice) -> None:
        if choice.error:
            error = error_in_json({"error": choice.error}, has_answer=True)
            if error is not None:
                raise self._decoder.failure(error)
        if (reason := choice.finish_reason) and (reason := finish_reason_in(reason)):
            check_not_aborted(reason, self._provider)
            if self._reason is None or end_of(self._reason).finish_reason == "stop":
                self._reason = reason  # a plain stop after another reason says less

    def _added_by(self, message: Delta) -> Delta:
        """What a message adds: servers send it whole, in pieces, or whole as it grows."""
        text = message.content or ""
        added = text.removeprefix(self._message) if text.startswith(self._message) else text
        self._message += added
        return msgspec.structs.replace(message, content=added)

    def _read_output(self, delta: Delta, chunks: list[Chunk]) -> None:
        """Read what isn't text."""
        self._cite(delta.annotations, chunks)
        images = delta.images if isinstance(delta.images, list) else [delta.images]
        for part in filter(None, images):
            file = file_in({"type": "image_url", "url": part} if isinstance(part, str) else part)
            chunks.append(unsupported(as_object(part)) if file is None else file)
        audio = as_object(delta.audio)
        if audio.get("transcript"):
            chunks.append(Token(self._text.feed(as_text(audio["transcript"]))))
        if audio.get("data"):
            chunks.append(FileOutput("audio/*", as_text(audio["data"])))
        chunks.extend(map(unsupported, as_objects(delta.parts)))

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
