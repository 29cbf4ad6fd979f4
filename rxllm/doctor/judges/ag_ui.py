"""AG-UI 1.0.

Source: `verify.ts` of `@ag-ui/client` 1.0, which raises for what is wrong here.
"""

from __future__ import annotations

from typing import Any, Final

from rxllm.doctor.findings import Sheet
from rxllm.doctor.framing import Event
from rxllm.doctor.judges.judge import Judge

__all__ = ["AGUIJudge"]

_FAMILIES: Final = {
    "TEXT_MESSAGE": "messageId",
    "REASONING_MESSAGE": "messageId",
    "REASONING": "messageId",
    "TOOL_CALL": "toolCallId",
}
_STEPS: Final = ("START", "CONTENT", "ARGS", "END")


class AGUIJudge(Judge):
    """Judges a run."""

    def __init__(self, sheet: Sheet) -> None:
        super().__init__(sheet)
        self._has_started = False
        self._open: set[tuple[str, Any]] = set()

    def event(self, event: Event, value: dict[str, Any]) -> None:
        kind = value.get("type")
        if not isinstance(kind, str):
            self.sheet.wrong("order", f"an event without type: {event.data[:80]}")
            return
        if not self._has_started and kind not in ("RUN_STARTED", "RUN_ERROR"):
            self.sheet.wrong("order", f"the first event is {kind}")
        self._has_started = True
        if kind == "RUN_STARTED" and self.ended == "RUN_FINISHED":
            self.ended = None  # another run
        if self.ended is not None:
            self.sheet.wrong("order", f"{kind} after {self.ended}")
        family, _, step = kind.rpartition("_")
        if family in _FAMILIES and step in _STEPS:
            self._part(family, step, value)
        elif kind in ("STEP_STARTED", "STEP_FINISHED"):
            self._step(kind, value.get("stepName"))
        elif kind == "TEXT_MESSAGE_CHUNK":
            self.texts += 1
        elif kind == "TOOL_CALL_CHUNK":
            self.calls[value.get("toolCallId")] = ""
        elif kind in ("RUN_FINISHED", "RUN_ERROR"):
            self._finished(kind, value)

    def finish(self) -> None:
        super().finish()
        self.sheet.ok("ids")

    def _part(self, family: str, step: str, value: dict[str, Any]) -> None:
        identity = value.get(_FAMILIES[family])
        part = (family, identity)
        if step == "START":
            if not identity or part in self._open:
                self.sheet.wrong("ids", f"{family}_START of {identity!r}, open or without id")
            self._open.add(part)
            if family == "TOOL_CALL":
                self.calls[identity] = ""
                if not value.get("toolCallName"):
                    self.sheet.wrong("tools", "TOOL_CALL_START without toolCallName")
        elif part not in self._open:
            self.sheet.wrong("ids", f"{family}_{step} of {identity!r}, which isn't open")
        elif step == "END":
            self._open.discard(part)
        elif step == "ARGS":
            self.calls[identity] = self.calls.get(identity, "") + str(value.get("delta", ""))
        else:
            self.texts += 1

    def _step(self, kind: str, name: Any) -> None:
        part = ("STEP", name)
        if kind == "STEP_STARTED":
            self._open.add(part)
            return
        if part not in self._open:
            self.sheet.wrong("order", f"step {name!r} is finished, but hasn't started")
        self._open.discard(part)

    def _finished(self, kind: str, value: dict[str, Any]) -> None:
        if kind == "RUN_ERROR":
            self.failed(value)
        elif self._open:
            self.sheet.wrong("order", f"RUN_FINISHED, but these are open: {self._open}")
        self.has_usage = self.has_usage or bool(value.get("usage"))
        self.last(kind)
