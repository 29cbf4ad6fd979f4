"""Print the chunks of concurrent sources as text, one source after another."""

from __future__ import annotations

import json
from typing import Protocol

from rxllm.chunks import (
    ApprovalRequest,
    Chunk,
    Citation,
    End,
    FileOutput,
    Json,
    Notice,
    Steering,
    ToolCall,
    ToolResult,
    is_restart,
    is_stream_failed,
    text_of,
)
from rxllm.restart import matching_sources
from rxllm.sinks.printable import describe, printable

__all__ = ["Blocks", "Page"]


class Page(Protocol):
    """Where text is printed: a terminal, or plain output."""

    def write(self, text: str) -> None: ...

    def note(self, line: str) -> None:
        """Print a line that is not part of the text."""

    def end_line(self) -> None:
        """Begin a new line, unless one has just begun."""

    def finish(self) -> None:
        """End the text as it is, with its last line complete."""


class Blocks:
    """Prints the text of one source as it arrives, and keeps that of the others until it has ended.

    Each block of a named source begins with a line that names it. Tool calls are printed as notes,
    a complete JSON value as text. A restart discards kept text before it is printed.

    Args:
        page: the page to print on.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._waiting: dict[str | None, list[str]] = {}  # the first is being printed
        self._ended: set[str | None] = set()
        self._printed = False

    def add(self, chunk: Chunk) -> None:
        """Print a chunk, or keep it for its turn."""
        source = chunk.source
        if isinstance(chunk, Notice):
            self._page.note(describe(chunk) if source is None else f"{source}: {describe(chunk)}")
            if is_restart(chunk):
                self._restart(source)
        elif isinstance(chunk, ToolCall):
            if chunk.complete:
                name = "" if source is None else f"{source}: "
                self._page.note(printable(f"{name}tool call: {chunk.name}({chunk.arguments})"))
        elif isinstance(chunk, ToolResult | Steering | ApprovalRequest):
            self._note_run(chunk)
        elif isinstance(chunk, Citation):
            self._page.note(
                printable(f"source: {' '.join(filter(None, (chunk.title, chunk.url)))}")
            )
        elif isinstance(chunk, FileOutput):
            self._page.note(printable(f"file: {chunk.media_type} {chunk.url or ''}".strip()))
        elif isinstance(chunk, Json):
            if chunk.complete:
                self._write(source, json.dumps(chunk.value, ensure_ascii=False, indent=2) + "\n")
        else:
            self._write(source, text_of(chunk))
        if isinstance(chunk, End) or is_stream_failed(chunk):
            self._end(source)

    def finish(self) -> None:
        """Print everything that is waiting."""
        while len(self._waiting) > 1:
            self._end(next(iter(self._waiting)))

    def _note_run(self, chunk: ToolResult | Steering | ApprovalRequest) -> None:
        name = "" if chunk.source is None else f"{chunk.source}: "
        if isinstance(chunk, Steering):
            self._page.note(printable(f"{name}user: {chunk.text}"))
        elif isinstance(chunk, ApprovalRequest):
            self._page.note(printable(f"{name}{chunk.id} waits for approval"))
        elif not chunk.preliminary:
            self._page.note(printable(f"{name}{chunk.name}: {chunk.content}"))

    def _write(self, source: str | None, text: str) -> None:
        if not text and source not in self._waiting:
            self._page.write(text)  # updates the figures
            return
        waiting = self._waiting.get(source)
        if waiting is None:
            waiting = self._waiting[source] = []
            self._ended.discard(source)
            if len(self._waiting) == 1:
                self._begin(source)
        if next(iter(self._waiting)) == source:
            self._page.write(text)
        else:
            waiting.append(text)

    def _begin(self, source: str | None) -> None:
        if self._printed or source is not None:
            self._page.end_line()
        if source is not None:
            self._page.write(f"[{source}]\n")
        self._printed = True

    def _end(self, source: str | None) -> None:
        self._ended.update(matching_sources(self._waiting, source))
        while self._waiting and next(iter(self._waiting)) in self._ended:
            ended = next(iter(self._waiting))
            del self._waiting[ended]
            self._ended.discard(ended)
            if self._waiting:
                following, texts = next(iter(self._waiting.items()))
                self._begin(following)
                self._page.write("".join(texts))
                texts.clear()

    def _restart(self, source: str | None) -> None:
        for each in matching_sources(self._waiting, source):
            self._waiting[each].clear()
