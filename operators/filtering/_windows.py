"""The content of one source, cut into windows that are checked one after another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Notice,
    Reasoning,
    Token,
    ToolCall,
    has_output,
    is_lasting,
)
from rxllm.operators._held_text import parts_of
from rxllm.operators.filtering._early_sender import EarlySender
from rxllm.operators.filtering._rules import Checked, Rules
from rxllm.operators.filtering._spans import AnswerRecord, Key, Span, Window, joined_text
from rxllm.restart import survives_restart

__all__ = ["Windows"]


class Windows:
    """The window being checked, the chunks behind it, and what was sent of the answer before it.

    Attributes:
        source: the stream.
        task: the running check, if it is a task.
        window: what it checks.
        waiting: the number of characters that have not been approved.
    """

    __slots__ = (
        "_answer",
        "_early",
        "_ended",
        "_records",
        "_rules",
        "_spans",
        "_step",
        "source",
        "task",
        "waiting",
        "window",
    )

    def __init__(self, source: str | None, rules: Rules) -> None:
        self.source = source
        self.task: asyncio.Future[bool] | None = None
        self.window: Window | None = None
        self.waiting = 0
        self._rules = rules
        self._early = EarlySender() if rules.on_violation == "retract" else None
        self._records = rules.on_violation in ("retract", "error")
        self._spans: deque[Span] = deque()
        self._answer = AnswerRecord()  # that of the next chunk
        self._step = 0  # answers of a run that have ended
        self._ended = False

    @property
    def waits(self) -> bool:
        """True while anything is waiting for a check."""
        return bool(self._spans)

    @property
    def is_over(self) -> bool:
        """True if the stream has ended, and nothing waits."""
        return self._ended and not self._spans

    @property
    def is_ready(self) -> bool:
        """True if a full window, or the last short one of a span, can be checked now."""
        if self.window is not None or not self._spans:
            return False
        span = self._spans[0]
        return span.length >= self._rules.every or (span.closed and span.length > 0)

    @property
    def has_ended_answer(self) -> bool:
        """True if an answer that a run continues after is waiting."""
        return bool(self._spans) and self._spans[0].step != self._step

    @property
    def passed(self) -> list[Chunk]:
        """The approved content of the answer that is being checked."""
        return self._spans[0].answer.passed if self._spans else []

    def append(self, chunk: Chunk) -> list[Chunk]:
        """Take the next chunk, and return those to send now."""
        now: list[Chunk] = []
        parts = chunk.chunks if type(chunk) is Batch else (chunk,)
        pieces = [(part, *self._to_check(part)) for part in parts]
        if not self._spans and not any(text for _, _, text in pieces):
            now = self._pass(self._answer, [chunk])
        else:
            for part, key, text in pieces:
                self._hold(part, key, text)
            if self._early is not None:
                now = self._early.append(chunk, len(pieces))
        self._ended = type(chunk) is End
        if self._ended or is_lasting(chunk):
            self.close()
            self._answer = AnswerRecord()
            self._step += is_lasting(chunk)
        return now

    def close(self) -> None:
        """No more content follows: the last window may be short."""
        if self._spans:
            self._spans[-1].closed = True

    def open(self) -> tuple[str, Window]:
        """Take the next window; return the text to check (its context and its own) with it."""
        span = self._spans[0]
        self.window = window = span.take(min(self._rules.every, span.length))
        return span.answer.contexts.get(span.key, "") + window.text, window

    def release(self, *, approved: bool = True) -> list[Chunk]:
        """Return what can be sent once the window has been approved, or is replaced."""
        window, self.window = self.window, None
        assert window is not None  # noqa: S101 - it has been checked
        span, answer, rules = window.span, window.span.answer, self._rules
        self.waiting -= len(window.text)
        answer.remember(span.key, window.text if approved else rules.replacement, rules.context)
        if approved:
            chunks = window.chunks
            released = joined_text(chunks, self.source) if span.key == "text" else chunks
            released = self._pass(answer, released)
        else:
            released = self._pass(answer, window.replacement(rules.replacement))
            answer.reject(span.key)
            released += self._pass(answer, window.unchecked)
        behind, count = self._after_window()
        if self._early is not None:
            return self._early.clear(window.count + count)
        return released + behind

    def retraction(self) -> list[Chunk]:
        """Take back what was sent and isn't approved: a restart, and what is."""
        if self._early is None or not self._early.has_sent_unapproved:
            return []
        replay = self._spans[0].answer.replay(self.source)
        return [Notice("restart", source=self.source), *replay]

    def restart(self) -> list[Chunk]:
        """Drop the answer under way, and keep those before it; return what may be sent now."""
        if not self.has_ended_answer:
            return list(filter(survives_restart, self.drop()))
        dropped, count = list[Chunk](), 0
        while self._spans[-1].step == self._step:
            span = self._spans.pop()
            self.waiting -= span.length
            rest = span.take_all()
            dropped[:0] = rest.chunks
            count += rest.count
        if self._early is not None:
            dropped = self._early.drop_last(count)
        self._answer = AnswerRecord()
        for chunk in filter(survives_restart, dropped):
            self.append(chunk)  # behind the end of the answer before
        return []

    def drop(self) -> list[Chunk]:
        """Drop the content, cancel its check, and return the chunks that were not sent."""
        waiting = list(self._held_chunks() if self._early is None else self._early.drop())
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
        self.window, self.waiting = None, 0
        self._spans.clear()
        self._answer = AnswerRecord()
        return waiting

    def _held_chunks(self) -> Iterator[Chunk]:
        if self.window is not None:
            yield from self.window.chunks
        for span in self._spans:
            yield from span.take_all().chunks

    def _to_check(self, part: Chunk) -> tuple[Key, str]:
        """Return what `part` is a part of, and its text that is to be checked."""
        what = self._rules.what
        if type(part) is Token:
            return "text", part.text if "text" in what else ""
        if type(part) is Reasoning:
            return "reasoning", part.text if "reasoning" in what else ""
        if type(part) is ToolCall and "arguments" in what:
            return self._answer.new_arguments(part)
        return "", ""

    def _hold(self, part: Chunk, key: Key, text: str) -> None:
        last = self._spans[-1] if self._spans else None
        if last is None or last.answer is not self._answer or (text and not last.takes(key)):
            self.close()
            last = Span(self._answer, self._step)
            self._spans.append(last)
        if text and last.about is None:
            last.about, last.key = self._about(part), key
        last.append(part, text)
        self.waiting += len(text)
        if _ends(last.key, key, part):
            last.closed = True

    def _about(self, part: Chunk) -> Checked:
        if type(part) is ToolCall:
            return Checked("arguments", part.name, self.source)
        return Checked("text" if type(part) is Token else "reasoning", None, self.source)

    def _after_window(self) -> tuple[list[Chunk], int]:
        """Take the chunks behind the window that no longer wait, and count them."""
        released, count = list[Chunk](), 0
        while self._spans:
            span = self._spans[0]
            rest = span.take(0)
            count += rest.count
            released += self._pass(span.answer, rest.chunks)
            if span.length:
                break
            self._spans.popleft()
        return released, count

    def _pass(self, answer: AnswerRecord, chunks: list[Chunk]) -> list[Chunk]:
        """Record chunks that pass; return those to send."""
        if self._records:
            answer.passed += [part for part in parts_of(chunks) if part.is_content]
        return answer.without_rejected(chunks) if answer.has_changed else chunks


def _ends(open_key: Key, key: Key, part: Chunk) -> bool:
    """True if `part` is the last chunk of the call, or if the thinking block ends with it."""
    if open_key == "reasoning":
        return (
            has_output(part)
            if key != open_key
            else type(part) is Reasoning and part.state is not None
        )
    return key == open_key and type(part) is ToolCall and part.complete
