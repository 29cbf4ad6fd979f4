"""Convert streams to the events of Anthropic's messages.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from rxllm.chunks import Citation, FinishReason, ProviderState, ToolCall, Usage
from rxllm.messages import ReasoningPart, TextPart
from rxllm.result import Result
from rxllm.web.blocks import BlockWriter, OpenCall, call_input
from rxllm.web.carried_states import state_text
from rxllm.web.encoding import to_json
from rxllm.web.failures import status_of_message
from rxllm.web.stream_messages import Complete, StreamFailed
from rxllm.web.wire import EVENT_STREAM, WireFormat

__all__ = ["ANTHROPIC_WIRE", "AnthropicWriter", "error_body", "message_of"]

_PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
_STOP_REASONS: Final[dict[FinishReason | None, str]] = {
    "length": "max_tokens",
    "limit": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(message: StreamFailed, status: int) -> dict[str, Any]:
    """Return an error in Anthropic's format."""
    text = message.message
    if message.code == "context_length":
        text = f"prompt is too long: {text}"  # clients look for these words
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": text}}


class AnthropicWriter(BlockWriter):
    """Writes one stream as the events of a message.

    A restart after the first block, and any failure, is an `error` event, after which nothing
    follows. The states of other providers are in signatures, and in blocks of redacted thinking if
    they belong to a text or a call: the client sends them back as they are. Files aren't sent.
    """

    is_sequential: ClassVar[bool] = True

    def begin(self) -> None:
        message = {
            **_envelope(self.stream_id, self.model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 1},
        }
        self._event("message_start", message=message)

    def open_text(self) -> None:
        self._start({"type": "text", "text": ""})

    def text(self, text: str) -> None:
        self._delta({"type": "text_delta", "text": text})

    def close_text(self, state: ProviderState | None) -> None:
        self._stop()
        if state is not None:
            self._carry(state_text(state, "text"))

    def open_reasoning(self) -> None:
        self._start({"type": "thinking", "thinking": "", "signature": ""})

    def reasoning(self, text: str) -> None:
        self._delta({"type": "thinking_delta", "thinking": text})

    def close_reasoning(self, state: ProviderState | None) -> None:
        if state is not None:
            self._delta({"type": "signature_delta", "signature": state_text(state)})
        self._stop()

    def open_call(self, opened: OpenCall) -> None:
        self._start(_tool_use(opened.call, {}))

    def arguments(self, opened: OpenCall, more: str) -> None:
        self._delta({"type": "input_json_delta", "partial_json": more}, opened.block)

    def close_call(self, opened: OpenCall) -> None:
        self._stop()
        if opened.call.state is not None:
            self._carry(state_text(opened.call.state, "call", opened.call.id))

    def citation(self, citation: Citation) -> None:
        if not self.is_in_text:
            return  # a citation is part of a text
        self._delta({"type": "citations_delta", "citation": _citation(citation)})

    def finish(self, message: Complete) -> None:
        self._event(
            "message_delta",
            delta=_ending(
                message.finish_reason, None if self.end is None else self.end.stop_sequence
            ),
            usage=_usage(message.usage, message.tokens),
        )
        self._event("message_stop")

    def fail(self, message: StreamFailed) -> None:
        self._event("error", error=error_body(message, status_of_message(message))["error"])

    def _start(self, block: dict[str, Any]) -> None:
        self._event("content_block_start", index=self.blocks, content_block=block)

    def _delta(self, delta: dict[str, Any], block: int | None = None) -> None:
        index = self.blocks - 1 if block is None else block
        self._event("content_block_delta", index=index, delta=delta)

    def _stop(self) -> None:
        self._event("content_block_stop", index=self.blocks - 1)

    def _carry(self, data: str) -> None:
        self._start({"type": "redacted_thinking", "data": data})
        self.blocks += 1
        self._stop()

    def _event(self, kind: str, **fields: Any) -> None:
        self.emit(b"event: %b\ndata: %b\n\n" % (kind.encode(), to_json({"type": kind, **fields})))


ANTHROPIC_WIRE: Final = WireFormat("anthropic", EVENT_STREAM, AnthropicWriter, _PING)


def message_of(result: Result, message_id: str, model: str) -> dict[str, Any]:
    """Return a complete message."""
    content: list[dict[str, Any]] = []
    for part in result.parts:
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text, "citations": None})
        elif isinstance(part, ReasoningPart):
            signature = "" if part.state is None else state_text(part.state)
            content.append({"type": "thinking", "thinking": part.text, "signature": signature})
        elif isinstance(part, ToolCall):
            content.append(_tool_use(part, _input_of(part)))
        content += _carried(part)
    texts = [block for block in content if block["type"] == "text"]
    if result.citations and texts:
        texts[-1]["citations"] = [_citation(each) for each in result.citations]
    return {
        **_envelope(message_id, model),
        "content": content,
        **_ending(result.finish_reason, result.stop_sequence),
        "usage": _usage(result.usage, result.timings.tokens),
    }


def _carried(part: object) -> list[dict[str, Any]]:
    """Return the block with the state of a text or a call."""
    if isinstance(part, TextPart) and part.state is not None:
        return [{"type": "redacted_thinking", "data": state_text(part.state, "text")}]
    if isinstance(part, ToolCall) and part.state is not None:
        return [{"type": "redacted_thinking", "data": state_text(part.state, "call", part.id)}]
    return []


def _envelope(message_id: str, model: str) -> dict[str, Any]:
    return {"id": message_id, "type": "message", "role": "assistant", "model": model}


def _tool_use(call: ToolCall, given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given}


def _input_of(call: ToolCall) -> dict[str, Any]:
    try:
        given = call_input(call)
    except ValueError:
        return {"INVALID_JSON": call.arguments}  # as Anthropic's guide has it
    return given if isinstance(given, dict) else {"INVALID_JSON": call.arguments}


def _citation(citation: Citation) -> dict[str, Any]:
    return {
        "type": "web_search_result_location",
        "url": citation.url or "",
        "title": citation.title,
        "cited_text": citation.text or "",
        "encrypted_index": "",
    }


def _ending(reason: FinishReason | None, sequence: str | None) -> dict[str, Any]:
    usual = "end_turn" if sequence is None else "stop_sequence"
    return {"stop_reason": _STOP_REASONS.get(reason, usual), "stop_sequence": sequence}


def _usage(usage: Usage | None, tokens: int) -> dict[str, Any]:
    """Return the counts; those of the cache aren't part of the input here."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": tokens}
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    counts: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - cached - written),
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
    }
    if usage.reasoning_tokens is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts
