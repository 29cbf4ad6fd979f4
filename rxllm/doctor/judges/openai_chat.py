"""Chat completions.

Source: the types of openai-python 3.57 (`types/chat`), and what its streaming helper reads.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from rxllm.doctor.findings import Sheet
from rxllm.doctor.framing import Event
from rxllm.doctor.judges.judge import Judge

__all__ = ["OpenAIChatJudge"]

_TEXTS: Final = ("content", "refusal", "reasoning_content", "reasoning")
_REASONS: Final = ("stop", "length", "tool_calls", "content_filter", "function_call")


class OpenAIChatJudge(Judge):
    """Judges a chat completion of one choice."""

    has_done: ClassVar[bool] = True

    def __init__(self, sheet: Sheet) -> None:
        super().__init__(sheet)
        self._id: str | None = None
        self._reasons: set[str] = set()

    def event(self, event: Event, value: dict[str, Any]) -> None:
        if value.get("error") is not None:
            self.failed(value["error"])
            return
        choices = value.get("choices")
        if not isinstance(choices, list):
            self.sheet.wrong("order", f"an event without choices: {event.data[:80]}")
            return
        self._envelope(value)
        if isinstance(value.get("usage"), dict):
            self.has_usage = True
        for choice in choices:
            if isinstance(choice, dict):
                self._choice(choice)
            else:
                self.sheet.wrong("order", f"a choice that isn't an object: {choice!r}")

    def _envelope(self, value: dict[str, Any]) -> None:
        sheet, identity = self.sheet, value.get("id")
        sheet.ok("ids")
        if not identity or not isinstance(identity, str):
            sheet.odd("ids", "an event without id")
        elif self._id not in (None, identity):
            sheet.odd("ids", f"the id changes from {self._id} to {identity}")
        else:
            self._id = identity
        if value.get("object") != "chat.completion.chunk":
            sheet.odd("order", f"object is {value.get('object')!r}, not 'chat.completion.chunk'")
        if not isinstance(value.get("created"), int):
            sheet.odd("order", f"created is {value.get('created')!r}, not Unix seconds")

    def _choice(self, choice: dict[str, Any]) -> None:
        if type(choice.get("index")) is not int:
            self.sheet.odd("order", f"the index of a choice is {choice.get('index')!r}")
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            self.sheet.wrong("order", f"a choice without delta: {choice!r}")
            return
        content = delta.get("content")
        if content is not None and not isinstance(content, str):
            self.sheet.odd("order", f"content is {content!r}, not a string")
        calls = delta.get("tool_calls") or []
        if self.ended is not None and (content or calls):
            self.sheet.wrong("order", "output after the finish reason")
        self.texts += any(delta.get(name) for name in _TEXTS)
        for call in calls:
            self._call(call)
        self._reason(choice.get("finish_reason"))

    def _reason(self, reason: Any) -> None:
        if reason is None or reason == "":
            return
        if reason not in _REASONS:
            self.sheet.wrong("end", f"finish_reason is {reason!r}, not one of {_REASONS}")
        elif self.calls and reason == "stop":
            self.sheet.odd("tools", "finish_reason is 'stop' after tool calls")
        if self.ended is not None and self._reasons == {reason}:
            self.sheet.odd("end", "finish_reason comes twice")
        else:
            self.last("finish_reason")
        self._reasons.add(reason)

    def _call(self, call: Any) -> None:
        index = call.get("index") if isinstance(call, dict) else None
        function = call.get("function") if isinstance(call, dict) else None
        if type(index) is not int or not isinstance(function, dict):
            self.sheet.wrong("tools", f"a tool call without index or function: {call!r}")
            return
        if index not in self.calls:
            if not (call.get("id") and function.get("name")):
                self.sheet.wrong("tools", f"tool call {index} begins without id and name")
            if index != len(self.calls):
                self.sheet.wrong("tools", f"tool call {index} follows {len(self.calls)} others")
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            self.sheet.wrong("tools", f"the arguments of a call aren't a string: {arguments!r}")
        else:
            self.calls[index] = self.calls.get(index, "") + arguments
