"""Convert streams to the lines of Ollama's own API.

Source: https://docs.ollama.com/api/chat and .../api/generate.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

from rxllm.chunks import FinishReason, ProviderState, ToolCall, Usage
from rxllm.web.blocks import BlockWriter, OpenCall, call_input
from rxllm.web.encoding import to_json
from rxllm.web.stream_messages import Complete, StreamFailed
from rxllm.web.wire import NDJSON, WireFormat

__all__ = ["OLLAMA_WIRE", "OllamaWriter", "call_fields", "timestamp"]

_NANOSECONDS: Final = 1e9
_DONE_REASONS: Final[dict[FinishReason | None, str]] = {"length": "length", "limit": "length"}


def timestamp(seconds: float) -> str:
    """Return a time in Unix seconds as in RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


class OllamaWriter(BlockWriter):
    """Writes one stream as lines of JSON.

    A call is one line, when it is complete. A restart after the first line, and a failure, is a
    line with an `error`. Citations and files aren't sent, nor the states of providers.

    Args:
        stream_id, model, runs_tools: as in `BlockWriter`.
        generates: whether this is the answer of `/api/generate`, instead of `/api/chat`.
    """

    def __init__(
        self,
        stream_id: str,
        *,
        model: str | None = None,
        runs_tools: bool = False,
        generates: bool = False,
    ) -> None:
        super().__init__(stream_id, model=model, runs_tools=runs_tools)
        self._generates = generates
        self._began_at = time.monotonic()
        self._first_at: float | None = None

    def begin(self) -> None:
        pass

    def open_text(self) -> None:
        pass

    def text(self, text: str) -> None:
        self._line(text)

    def close_text(self, state: ProviderState | None) -> None:
        pass

    def open_reasoning(self) -> None:
        pass

    def reasoning(self, text: str) -> None:
        self._line("", thinking=text)

    def close_reasoning(self, state: ProviderState | None) -> None:
        pass

    def open_call(self, opened: OpenCall) -> None:
        pass

    def arguments(self, opened: OpenCall, more: str) -> None:
        pass

    def close_call(self, opened: OpenCall) -> None:
        self._line("", tool_calls=[call_fields(opened.call)])

    def finish(self, message: Complete) -> None:
        reason = _DONE_REASONS.get(message.finish_reason, "stop")
        self.emit(self.last_line(message.usage, message.tokens, reason))

    def fail(self, message: StreamFailed) -> None:
        self.emit(to_json({"error": message.message}) + b"\n")

    def last_line(self, usage: Usage | None, tokens: int, reason: str, **said: Any) -> bytes:
        """Return the line of the end, or a whole answer with what was said."""
        now = time.monotonic()
        first = now if self._first_at is None else self._first_at
        counts = {
            "done_reason": reason,
            "total_duration": int((now - self._began_at) * _NANOSECONDS),
            "load_duration": 0,
            "prompt_eval_count": 0 if usage is None else usage.input_tokens,
            "prompt_eval_duration": int((first - self._began_at) * _NANOSECONDS),
            "eval_count": tokens if usage is None else usage.output_tokens,
            "eval_duration": int((now - first) * _NANOSECONDS),
        }
        return to_json({**self._head(**said), "done": True, **counts}) + b"\n"

    def _line(self, text: str, **more: Any) -> None:
        if self._first_at is None:
            self._first_at = time.monotonic()
        self.emit(to_json({**self._head(text, **more), "done": False}) + b"\n")

    def _head(self, text: str = "", **more: Any) -> dict[str, Any]:
        head = {"model": self.model, "created_at": timestamp(time.time())}
        if self._generates:
            return {**head, "response": text, **more}
        return {**head, "message": {"role": "assistant", "content": text, **more}}


OLLAMA_WIRE: Final = WireFormat("ollama", NDJSON, OllamaWriter, ping=b" ")


def call_fields(call: ToolCall) -> dict[str, Any]:
    """Return a call."""
    try:
        given = call_input(call)
    except ValueError:
        given = {"INVALID_JSON": call.arguments}
    return {"id": call.id, "function": {"name": call.name, "arguments": given}}
