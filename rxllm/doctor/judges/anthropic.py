"""Anthropic's messages.

Source: the event types of anthropic-sdk-python 2.14, and the order that its accumulator enforces.
"""

from __future__ import annotations

from typing import Any, Final

from rxllm.doctor.findings import Sheet, Verdict
from rxllm.doctor.framing import Event
from rxllm.doctor.judges.judge import Judge

__all__ = ["AnthropicJudge"]

_REASONS: Final = (
    *("end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal"),
    "model_context_window_exceeded",
)
_OF_PREVIEWS: Final = ("compaction",)
_DELTAS: Final = {
    "text": ("text_delta", "citations_delta"),
    "thinking": ("thinking_delta", "signature_delta"),
    "tool_use": ("input_json_delta",),
}


class AnthropicJudge(Judge):
    """Judges a message."""

    def __init__(self, sheet: Sheet) -> None:
        super().__init__(sheet)
        self._has_started = False
        self._has_reason = False
        self._blocks = 0
        self._open: str | None = None  # the type of the open block

    def event(self, event: Event, value: dict[str, Any]) -> None:
        kind = value.get("type")
        if kind == "error" or value.get("error") is not None:
            self.failed(value.get("error"))
            return
        if event.name is None and kind != "ping":
            self.sheet.wrong("framing", f"{kind} has no event: line, and is skipped by the SDKs")
        elif event.name not in (None, kind):
            self.sheet.wrong("framing", f"event: {event.name}, but the type is {kind}")
        if self.ended is not None:
            self.sheet.wrong("order", f"{kind} after message_stop")
        if kind not in ("message_start", "ping") and not self._has_started:
            self.sheet.wrong("order", f"{kind} before message_start")
        self._dispatch(kind, value)

    def _dispatch(self, kind: Any, value: dict[str, Any]) -> None:
        match kind:
            case "message_start":
                self._message_start(value)
            case "content_block_start":
                self._content_block_start(value)
            case "content_block_delta":
                self._content_block_delta(value)
            case "content_block_stop":
                self._content_block_stop(value)
            case "message_delta":
                self._message_delta(value)
            case "message_stop":
                self._message_stop(value)
            case "ping":
                pass
            case _:
                self.sheet.odd("order", f"an unknown event {kind!r}")

    def _message_start(self, value: dict[str, Any]) -> None:
        if self._has_started:
            self.sheet.wrong("order", "message_start comes twice")
        self._has_started = True
        message = value.get("message")
        if not isinstance(message, dict):
            self.sheet.wrong("order", "message_start without a message")
            return
        self.sheet.ok("ids")
        missing = [name for name in ("id", "role", "model", "content") if name not in message]
        if missing:
            self.sheet.wrong("ids", f"the message has no {', '.join(missing)}")
        if not isinstance(message.get("usage"), dict):
            self.sheet.wrong("usage", "message_start has no usage")

    def _content_block_start(self, value: dict[str, Any]) -> None:
        if self._open is not None:
            self.sheet.wrong("order", "a block begins before the one before has stopped")
        if value.get("index") != self._blocks:
            self.sheet.wrong("order", f"block {self._blocks} has the index {value.get('index')!r}")
        self._blocks += 1
        block = value.get("content_block")
        self._open = str(block.get("type")) if isinstance(block, dict) else ""
        if isinstance(block, dict) and self._open == "tool_use":
            if not (block.get("id") and block.get("name")):
                self.sheet.wrong("tools", "a tool_use block without id and name")
            self.calls[self._blocks] = ""

    def _content_block_delta(self, value: dict[str, Any]) -> None:
        delta = value.get("delta")
        kind = delta.get("type") if isinstance(delta, dict) else None
        if self._open is None or value.get("index") != self._blocks - 1:
            self.sheet.wrong("order", f"a delta of block {value.get('index')!r}, which isn't open")
        elif not isinstance(delta, dict):
            self.sheet.wrong("order", "a delta that isn't an object")
        elif kind not in _DELTAS.get(self._open, (kind,)):
            is_known = any(kind in kinds for kinds in _DELTAS.values())
            verdict: Verdict = "wrong" if is_known else "odd"
            self.sheet.note("order", verdict, f"a {kind} in a block of {self._open}")
        elif kind != "input_json_delta":
            self.texts += 1
        elif self._blocks in self.calls:  # of a block that the client is to answer
            self.calls[self._blocks] += str(delta.get("partial_json", ""))

    def _content_block_stop(self, value: dict[str, Any]) -> None:
        if self._open is None or value.get("index") != self._blocks - 1:
            self.sheet.wrong("order", f"block {value.get('index')!r} stops, but isn't open")
        self._open = None

    def _message_delta(self, value: dict[str, Any]) -> None:
        delta = value.get("delta")
        reason = delta.get("stop_reason") if isinstance(delta, dict) else None
        if self._open is not None:
            self.sheet.odd("order", "message_delta before the last block has stopped")
        if isinstance(value.get("usage"), dict):
            self.has_usage = True
        if not isinstance(delta, dict):
            self.sheet.wrong("order", "message_delta without delta")
        if reason is None:
            return
        self._has_reason = True
        if not isinstance(reason, str):
            self.sheet.odd("end", f"stop_reason is {reason!r}, not a string")
        elif reason not in _REASONS:
            verdict: Verdict = "odd" if reason in _OF_PREVIEWS else "wrong"
            self.sheet.note("end", verdict, f"stop_reason is {reason!r}, not one of {_REASONS}")

    def _message_stop(self, value: dict[str, Any]) -> None:
        if self._open is not None:
            self.sheet.wrong("order", "message_stop before the last block has stopped")
        if not self._has_reason:
            self.sheet.wrong("end", "message_stop without a stop_reason before it")
        self.last("message_stop")
