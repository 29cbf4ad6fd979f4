"""Convert streams to the format of OpenAI's chat completions."""

from __future__ import annotations

import time
from typing import Final

from rxllm.chunks import (
    Batch,
    Chunk,
    Citation,
    End,
    FileOutput,
    FinishReason,
    Json,
    ProviderState,
    Reasoning,
    Start,
    StateKey,
    Token,
    ToolCall,
    ToolResult,
    Usage,
    is_restart,
    state_key,
)
from rxllm.errors import RestartedStreamError
from rxllm.result import Result
from rxllm.web.encoding import to_json
from rxllm.web.failures import failure_message, status_of_message
from rxllm.web.openai_chat.logprobs import logprobs_of
from rxllm.web.openai_chat.states import detail_of, details_of, extra_content
from rxllm.web.openai_chat.types import (
    Annotation,
    CalledFunction,
    Completion,
    CompletionCall,
    CompletionDelta,
    CompletionEvent,
    CompletionMessage,
    Logprobs,
    OpenAIError,
    OpenAIErrorBody,
    OpenAIUsage,
    OutputImage,
    PromptDetails,
    URLCitation,
)
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed
from rxllm.web.stream_store import Frame
from rxllm.web.wire import EVENT_STREAM, WireFormat

__all__ = ["OPENAI_CHAT_WIRE", "ChatWriter", "completion", "error_body"]

_TYPES: Final = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_MARK: Final = "\uf8ff the text \uf8ff"
"""Placeholder for the text in an event; a private-use character that no model name contains."""

OPENAI_CHAT_WIRE: Final = WireFormat(
    "openai_chat", EVENT_STREAM, lambda stream_id, **options: ChatWriter(stream_id, **options)
)

_CODES: Final = {
    "budget_spent": "insufficient_quota",
    "context_length": "context_length_exceeded",
}


def error_body(message: StreamFailed, status: int) -> OpenAIErrorBody:
    """Return an error in OpenAI's format."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    text = message.message
    if message.code == "context_length":
        # Clients recognize the kind of this error by these words.
        text = f"This model's maximum context length is exceeded: {text}"
    return {
        "message": text,
        "type": kind,
        "param": message.field,
        "code": _CODES.get(message.code, message.code),
    }


def completion(
    result: Result, answer_id: str, model: str, logprobs: Logprobs | None = None
) -> Completion:
    """Return a complete response."""
    calls = sorted(result.tool_calls, key=lambda call: call.index)
    message: CompletionMessage = {
        "role": "assistant",
        "content": None if calls and not result.text else result.text,
        "refusal": None,
    }
    if calls:
        message["tool_calls"] = [_written(call) for call in calls]
    if result.reasoning:
        message["reasoning_content"] = result.reasoning
    if details := details_of(result.parts):
        message["reasoning_details"] = details
    if result.citations:
        message["annotations"] = [_annotation(each) for each in result.citations]
    if result.files:
        message["images"] = [_image(each) for each in result.files]
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": logprobs,
                "finish_reason": _finish_reason(result.finish_reason),
            }
        ],
        "usage": _usage(result.usage, result.timings.tokens),
    }


class ChatWriter:
    """Writes one stream as the events of a chat completion.

    A response that can't continue (after an error, a cancellation, or a restart, which this format
    can't express) ends with an `error` event, for which the SDK raises; a complete one ends with
    `[DONE]`.

    Args:
        stream_id: the id of the completion.
        model: the name of the model; `None` for that of the first `Start`.
        include_usage: whether the usage comes last.
        logprobs: whether log probabilities are sent, where they are known.
        runs_tools: whether calls are answered in the stream, as those of an agent are: then only
            the calls that the stream leaves open are sent, at its end.
    """

    def __init__(
        self,
        stream_id: str,
        *,
        model: str | None = None,
        include_usage: bool = False,
        logprobs: bool = False,
        runs_tools: bool = False,
    ) -> None:
        self._head: CompletionEvent = {
            "id": stream_id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model or "",
            "choices": [],
        }
        self._with_usage = include_usage
        self._with_logprobs = logprobs
        self._runs_tools = runs_tools
        self._held: dict[StateKey | None, ToolCall] = {}  # calls that may be answered here
        self._is_between = False  # an answer has ended, and others follow
        self._has_said = False  # something of the answer under way
        self._ids: set[str] = set()  # of all calls
        self._has_begun = self._has_failed = False
        self._sent: dict[StateKey | None, str] = {}  # of each call, the arguments
        self._with_state: set[StateKey | None] = set()  # the calls whose state was sent
        self._thought: list[str] = []  # since the last state
        self._states = 0
        self._length = 0  # of the text so far
        self._around_text: tuple[bytes, bytes] | None = None

    def __call__(self, frame: Frame) -> bytes:
        """Return the events for a frame."""
        message = frame.message
        if self._has_failed:
            return b""
        if isinstance(message, StreamFailed):
            return self._failed(message)
        if isinstance(message, Complete):
            return self._complete(message)
        if self._with_logprobs and isinstance(message.chunk, Batch):
            return b"".join(map(self._of_chunk, message.chunk.chunks))
        return b"".join(map(self._of_chunk, _parts(message)))

    def _of_chunk(self, chunk: Chunk) -> bytes:
        if chunk.source is not None and chunk.source.partition("/")[0] in self._ids:
            return b""  # of a run inside of a call
        if self._is_between and (chunk.is_content or isinstance(chunk, Start)):
            self._is_between = self._has_said = False
            self._held = {}  # they were answered
            self._thought.clear()
        if isinstance(chunk, Token):
            self._length += len(chunk.text)
            self._thought.clear()  # it ends here, without a state
            if self._with_logprobs and (logprobs := logprobs_of([chunk])) is not None:
                return self._delta({"content": chunk.text}, logprobs=logprobs)
            if chunk.state is None:
                return self._text(chunk.text)
            text = self._text(chunk.text) if chunk.text else b""
            return text + self._state(chunk.state, None)
        if isinstance(chunk, Reasoning):
            return self._reasoning(chunk)
        if isinstance(chunk, ToolCall):
            return self._call(chunk)
        if isinstance(chunk, Json) and chunk.complete:
            return self._of_chunk(Token(to_json(chunk.value).decode()))
        if isinstance(chunk, Citation):
            return self._delta({"annotations": [_annotation(chunk)]})
        if isinstance(chunk, FileOutput):
            return self._delta({"images": [_image(chunk)]})
        if isinstance(chunk, Start):
            self._head["model"] = self._head["model"] or chunk.model
        return self._of_structure(chunk)

    def _of_structure(self, chunk: Chunk) -> bytes:
        if isinstance(chunk, End):
            if not chunk.more:
                return self._open_calls(chunk.finish_reason)
            self._is_between = True
        elif isinstance(chunk, ToolResult) and not chunk.preliminary:
            answered = [key for key, call in self._held.items() if call.id == chunk.id]
            for key in answered:
                del self._held[key]
        elif is_restart(chunk):
            if self._has_said and not self._is_between:
                return self._restarted("the answer", "it")
            if not self._is_between:
                self._held = {}
        return b""

    def _call(self, call: ToolCall) -> bytes:
        self._ids.add(call.id)
        if not self._runs_tools:
            return self._tool_call(call)
        self._held[state_key(call)] = call
        return b""

    def _open_calls(self, reason: FinishReason) -> bytes:
        """Return the events for the calls that nobody here has answered."""
        held, self._held = self._held, {}
        return b"" if reason == "cancelled" else b"".join(map(self._tool_call, held.values()))

    def _restarted(self, what: str, it: str) -> bytes:
        error = RestartedStreamError(f"{what} restarted after part of {it} had been sent")
        return self._failed(failure_message(error))

    def _text(self, text: str) -> bytes:
        """Return the event for a piece of text. After the first, events differ only in the text."""
        self._has_said = True
        if not self._has_begun:
            return self._delta({"content": text})
        if self._around_text is None:
            head, _, tail = self._delta({"content": _MARK}).partition(to_json(_MARK))
            self._around_text = head, tail
        head, tail = self._around_text
        return head + to_json(text) + tail

    def _reasoning(self, chunk: Reasoning) -> bytes:
        self._thought.append(chunk.text)
        text = b""
        if chunk.text or chunk.state is None:
            text = self._delta({"reasoning_content": chunk.text})
        if chunk.state is None:
            return text
        thought = "".join(self._thought)
        self._thought.clear()
        return text + self._state(chunk.state, thought)

    def _state(self, state: ProviderState, reasoning: str | None) -> bytes:
        detail = detail_of(state, self._states, self._length, reasoning)
        self._states += 1
        return self._delta({"reasoning_details": [detail]})

    def _tool_call(self, call: ToolCall) -> bytes:
        """Return the event for what is new of a call; all calls of a run are counted."""
        key = state_key(call)
        sent = self._sent.get(key)
        if sent is not None and not call.arguments.startswith(sent):
            return self._restarted(f"the arguments of {call.name}", "them")
        self._sent[key] = call.arguments
        index = list(self._sent).index(key)
        has_new_state = call.state is not None and key not in self._with_state
        if has_new_state:
            self._with_state.add(key)
        if sent is None:
            return self._delta({"tool_calls": [{**_written(call), "index": index}]})
        more: CompletionCall = {
            "index": index,
            "function": {"arguments": call.arguments[len(sent) :]},
        }
        if call.state is not None and has_new_state:
            more["extra_content"] = extra_content(call.state)
        if not (more["function"]["arguments"] or has_new_state):
            return b""
        return self._delta({"tool_calls": [more]})

    def _complete(self, message: Complete) -> bytes:
        if message.finish_reason == "cancelled":
            return self._failed(StreamFailed(code="cancelled", message="the stream was cancelled"))
        reason = message.finish_reason or "stop"
        events = [self._open_calls(reason), self._delta({}, reason)]
        if self._with_usage:
            usage = _usage(message.usage, message.tokens)
            events.append(_event({**self._head, "usage": usage}))
        return b"".join([*events, b"data: [DONE]\n\n"])

    def _failed(self, message: StreamFailed) -> bytes:
        self._has_failed = True
        return _event(OpenAIError(error=error_body(message, status_of_message(message))))

    def _delta(
        self,
        delta: CompletionDelta,
        finish_reason: FinishReason | None = None,
        logprobs: Logprobs | None = None,
    ) -> bytes:
        self._has_said = True
        if not self._has_begun:
            self._has_begun = True
            delta = {"role": "assistant", **delta}
        event: CompletionEvent = {
            **self._head,
            "choices": [
                {
                    "index": 0,
                    "delta": delta,
                    "logprobs": logprobs,
                    "finish_reason": _finish_reason(finish_reason) if finish_reason else None,
                }
            ],
        }
        if finish_reason == "limit":
            event["choices"][0]["native_finish_reason"] = finish_reason
        return _event({**event, "usage": None} if self._with_usage else event)


def _parts(message: StreamChunk) -> tuple[Chunk, ...]:
    """Return the chunks of a message: joined text becomes at most one of each kind."""
    chunk = message.chunk
    if not isinstance(chunk, Batch):
        return (chunk,)
    reasoning = "".join([part.text for part in chunk.chunks if isinstance(part, Reasoning)])
    parts: list[Chunk] = [Reasoning(reasoning)] if reasoning else []
    return (*parts, Token(chunk.text)) if chunk.text else tuple(parts)


def _finish_reason(reason: FinishReason | None) -> FinishReason:
    """Return the reason in the words of this format, which knows no limits of a run."""
    return "length" if reason == "limit" else reason or "stop"


def _event(value: object) -> bytes:
    return b"data: %b\n\n" % to_json(value)


def _written(call: ToolCall) -> CompletionCall:
    function: CalledFunction = {"name": call.name, "arguments": call.arguments}
    written: CompletionCall = {
        "index": call.index,
        "id": call.id,
        "type": "function",
        "function": function,
    }
    if call.state is not None:
        written["extra_content"] = extra_content(call.state)
    return written


def _annotation(citation: Citation) -> Annotation:
    cited: URLCitation = {
        "url": citation.url or "",
        "title": citation.title or "",
        "start_index": citation.start or 0,
        "end_index": citation.end or 0,
    }
    if citation.text is not None:
        cited["content"] = citation.text
    return {"type": "url_citation", "url_citation": cited}


def _image(file: FileOutput) -> OutputImage:
    url = file.url or f"data:{file.media_type};base64,{file.data or ''}"
    return {"type": "image_url", "image_url": {"url": url}}


def _usage(usage: Usage | None, tokens: int) -> OpenAIUsage:
    read = 0 if usage is None else usage.input_tokens
    written = tokens if usage is None else usage.output_tokens
    counts: OpenAIUsage = {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }
    if usage is None:
        return counts
    details: PromptDetails = {}
    if usage.cached_tokens is not None:
        details["cached_tokens"] = usage.cached_tokens
    if usage.cache_write_tokens is not None:
        details["cache_write_tokens"] = usage.cache_write_tokens
    if details:
        counts["prompt_tokens_details"] = details
    if usage.reasoning_tokens is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    if usage.cost is not None:
        counts["cost"] = usage.cost
    if usage.estimated:
        counts["estimated"] = True
    return counts
