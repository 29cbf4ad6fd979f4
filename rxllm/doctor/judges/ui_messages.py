"""UI messages of the AI SDK, version 1 of the stream.

Source: `process-ui-message-stream.ts` of npm `ai` 7.0. It throws for ids that weren't opened; a
message without its end stays unfinished in the interface.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from rxllm.doctor.findings import Sheet
from rxllm.doctor.framing import Event
from rxllm.doctor.judges.judge import Judge

__all__ = ["UIMessagesJudge"]

_REASONS: Final = (
    *("stop", "length", "content-filter", "tool-calls", "error", "interrupted", "other"),
)
_STEPS: Final = ("start", "delta", "end")
_OF_CALLS: Final = ("tool-output-", "tool-approval-request")


class UIMessagesJudge(Judge):
    """Judges a message."""

    has_done: ClassVar[bool] = True

    def __init__(self, sheet: Sheet) -> None:
        super().__init__(sheet)
        self._open: set[tuple[str, Any]] = set()
        self._seen: set[Any] = set()  # ids of calls
        self._count = 0

    def event(self, event: Event, value: dict[str, Any]) -> None:
        kind = value.get("type")
        if not isinstance(kind, str):
            self.sheet.wrong("order", f"an event without type: {event.data[:80]}")
            return
        if event.name is not None:
            self.sheet.odd("framing", "the events have names, which the wire hasn't")
        if self._count == 0 and kind not in ("start", "error", "abort"):
            self.sheet.odd("order", f"the first event is {kind}")
        self._count += 1
        if self.ended is not None and self.ended != "error":
            self.sheet.odd("order", f"{kind} after {self.ended}")
        family, _, step = kind.rpartition("-")
        if family in ("text", "reasoning") and step in _STEPS:
            self._part(family, step, value.get("id"), value.get("delta"))
        elif kind.startswith("tool-"):
            self._call(kind, value)
        elif kind == "reset-step":
            self._open.clear()
        elif kind in ("finish", "abort", "error"):
            self._finished(kind, value)
        elif isinstance(value.get("messageMetadata"), dict) and "usage" in value["messageMetadata"]:
            self.has_usage = True

    def finish(self) -> None:
        super().finish()
        self.sheet.ok("ids")
        if self._open and self.ended == "finish":
            self.sheet.odd("order", f"these parts never end: {sorted(map(str, self._open))}")

    def done_is_missing(self) -> None:
        self.sheet.odd("end", "[DONE] is missing")

    def _part(self, family: str, step: str, identity: Any, delta: Any) -> None:
        part = (family, identity)
        if step == "start":
            self._open.add(part)
        elif part not in self._open:
            self.sheet.wrong("ids", f"{family}-{step} of {identity!r}, which isn't open")
        elif step == "end":
            self._open.discard(part)
        elif isinstance(delta, str):
            self.texts += 1
        else:
            self.sheet.wrong("order", f"{family}-delta with the delta {delta!r}")

    def _call(self, kind: str, value: dict[str, Any]) -> None:
        identity = value.get("toolCallId")
        if kind in ("tool-input-start", "tool-input-available", "tool-input-error"):
            if not value.get("toolName"):
                self.sheet.wrong("tools", f"{kind} without toolName")
            self._seen.add(identity)
            if kind == "tool-input-start" and value.get("inputEncoding") != "text":
                self.calls.setdefault(identity, "")
            elif kind == "tool-input-error":
                self.calls[identity] = ""  # it says itself that they are broken
            elif kind == "tool-input-available":
                self.calls.setdefault(identity, "")
        elif kind == "tool-input-delta":
            if identity not in self._seen:
                self.sheet.wrong("tools", f"{kind} of {identity!r}, which hasn't started")
            if identity in self.calls:
                self.calls[identity] += str(value.get("inputTextDelta", ""))
        elif kind.startswith(_OF_CALLS) and identity not in self._seen:
            self.sheet.wrong("tools", f"{kind} of {identity!r}, which was never called")

    def _finished(self, kind: str, value: dict[str, Any]) -> None:
        if kind == "error":
            self.failed(value.get("errorText"))
        metadata = value.get("messageMetadata")
        if isinstance(metadata, dict) and "usage" in metadata:
            self.has_usage = True
        reason = value.get("finishReason")
        if reason is not None and reason not in _REASONS:
            self.sheet.wrong("end", f"finishReason is {reason!r}, not one of {_REASONS}")
        self.ended = kind
