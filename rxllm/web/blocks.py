"""The blocks of a message: the base of the writers for wires that mark where each part begins.

Text, reasoning and calls come as blocks: each is opened, extended and closed. A JSON value is a
text when it is complete. A run of several answers (`End(more=True)`) is one message of several
steps.
"""

# ruff: noqa: B027 - a wire that has no words for something says nothing

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from rxllm.chunks import (
    ApprovalRequest,
    Batch,
    Chunk,
    Citation,
    End,
    FileOutput,
    FinishReason,
    Json,
    Notice,
    Progress,
    ProviderState,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
    is_restart,
    state_key,
)
from rxllm.errors import RestartedStreamError
from rxllm.web.encoding import to_json
from rxllm.web.failures import failure_message
from rxllm.web.stream_messages import Complete, StreamFailed
from rxllm.web.stream_store import Frame

__all__ = ["BlockWriter", "OpenCall", "call_input"]


class OpenCall:
    """A call that has been opened: its newest chunk, and the length of the arguments sent.

    `block` is for the writer, as an index or a name.
    """

    __slots__ = ("block", "call", "sent")

    def __init__(self, call: ToolCall, block: int) -> None:
        self.call: ToolCall = call
        self.block: int = block
        self.sent: int = 0


class BlockWriter(ABC):
    """Writes one stream. Subclasses emit the events of their wire.

    Args:
        stream_id: the id of the stream.
        model: the name of the model; `None` for that of the first `Start`.
        runs_tools: whether calls are answered in the stream, as those of an agent are: then only
            the calls that the stream leaves open are sent, at its end.

    Attributes:
        is_sequential: whether a block must be closed before the next one is opened. What belongs to
            another block waits until an open call is complete.
        restarts: whether the wire can express a restart; otherwise it is an error once anything of
            the answer under way was sent.
        cancels: whether the wire can express that a stream was cancelled; otherwise it is an error.
    """

    is_sequential: ClassVar[bool] = False
    restarts: bool = False
    cancels: ClassVar[bool] = False

    def __init__(
        self, stream_id: str, *, model: str | None = None, runs_tools: bool = False
    ) -> None:
        self.stream_id: str = stream_id
        self.model: str = model or ""
        self.blocks: int = 0  # opened so far
        self.blocks_before: int = 0  # those of earlier answers
        self.block: int = 0  # the number of the open text or thinking block
        self.block_text: list[str] = []  # its text
        self.is_in_step: bool = False  # an answer has begun, and hasn't ended
        self.usage: Usage | None = None
        self.end: End | None = None
        self._runs_tools = runs_tools
        self._events: list[bytes] = []
        self._has_begun = self._has_ended = False
        self._open: type[Token] | type[Reasoning] | None = None
        self._calls: dict[object, OpenCall] = {}
        self._done: set[object] = set()  # the keys of the calls that were closed
        self._ids: set[str] = set()  # of all calls
        self._held: list[Chunk] = []
        self._sources: set[str | None] = set()  # of the answer
        self._has_extras = False  # citations or files, of the answer
        self._steered = 0  # messages of the user amid the run

    def __call__(self, frame: Frame) -> bytes:
        """Return the events for a frame."""
        if self._has_ended:
            return b""
        message = frame.message
        if isinstance(message, StreamFailed):
            if self._held and not self._runs_tools:
                self._close_all()  # the text that has waited is still sent
            self._fail(message)
        elif isinstance(message, Complete):
            self._complete(message)
        else:
            for chunk in _pieces(message.chunk):
                self._chunk(chunk)
                if self._has_ended:
                    break
        events, self._events = self._events, []
        return events[0] if len(events) == 1 else b"".join(events)

    @property
    def has_begun(self) -> bool:
        """Whether the message has begun."""
        return self._has_begun

    @property
    def is_in_text(self) -> bool:
        """Whether a text is open."""
        return self._open is Token

    def steering_id(self, steering: Steering) -> str:
        """Return the id of a message of the user, which no other message of a chat has."""
        self._steered += 1
        return steering.id or f"{self.stream_id}-user-{self._steered}"

    def emit(self, event: bytes) -> None:
        """Send an event."""
        self._events.append(event)

    # What a wire says.

    @abstractmethod
    def begin(self) -> None:
        """The message begins."""

    @abstractmethod
    def open_text(self) -> None:
        """A text begins; it is block number `self.blocks`."""

    @abstractmethod
    def text(self, text: str) -> None:
        """More of the text."""

    @abstractmethod
    def close_text(self, state: ProviderState | None) -> None:
        """The text has ended."""

    @abstractmethod
    def open_reasoning(self) -> None:
        """A thinking block begins."""

    @abstractmethod
    def reasoning(self, text: str) -> None:
        """More of the thinking block."""

    @abstractmethod
    def close_reasoning(self, state: ProviderState | None) -> None:
        """The thinking block has ended."""

    @abstractmethod
    def open_call(self, opened: OpenCall) -> None:
        """A call begins."""

    @abstractmethod
    def arguments(self, opened: OpenCall, more: str) -> None:
        """More of the arguments of a call."""

    @abstractmethod
    def close_call(self, opened: OpenCall) -> None:
        """The call is complete."""

    @abstractmethod
    def finish(self, message: Complete) -> None:
        """The stream has completed; all blocks are closed."""

    @abstractmethod
    def fail(self, message: StreamFailed) -> None:
        """The stream has failed, and ends here."""

    def citation(self, citation: Citation) -> None:
        """A source of the open text."""

    def file(self, file: FileOutput) -> None:
        """A file."""

    def result(self, result: ToolResult) -> None:
        """The result of a call, or what it has so far."""

    def approval(self, request: ApprovalRequest) -> None:
        """A call waits for an approval."""

    def steering(self, steering: Steering) -> None:
        """A message of the user amid the run."""

    def step_begun(self) -> None:
        """An answer begins; the first one, or after a step has ended."""

    def step_ended(self) -> None:
        """An answer has ended, and another follows; all blocks are closed."""

    def notice(self, notice: Notice) -> None:
        """Something has happened on the way."""

    def progress(self, progress: Progress) -> None:
        """How far the stream is."""

    def json(self, value: Json) -> None:
        """The value so far; a complete one is sent as text behind this."""

    def nested(self, chunk: Chunk) -> None:
        """A chunk of a run inside of a call."""

    def withdraw(self) -> None:
        """The answer will begin again; open blocks may be closed."""

    def restart(self) -> None:
        """The answer begins again; the open blocks have been forgotten."""

    # How chunks become blocks.

    def _chunk(self, chunk: Chunk) -> None:
        if chunk.source is not None and chunk.source.partition("/")[0] in self._ids:
            self._begin_message()
            self.nested(chunk)
            return
        if chunk.is_content:
            self._sources.add(chunk.source)
        if self._must_wait(chunk):
            self._begin()
            if isinstance(chunk, ToolCall):
                self._ids.add(chunk.id)
            self._held.append(chunk)
            return
        match chunk:
            case Token():
                self._piece(chunk)
            case Reasoning():
                self._piece(chunk)
            case ToolCall():
                self._call(chunk)
            case Start():
                self.model = self.model or chunk.model
                self._begin()
            case Json():
                self._begin()
                self.json(chunk)
                if chunk.complete:
                    self._piece(Token(to_json(chunk.value).decode(), source=chunk.source))
            case Citation():
                self._begin()
                self._has_extras = True
                self.citation(chunk)
            case FileOutput():
                self._begin()
                self._has_extras = True
                self.file(chunk)
            case Usage():
                self.usage = chunk if self.usage is None else self.usage + chunk
            case End():
                self._answer_ended(chunk)
            case ToolResult(preliminary=True, output=None):
                self._ids.add(chunk.id)  # the tool has begun
            case ToolResult():
                self._result(chunk)
            case ApprovalRequest():
                self._begin_message()
                self.approval(chunk)
            case Steering():
                self._begin_message()
                self.steering(chunk)
            case Notice():
                self._notice(chunk)
            case Progress():
                self.progress(chunk)

    def _must_wait(self, chunk: Chunk) -> bool:
        if not chunk.is_content:
            return False
        if isinstance(chunk, ToolCall) and self._runs_tools:
            return True
        if not (self.is_sequential and self._calls):
            return False
        return not (isinstance(chunk, ToolCall) and state_key(chunk) in self._calls)

    def _begin_message(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self.begin()

    def _begin(self) -> None:
        """Begin an answer, unless it has begun."""
        if self.is_in_step:
            return
        self._begin_message()
        self.is_in_step = True
        self.blocks_before, self._has_extras = self.blocks, False
        if self._runs_tools:
            self._held = []  # the calls before it were answered
        self.step_begun()

    def _result(self, result: ToolResult) -> None:
        self._begin_message()
        self.result(result)
        if self._runs_tools and not result.preliminary:
            self._held = [
                each
                for each in self._held
                if not (isinstance(each, ToolCall) and each.id == result.id)
            ]

    def _piece(self, piece: Token | Reasoning) -> None:
        kind = type(piece)
        if not piece.text and piece.state is None:
            return
        self._begin()
        if self._open is not kind:
            self.close()
            self._open = kind
            self.block, self.block_text = self.blocks, []
            (self.open_text if kind is Token else self.open_reasoning)()
            self.blocks += 1
        if piece.text:
            self.block_text.append(piece.text)
            (self.text if kind is Token else self.reasoning)(piece.text)
        if piece.state is not None:
            self.close(piece.state)

    def close(self, state: ProviderState | None = None) -> None:
        """Close the open text or thinking block, if there is one."""
        kind, self._open = self._open, None
        if kind is not None:
            (self.close_text if kind is Token else self.close_reasoning)(state)

    def _call(self, call: ToolCall) -> None:
        key = state_key(call)
        if key in self._done:
            return
        self._begin()
        opened = self._calls.get(key)
        if opened is None:
            self.close()
            opened = self._calls[key] = OpenCall(call, self.blocks)
            self._ids.add(call.id)
            self.open_call(opened)
            self.blocks += 1
        elif not call.arguments.startswith(opened.call.arguments):
            self._restarted(f"the arguments of {call.name}", "them")
            return
        opened.call = call
        more = call.arguments[opened.sent :]
        if more:
            opened.sent = len(call.arguments)
            self.arguments(opened, more)
        if call.complete:
            self._close_call(key)
            self._release()

    def _close_call(self, key: object) -> None:
        self._done.add(key)
        self.close_call(self._calls.pop(key))

    def _release(self) -> None:
        """Send what has waited, as far as that is possible now."""
        if self._runs_tools and not self._has_ended:
            return
        held, self._held = self._held, []
        for chunk in held:
            self._chunk(chunk)

    def _close_all(self) -> None:
        self.close()
        while self._calls or self._held:
            for key in list(self._calls):
                self._close_call(key)
            held, self._held = self._held, []
            for chunk in held:
                self._chunk(chunk)
        self.close()

    def _answer_ended(self, end: End) -> None:
        self.end = end
        if end.source is not None:
            self._source_ended(end.source)
            return
        if end.more:
            self._step_ended()
        else:
            self._send_all(end.finish_reason)

    def _step_ended(self) -> None:
        """An answer has ended, and others follow. Its calls wait for their results."""
        if self._runs_tools:
            self.close()
        else:
            self._close_all()
        self._begin()
        self.is_in_step = False
        self.step_ended()
        self._done, self._sources = set(), set()

    def _send_all(self, reason: FinishReason | None) -> None:
        """Close all blocks, after the calls that nobody here has answered."""
        if reason == "cancelled" and self._runs_tools:
            self._held = []
        runs_tools, self._runs_tools = self._runs_tools, False
        self._close_all()
        self._runs_tools = runs_tools

    def _source_ended(self, source: str) -> None:
        """One of several merged streams has ended: its calls are closed, the others go on."""
        for key, opened in list(self._calls.items()):
            if opened.call.source == source:
                self._close_call(key)
        self._release()

    def _notice(self, notice: Notice) -> None:
        if not is_restart(notice):
            self.notice(notice)
            return
        merged = notice.source is not None and self._sources - {notice.source}
        if not self._has_said():
            self._held = [each for each in self._held if merged and each.source != notice.source]
            return
        if merged or not self.restarts:
            self._restarted("the answer", "it")
            return
        self.withdraw()
        self._open = None
        self._calls, self._done, self._held, self._sources = {}, set(), [], set()
        self._has_extras = False
        self.restart()

    def _has_said(self) -> bool:
        """Whether anything of the answer under way was sent."""
        return self.is_in_step and (self.blocks > self.blocks_before or self._has_extras)

    def _restarted(self, what: str, it: str) -> None:
        error = RestartedStreamError(f"{what} restarted after part of {it} had been sent")
        self._fail(failure_message(error, self.stream_id))

    def _complete(self, message: Complete) -> None:
        self._send_all(message.finish_reason)
        if not self._has_begun:
            self._begin()
        if message.finish_reason == "cancelled" and not self.cancels:
            self._fail(StreamFailed(code="cancelled", message="the stream was cancelled"))
            return
        self._has_ended = True
        self.finish(message)

    def _fail(self, message: StreamFailed) -> None:
        self._has_ended = True
        self.fail(message)


def call_input(call: ToolCall) -> Any:
    """Return the arguments of a call, decoded; none at all are an empty object.

    Raises:
        ValueError: they aren't JSON.
    """
    return json.loads(call.arguments) if call.arguments.strip() else {}


def _pieces(chunk: Chunk) -> Iterator[Chunk]:
    """Yield a chunk, or the text and the reasoning of a batch, joined where they follow closely."""
    if not isinstance(chunk, Batch):
        yield chunk
        return
    kind: type[Token] | type[Reasoning] = Token
    texts: list[str] = []
    for piece in chunk.chunks:
        if type(piece) is not kind:
            if texts:
                yield kind("".join(texts), source=chunk.source)
            kind, texts = type(piece), []
        texts.append(piece.text)
    if texts:
        yield kind("".join(texts), source=chunk.source)
