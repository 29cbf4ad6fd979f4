"""Ollama's `/api/chat`.

Source: https://docs.ollama.com/api/chat, and the types of ollama-python 0.6.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rxllm.doctor.framing import Event
from rxllm.doctor.judges.judge import Judge

__all__ = ["OllamaJudge"]


class OllamaJudge(Judge):
    """Judges the lines of an answer."""

    def event(self, event: Event, value: dict[str, Any]) -> None:
        if value.get("error") is not None:
            self.failed(value["error"])
            return
        if self.ended is not None:
            self.sheet.wrong("order", "a line after the one with done")
        message = value.get("message")
        if not isinstance(message, dict):
            self.sheet.wrong("order", f"a line without message: {event.data[:80]}")
            return
        missing = [name for name in ("model", "created_at", "done") if name not in value]
        if missing:
            self.sheet.wrong("order", f"a line without {', '.join(missing)}")
        self.texts += bool(message.get("content") or message.get("thinking"))
        for call in message.get("tool_calls") or []:
            self._call(call)
        if value.get("done"):
            self.last("done")
            self.has_usage = type(value.get("eval_count")) is int
            if not value.get("done_reason"):
                self.sheet.odd("end", "no done_reason")

    def _call(self, call: Any) -> None:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not function.get("name"):
            self.sheet.wrong("tools", "a tool call without function and name")
        elif not isinstance(function.get("arguments"), dict):
            self.sheet.wrong("tools", "the arguments of a tool call are no object")
        else:
            arguments = msgspec.json.encode(function["arguments"]).decode()
            self.calls[len(self.calls)] = arguments
