"""The events of a body, cut strictly, as the clients in use cut them.

Sources: the WHATWG HTML standard, section 9.2.6 (server-sent events); httpx-sse's decoder, which
dispatches an event for each empty line behind a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from rxllm.doctor.findings import Sheet

__all__ = ["Event", "cut_events", "cut_lines", "json_objects"]

_FIELDS: Final = ("data", "event", "id", "retry")
_MANY_MALFORMED: Final = 3


class Event(msgspec.Struct, frozen=True):
    """An event: its data, and its name and id if it has them."""

    data: str
    name: str | None = None
    id: str | None = None


def _text(body: bytes, sheet: Sheet) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        sheet.wrong("framing", "the body isn't UTF-8")
        return body.decode(errors="replace")


def cut_events(body: bytes, sheet: Sheet) -> list[Event]:
    """Return the server-sent events of a body."""
    lines = re.split("\r\n|\n|\r", _text(body, sheet).removeprefix("\ufeff"))
    sheet.ok("framing")
    events: list[Event] = []
    block: list[str] = []
    for line in lines:
        if line:
            block.append(line)
            continue
        event = _event(block, sheet)
        if event is not None:
            events.append(event)
        block = []
    if any(not line.startswith(":") for line in block):
        sheet.wrong("framing", f"no empty line behind the last event: {block[-1]!r}")
    return events


def _event(block: list[str], sheet: Sheet) -> Event | None:
    data: list[str] = []
    name = identity = None
    for line in block:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "":
            sheet.ok("heartbeats")
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id":
            identity = value
        elif field not in _FIELDS:
            sheet.wrong("framing", f"a line that isn't a field of an event: {line[:80]!r}")
    if block and all(line.startswith(":") for line in block):
        sheet.odd("heartbeats", "an empty line behind a comment is an empty event to httpx-sse")
    return Event("\n".join(data), name, identity) if data else None


def cut_lines(body: bytes, sheet: Sheet) -> list[Event]:
    """Return the lines of a body in NDJSON."""
    text = _text(body, sheet)
    sheet.ok("framing")
    lines = text.split("\n")
    if lines.pop().strip():
        sheet.wrong("framing", "no line break behind the last line")
    if any(line and not line.strip() for line in lines) or "\n\n" in text:
        sheet.odd("heartbeats", "an empty line is a malformed one to some clients")
    return [Event(line) for line in lines if line.strip()]


def json_objects(
    events: list[Event], sheet: Sheet
) -> Iterator[tuple[Event, dict[str, Any] | None]]:
    """Yield each event with its object; `None` for `[DONE]`."""
    malformed = 0
    for event in events:
        data = event.data.strip()
        if data == "[DONE]":
            yield event, None
        elif not data or data.startswith(":"):
            sheet.odd("heartbeats", "heartbeats are events with data, not comments")
        else:
            value = _decoded(data)
            if isinstance(value, dict):
                yield event, value
            elif data.startswith("{"):
                malformed += 1
            else:
                sheet.wrong("framing", f"an event that isn't a JSON object: {data[:80]!r}")
    if malformed >= _MANY_MALFORMED:
        sheet.wrong("framing", f"{malformed} events are malformed JSON")
    elif malformed:
        sheet.odd("framing", "an event is malformed JSON, which the clients of OpenAI refuse")


def _decoded(data: str) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
