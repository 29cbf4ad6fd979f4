"""What the rules of all wire formats have in common."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from rxllm.doctor.findings import Sheet
from rxllm.doctor.framing import Event

__all__ = ["Judge", "is_json_object"]


class Judge:
    """Judges one stream, event by event.

    Args:
        sheet: takes the verdicts.

    Attributes:
        texts: number of pieces of text.
        calls: the arguments of each tool call, by the key that the wire names it with.
    """

    has_done: ClassVar[bool] = False
    """Whether `[DONE]` is the last event."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.texts = 0
        self.calls: dict[Any, str] = {}
        self.has_usage: bool = False
        self.ended: str | None = None  # the event that has ended the stream
        self.done: bool = False

    def judge(self, event: Event, value: dict[str, Any] | None) -> None:
        """Judge an event; `value` is `None` for `[DONE]`."""
        if self.done:
            self.sheet.wrong("end", "an event after [DONE]")
        elif value is not None:
            try:
                self.event(event, value)
            except (TypeError, ValueError, KeyError, AttributeError):
                self.sheet.wrong("order", f"a field of another type: {event.data[:120]}")
        elif self.has_done:
            self.done = True
        else:
            self.sheet.odd("end", "[DONE] doesn't belong to this wire")

    def event(self, event: Event, value: dict[str, Any]) -> None:
        """Judge an event other than `[DONE]`."""
        raise NotImplementedError

    def finish(self) -> None:
        """Judge what has come in all, when the stream has ended."""
        self.sheet.ok("order", "end")
        if self.ended is None:
            self.sheet.wrong("end", "the stream ends without an event that says so")
        if self.has_done and not self.done:
            self.done_is_missing()
        if self.has_usage:
            self.sheet.ok("usage")
        else:
            self.sheet.odd("usage", "no usage")
        for arguments in self.calls.values():
            self.sheet.ok("tools")
            if self.ended is not None and not is_json_object(arguments or "{}"):
                self.sheet.wrong(
                    "tools", f"arguments that aren't a JSON object: {arguments[:80]!r}"
                )

    def done_is_missing(self) -> None:
        """The body ended without `[DONE]`."""
        self.sheet.wrong("end", "[DONE] is missing")

    def last(self, name: str) -> None:
        """An event that ends the stream has come."""
        if self.ended is not None:
            self.sheet.wrong("end", f"{name} after {self.ended}")
        self.ended = name

    def failed(self, error: Any) -> None:
        """The server has reported an error."""
        message = error.get("message", error) if isinstance(error, dict) else error
        self.sheet.wrong("response", f"an error in the stream: {message}")


def is_json_object(text: str) -> bool:
    """Return whether a text is a JSON object."""
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False
