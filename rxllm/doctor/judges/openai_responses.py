"""OpenAI's Responses API.

Source: `lib/streaming/responses` of openai-python 3.57, which raises for what is wrong here.
"""

from __future__ import annotations

from typing import Any, Final

from rxllm.doctor.findings import Sheet
from rxllm.doctor.framing import Event
from rxllm.doctor.judges.judge import Judge

__all__ = ["OpenAIResponsesJudge"]

_ENDS: Final = ("response.completed", "response.incomplete", "response.failed")


class OpenAIResponsesJudge(Judge):
    """Judges a response."""

    def __init__(self, sheet: Sheet) -> None:
        super().__init__(sheet)
        self._number = -1
        self._id: str | None = None
        self._items: dict[int, tuple[Any, Any]] = {}  # type and id, by output index
        self._open: set[int] = set()
        self._parts: set[tuple[int, int]] = set()  # item and index of each part of a message

    def event(self, event: Event, value: dict[str, Any]) -> None:
        kind = value.get("type")
        if kind == "error":
            self.failed(value)
            return
        if not isinstance(kind, str):
            self.sheet.wrong("order", f"an event without type: {event.data[:80]}")
            return
        if event.name is not None and event.name != kind:
            self.sheet.odd("framing", f"event: {event.name}, but the type is {kind}")
        if self.ended is not None:
            self.sheet.wrong("order", f"{kind} after {self.ended}")
        self._sequence(value.get("sequence_number"))
        if isinstance(value.get("response"), dict):
            self._response(kind, value["response"])
        elif kind == "response.output_item.added":
            self._added(value)
        elif kind == "response.output_item.done":
            self._finished(value)
        else:
            self._content(kind, value)

    def _sequence(self, number: Any) -> None:
        self.sheet.ok("ids")
        if type(number) is not int:
            self.sheet.odd("ids", f"sequence_number is {number!r}")
        elif number <= self._number:
            self.sheet.wrong("ids", f"sequence_number {number} after {self._number}")
        else:
            self._number = number

    def _response(self, kind: str, response: dict[str, Any]) -> None:
        identity = response.get("id")
        if self._id is None:
            if kind != "response.created":
                self.sheet.wrong("order", f"the first event is {kind}")
            self._id = identity
        elif identity != self._id:
            self.sheet.wrong("ids", f"the id changes from {self._id} to {identity}")
        if kind not in _ENDS:
            return
        self.last(kind)
        if kind == "response.failed":
            self.failed(response.get("error"))
        output = response.get("output")
        listed = len(output) if isinstance(output, list) else 0
        if kind == "response.completed" and any(index >= listed for index in self._open):
            self.sheet.wrong("order", f"completed, but items {sorted(self._open)} aren't done")
        elif kind == "response.completed" and self._open:
            self.sheet.odd("order", f"completed without output_item.done of {sorted(self._open)}")
        if not isinstance(output, list):
            self.sheet.odd("end", f"{kind} without output")
        self.has_usage = isinstance(response.get("usage"), dict)

    def _added(self, value: dict[str, Any]) -> None:
        index, item = value.get("output_index"), value.get("item")
        if type(index) is not int or not isinstance(item, dict):
            self.sheet.wrong("order", "output_item.added without output_index or item")
            return
        if index in self._items:
            self.sheet.wrong("order", f"item {index} is added twice")
        self._items[index] = item.get("type"), item.get("id")
        self._open.add(index)
        if item.get("type") == "function_call":
            self.calls[index] = str(item.get("arguments") or "")
            if not (item.get("call_id") and item.get("name")):
                self.sheet.wrong("tools", "a function call without call_id and name")

    def _finished(self, value: dict[str, Any]) -> None:
        index, item = value.get("output_index"), value.get("item")
        if type(index) is not int or index not in self._open or not isinstance(item, dict):
            self.sheet.wrong("order", f"item {index!r} is done, but isn't open")
            return
        self._open.discard(index)
        kind, identity = self._items[index]
        if item.get("type") != kind or identity not in (None, item.get("id")):
            self.sheet.wrong("ids", f"item {index} is done with another type or id")
        if index not in self.calls:
            return
        sent = self.calls[index]
        self.calls[index] = str(item.get("arguments", ""))
        if sent and sent != self.calls[index]:
            self.sheet.wrong("tools", "the arguments of a call differ from its deltas")

    def _content(self, kind: str, value: dict[str, Any]) -> None:
        index = value.get("output_index")
        if index is None:
            return
        if index not in self._open:
            self.sheet.wrong("order", f"{kind} for item {index!r}, which isn't open")
        elif kind == "response.output_text.delta" and not self._has_part(value):
            self.sheet.wrong("order", "output_text.delta without content_part.added")
        elif kind == "response.content_part.added":
            self._parts.add((index, value["content_index"]))
        elif kind == "response.function_call_arguments.delta":
            self.calls[index] = self.calls.get(index, "") + str(value.get("delta", ""))
        elif kind.endswith(".delta"):
            self.texts += 1

    def _has_part(self, value: dict[str, Any]) -> bool:
        return (value["output_index"], value.get("content_index")) in self._parts
