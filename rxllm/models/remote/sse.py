r"""Server-sent events: bytes in, events out, without any I/O.

The rules are those of the WHATWG HTML standard, section 9.2.6, "Interpreting an event stream"
(https://html.spec.whatwg.org/multipage/server-sent-events.html).

>>> decoder = EventStreamDecoder()
>>> list(decoder.feed(b"data: Hel")), list(decoder.feed(b"lo\n\n"))
([], [ServerSentEvent(data='Hello', type='message', id='')])
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from rxllm.errors import MalformedStreamError
from rxllm.models.remote.coercion import is_json
from rxllm.models.remote.reported_error import is_plain_error
from rxllm.models.remote.state import Comparable

__all__ = [
    "ERROR_EVENTS",
    "EVENT_LIMIT",
    "EVENT_STREAM",
    "EventStreamDecoder",
    "ServerSentEvent",
    "is_event_stream",
]

EVENT_LIMIT: Final = 1 << 25
"""The default maximum number of characters in one event: images come as one, in base64."""

EVENT_STREAM: Final = "text/event-stream"
"""The media type."""

ERROR_EVENTS: Final = ("error", "exception")
"""The types of events that report an error, in lower case."""

_MARK: Final = b"\xef\xbb\xbf"
_BEGINNINGS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_MILLISECONDS: Final = re.compile(r"[0-9]{1,4000}")


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One event: its data (several `data` lines joined by newlines), type and last event id."""

    data: str
    type: str = "message"
    id: str = ""


def is_event_stream(data: bytes) -> bool | None:
    """Return whether a body begins like a stream of events; `None` if more is needed to tell.

    >>> is_event_stream(b"\\n: ping"), is_event_stream(b"<html>"), is_event_stream(b"dat")
    (True, False, None)
    """
    if _MARK.startswith(data):  # or a part of it
        return None
    beginning = data.removeprefix(_MARK).lstrip()
    if any(name.startswith(beginning) for name in _BEGINNINGS):
        return True if beginning in _BEGINNINGS else None
    return beginning.startswith(_BEGINNINGS)


def _is_sentence(line: str) -> bool:
    """Return whether a line is words in place of a field, as in a plain error."""
    return is_plain_error(line) or (":" not in line and " " in line.strip())


class EventStreamDecoder(Comparable):
    """Decodes one stream of events, however its bytes are split.

    A line ends at CR, LF or CRLF, even if a CRLF is split. A byte order mark at the beginning and
    comments are skipped; invalid UTF-8 becomes U+FFFD. An event is complete at the empty line after
    it; `end` returns an incomplete one at the end of the stream, which the standard drops.

    Beyond the standard, JSON, markup and words without `data:` count as data, up to the next empty
    line: that is how some servers report their errors.

    Args:
        limit: the maximum number of characters in one event, or in one line of any kind.

    Attributes:
        last_event_id: the id of the last complete event that had one, for reconnecting.
        retry: milliseconds to wait before reconnecting, or `None` if the server sent none.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self.last_event_id: str = ""
        self.retry: int | None = None
        self._limit = limit
        self._cut = b""  # the beginning of a character
        self._is_first = True
        self._follows_cr = False
        # The beginning of an incomplete line.
        self._begun: list[str] = []
        self._begun_size = 0
        # The event so far.
        self._data: list[str] = []
        self._is_raw = False  # JSON without `data:`
        self._size = 0
        self._type = ""
        self._id = ""

    @property
    def is_between(self) -> bool:
        """True if no part of the next event has arrived."""
        return not (self._begun or self._data or self._type or self._cut or self._follows_cr)

    def feed(self, data: bytes) -> Iterator[ServerSentEvent]:
        """Iterate over the events that `data` completes, to the end before the next call.

        Raises:
            MalformedStreamError: during iteration, after the preceding events: an event or a line
                is longer than `limit`. The decoder can't be used any more.
        """
        data = self._cut + data
        text, used = codecs.utf_8_decode(data, "replace", False)
        self._cut = data[used:]
        if self._is_first or self._follows_cr or "\r" in text:
            text = self._normalised(text)
        if "\n" not in text:
            if text:
                self._begin_line(text)
            return
        if self._begun:
            text = "".join(self._begun) + text
        lines = text.split("\n")
        self._begun.clear()
        self._begun_size = 0
        last = lines.pop()
        held, size, limit = self._data, self._size, self._limit
        for line in lines:
            if line.startswith("data:"):
                if self._is_raw and is_json("\n".join(held)):  # no empty line in between
                    yield ServerSentEvent("\n".join(held), self._type or "message", self._id)
                    held.clear()
                    self._is_raw, size = False, 0
                size += len(line)
                if size > limit:
                    raise self._too_long()
                held.append(line[6:] if line.startswith(" ", 5) else line[5:])
            elif line:
                self._size = size
                self._field(line)
                size = self._size
            else:
                self.last_event_id = self._id
                if held or self._type in ERROR_EVENTS:
                    joined = held[0] if len(held) == 1 else "\n".join(held)
                    yield ServerSentEvent(joined, self._type or "message", self._id)
                    held.clear()
                self._type, self._is_raw, size = "", False, 0
        self._size = size
        if last:
            self._begin_line(last)

    def end(self) -> ServerSentEvent | None:
        """Return the last event, if the stream ended before the empty line after it.

        Its data may have been cut off.

        Raises:
            MalformedStreamError: as `feed`.
        """
        events = [*self.feed(b"\n"), *self.feed(b"\n")]
        return events[-1] if events else None

    def _normalised(self, text: str) -> str:
        """The text with LF as the only line ending."""
        if not text:
            return text
        if self._is_first:
            self._is_first = False
            text = text.removeprefix("\ufeff")
        if self._follows_cr:
            self._follows_cr = False
            text = text.removeprefix("\n")
        if "\r" in text:
            # The line ends here already; an LF that follows belongs to it.
            self._follows_cr = text.endswith("\r")
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return text

    def _begin_line(self, text: str) -> None:
        self._begun.append(text)
        self._begun_size += len(text)
        if self._size + self._begun_size > self._limit:
            raise self._too_long()

    def _field(self, line: str) -> None:
        """Process a line that is neither empty nor data with a colon."""
        if self._size + len(line) > self._limit:
            raise self._too_long()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._type = value.lower() if value.lower() in ERROR_EVENTS else value
        elif name == "error" and value:  # of older servers of llama.cpp
            self._type = name
            self._data.append(value)
            self._size += len(line)
        elif name == "data":
            self._data.append(value)
            self._size += len(line)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and _MILLISECONDS.fullmatch(value):
            self.retry = int(value)
        elif self._is_raw or line.lstrip()[:1] in ("{", "[", "<") or _is_sentence(line):
            self._is_raw = True
            self._data.append(line)
            self._size += len(line)

    def _too_long(self) -> MalformedStreamError:
        return MalformedStreamError(
            f"an event of the stream exceeds the limit of {self._limit} characters"
        )
