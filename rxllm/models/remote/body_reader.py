"""Turns the bytes of a response body into chunks, without any I/O."""

from __future__ import annotations

from copy import deepcopy
from typing import Final

from rxllm.chunks import Chunk, Reasoning, Token
from rxllm.errors import RxLLMError
from rxllm.models.remote.coercion import is_json
from rxllm.models.remote.event_template import BLANK_LINE, EventTemplate, find_template
from rxllm.models.remote.json_decoder import is_done_marker
from rxllm.models.remote.reported_error import is_plain_error
from rxllm.models.remote.sse import ERROR_EVENTS, EVENT_LIMIT, EventStreamDecoder, ServerSentEvent
from rxllm.models.remote.wire import Reader

__all__ = ["BodyReader"]

_MOST_TRIES: Final = 8
_MOST_HELD: Final = 4096
_USUAL_ENDS: Final = (b"\n\n", b"\r\n\r\n")
_PROBE: Final = "probe"


class BodyReader:
    """Reads the body of one response.

    Most events of a response differ in a single text. The bytes around that text are learned as a
    template from two consecutive events, and later events are split at these bytes instead of being
    parsed. The result is exact: before a template is used, a copy of the reader is fed other texts
    in that place; it must return exactly these texts and leave its state unchanged. Anything that
    doesn't match is parsed in full, and the template is discarded. After eight failed attempts in a
    row (some providers pad each event with noise), no more templates are searched for.

    A partial event at the end of a read is held, 4 KiB at most, so that the decoder is always
    between two events.

    Args:
        reader: the reader of the API.
        limit: the maximum number of characters in one event.
        lines: the body has an event a line (NDJSON). It is read as server-sent events without
            `data:`.
    """

    def __init__(self, reader: Reader, limit: int = EVENT_LIMIT, *, lines: bool = False) -> None:
        self._reader = reader
        self._lines = lines
        self._decoder = EventStreamDecoder(limit)
        self._limit = limit
        self._template: EventTemplate | None = None
        self._candidate: EventTemplate | None = None
        self._tries_left = _MOST_TRIES
        self._held = b""

    def read(self, data: bytes) -> tuple[list[Chunk], RxLLMError | None]:
        """Return the chunks that `data` completes and the error after them; `b""` ends the body."""
        is_end = not data
        if self._lines:
            data = data.replace(b"\n", b"\n\n")
        data, self._held = self._held + data, b""
        if not is_end:
            data = self._hold_partial_event(data)
            if not data:
                return [], None
        if self._template is not None:
            chunks = self._template.read(data) if len(data) <= self._limit else None
            if chunks is not None:
                self._tries_left = _MOST_TRIES
                return chunks, None
            self._template = None
        return self._read_in_full(data, is_end)

    def _hold_partial_event(self, data: bytes) -> bytes:
        """Return `data` up to the end of its last event, if the rest can wait for the next read."""
        if data.endswith(_USUAL_ENDS):
            return data
        end = max(data.rfind(blank) + len(blank) if blank in data else 0 for blank in _USUAL_ENDS)
        rest = data[end:]
        is_short = len(rest) <= min(_MOST_HELD, self._limit)
        if is_short and (end or self._decoder.is_between) and not BLANK_LINE.search(rest):
            data, self._held = data[:end], rest
        return data

    def _read_in_full(self, data: bytes, is_end: bool) -> tuple[list[Chunk], RxLLMError | None]:
        chunks: list[Chunk] = []
        reader = self._reader
        try:
            for event in self._decoder.feed(data):
                reader.read(event, chunks)
                if reader.is_done:
                    return chunks, None
            if is_end:
                last = self._decoder.end()
                if last is not None and _is_whole(last):
                    reader.read(last, chunks)
                if not reader.is_done:
                    reader.end(chunks)
        except RxLLMError as error:
            return chunks, error
        if self._tries_left and chunks:
            self._learn(data, chunks[-1])
        return chunks, None

    def _learn(self, data: bytes, last: Chunk) -> None:
        """Look for the template of the last event of `data`, which was read as `last`."""
        if not isinstance(last, Token | Reasoning):
            return
        self._tries_left -= 1
        candidate = find_template(data, last)
        if candidate is not None and candidate == self._candidate and self._fits(candidate):
            self._template = candidate
        self._candidate = candidate

    def _fits(self, template: EventTemplate) -> bool:
        """True if the reader turns any text in the template into just one chunk with that text."""
        here = (self._reader, self._decoder)
        reader, decoder = there = deepcopy(here)
        for text in (_PROBE, ""):
            chunks: list[Chunk] = []
            try:
                for event in decoder.feed(template.fill(text)):
                    reader.read(event, chunks)
            except RxLLMError:
                return False
            if chunks != ([template.kind(text)] if text else []) or there != here:
                return False
        return True


def _is_whole(event: ServerSentEvent) -> bool:
    """Return True if the data of an event without its empty line wasn't cut off."""
    data = event.data
    is_text = event.type in ERROR_EVENTS or is_done_marker(data) or is_plain_error(data)
    return is_text or is_json(data, strict=False)
