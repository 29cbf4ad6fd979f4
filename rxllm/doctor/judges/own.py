"""The events of rxllm, over SSE and NDJSON: `rxllm/server/messages.py`."""

from __future__ import annotations

from typing import Any

import msgspec

from rxllm.chunks import End, Usage, has_output
from rxllm.doctor.findings import Sheet
from rxllm.doctor.framing import Event
from rxllm.doctor.judges.judge import Judge
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed

__all__ = ["OwnJudge"]


class OwnJudge(Judge):
    """Judges the messages about a stream."""

    def __init__(self, sheet: Sheet) -> None:
        super().__init__(sheet)
        self._id: str | None = None
        self._position = 0
        self._has_end = False

    def event(self, event: Event, value: dict[str, Any]) -> None:
        try:
            message = msgspec.convert(value, StreamChunk | Complete | StreamFailed)
        except msgspec.ValidationError as error:
            self.sheet.wrong("order", f"a message that no client reads: {error}")
            return
        if self.ended is not None:
            self.sheet.wrong("order", f"{value['type']} after {self.ended}")
        if event.name is not None and event.name != value["type"]:
            self.sheet.wrong("framing", f"event: {event.name}, but the type is {value['type']}")
        self._number(event, message)
        if isinstance(message, StreamChunk):
            self.texts += has_output(message.chunk)
            self._has_end = self._has_end or isinstance(message.chunk, End)
            self.has_usage = self.has_usage or isinstance(message.chunk, Usage)
            return
        self.last(value["type"])
        if isinstance(message, StreamFailed):
            self.failed(message.message)
        elif not self._has_end:
            self.sheet.wrong("order", "complete without an end chunk before it")

    def _number(self, event: Event, message: StreamChunk | Complete | StreamFailed) -> None:
        self.sheet.ok("ids")
        if self._id not in (None, message.id):
            self.sheet.wrong("ids", f"the id changes from {self._id} to {message.id}")
        self._id = message.id
        if message.position is None or message.position <= self._position:
            self.sheet.wrong("ids", f"position {message.position} after {self._position}")
        else:
            self._position = message.position
        if event.id is not None and event.id != str(message.position):
            self.sheet.wrong("ids", f"id: {event.id}, but the position is {message.position}")
