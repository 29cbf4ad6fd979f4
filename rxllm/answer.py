"""`Answer`: the output of one source of a stream, and its form as a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rxllm.chunks import (
    Batch,
    Chunk,
    Citation,
    End,
    FileOutput,
    Json,
    ProviderState,
    Reasoning,
    Start,
    StateKey,
    Token,
    ToolCall,
    Usage,
    has_output,
)
from rxllm.messages import Message, Part, ReasoningPart, TextPart

__all__ = ["Answer", "assistant_message"]


class _Passage:
    """Consecutive text or reasoning, up to its state if there is one."""

    __slots__ = ("kind", "pieces", "state")

    def __init__(self, kind: type[Token] | type[Reasoning]) -> None:
        self.kind = kind
        self.pieces: list[str] = []
        self.state: ProviderState | None = None

    @property
    def text(self) -> str:
        pieces = self.pieces
        if len(pieces) > 1:
            pieces[:] = ["".join(pieces)]
        return pieces[0] if pieces else ""

    @property
    def part(self) -> Part:
        make = TextPart if self.kind is Token else ReasoningPart
        return make(self.text, self.state)


class Answer:
    """The output of one source since it last began.

    Attributes:
        tokens: the tokens of its text and reasoning (see `chunks.tokens_of`).
        calls: the newest state of each tool call, in the order in which the calls began.
        json: the newest JSON value.
        citations, files: the sources that the answer cites, and its output that isn't text.
        usage: the newest usage.
        start, end: the source's own, if received.
        has_output: whether there is any output; empty text doesn't count.
    """

    __slots__ = (
        "_order",
        "_passage",
        "calls",
        "citations",
        "end",
        "files",
        "has_output",
        "json",
        "start",
        "tokens",
        "usage",
    )

    def __init__(self) -> None:
        self._order: list[_Passage | StateKey] = []  # a key stands for its call
        self._passage: _Passage | None = None  # the one that grows
        self.tokens: int = 0
        self.calls: dict[StateKey, ToolCall] = {}
        self.json: Json | None = None
        self.citations: list[Citation] = []
        self.files: list[FileOutput] = []
        self.usage: Usage | None = None
        self.start: Start | None = None
        self.end: End | None = None
        self.has_output: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, and the run continues after it."""
        return self.end is not None and self.end.more

    @property
    def output_tokens(self) -> int:
        """The tokens that its usage reports, or otherwise those of its pieces."""
        reported = self.usage.output_tokens if self.usage is not None else 0
        return reported or self.tokens

    @property
    def text(self) -> str:
        """The answer's text; kept joined for the next read."""
        return self._joined(Token)

    @property
    def reasoning(self) -> str:
        """The text of the thinking blocks."""
        return self._joined(Reasoning)

    @property
    def states(self) -> int:
        """The number of states of text and reasoning."""
        return sum([passage.state is not None for passage in self._passages])

    @property
    def parts(self) -> list[Part]:
        """The text, the reasoning and the complete calls, in order, as parts of a message."""
        parts: list[Part] = []
        for each in self._order:
            if isinstance(each, _Passage):
                parts.append(each.part)
            elif self.calls[each].complete:
                parts.append(self.calls[each])
        return parts

    def add(self, chunk: Chunk) -> None:
        """Add a chunk of this source that is not a notice."""
        if type(chunk) is Token or type(chunk) is Reasoning:
            self.add_piece(chunk)
            return
        match chunk:
            case Batch(chunks=parts):
                for part in parts:
                    self.add_piece(part)
            case ToolCall():
                self._add_call(chunk)
            case Json():
                self.json = chunk
            case Citation():
                self.citations.append(chunk)
            case FileOutput():
                self.files.append(chunk)
            case Usage():
                self.usage = chunk
            case Start():
                self.start = chunk
            case End():
                self.end = chunk
        self.has_output = self.has_output or has_output(chunk)

    def add_piece(self, piece: Token | Reasoning) -> None:
        """Add a piece of text or reasoning of this source."""
        if piece.text:
            self.tokens += piece.tokens if type(piece) is Token else 1
        elif piece.state is None:
            return
        self.has_output = True
        passage = self._passage
        if passage is None or passage.kind is not type(piece):
            passage = self._passage = _Passage(type(piece))
            self._order.append(passage)
        passage.pieces.append(piece.text)
        if piece.state is not None:
            passage.state = piece.state
            self._passage = None

    def _add_call(self, call: ToolCall) -> None:
        key: StateKey = (call.index, call.id)
        if key not in self.calls:
            self._order.append(key)
            self._passage = None
        self.calls[key] = call

    @property
    def _passages(self) -> list[_Passage]:
        return [each for each in self._order if isinstance(each, _Passage)]

    def _joined(self, kind: type[Token] | type[Reasoning]) -> str:
        texts = [passage.text for passage in self._passages if passage.kind is kind]
        return texts[0] if len(texts) == 1 else "".join(texts)


def assistant_message(parts: Sequence[Part]) -> Message:
    """Return an answer as a message for the history; plain text as a string.

    Reasoning without a state is left out: no model takes it back. A call whose arguments aren't a
    JSON object has none, since providers refuse such a message.
    """
    parts = [_sendable(part) if isinstance(part, ToolCall) else part for part in parts]
    content = [part for part in parts if not isinstance(part, ReasoningPart) or part.state]
    calls: list[ToolCall] = []
    while content and isinstance(last := content[-1], ToolCall):
        calls.insert(0, last)
        content.pop()
    texts = [part.text for part in content if isinstance(part, TextPart) and part.state is None]
    if len(texts) == len(content):
        return Message("assistant", "".join(texts), tool_calls=tuple(calls))
    return Message("assistant", tuple(content), tool_calls=tuple(calls))


def _sendable(call: ToolCall) -> ToolCall:
    try:
        msgspec.json.decode(call.arguments, type=dict[str, Any])
    except (ValueError, RecursionError):
        return msgspec.structs.replace(call, arguments="{}")
    return call
