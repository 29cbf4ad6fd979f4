"""Responses of Anthropic's Messages API.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec

from rxllm.chunks import Chunk, ErrorInfo, Notice, Reasoning, Start
from rxllm.errors import EmptyStreamError, TruncatedStreamError
from rxllm.models.remote.anthropic_calls import CallReader
from rxllm.models.remote.anthropic_coercion import blocks_in, coerced_event, events_in, named_delta
from rxllm.models.remote.anthropic_output import citations_in, file_of
from rxllm.models.remote.anthropic_request import COUNTED_FIELDS, anthropic_body, trailing_space
from rxllm.models.remote.anthropic_text import TextReader
from rxllm.models.remote.anthropic_types import Block, Delta, Event, Message, TokenCounts
from rxllm.models.remote.coercion import as_object
from rxllm.models.remote.finish_reasons import check_not_aborted, end_of, finish_reason_in
from rxllm.models.remote.history import Target
from rxllm.models.remote.json_decoder import JsonDecoder, is_done_marker, is_heartbeat
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.reported_error import error_in_json, error_in_text
from rxllm.models.remote.sse import ERROR_EVENTS, EVENT_STREAM, ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.wire import unsupported
from rxllm.requests import Request

__all__ = ["AnthropicReader", "AnthropicWire"]


_EVENTS: Final = (
    *("message_start", "message_delta", "message_stop", "ping"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
)
_READ_BLOCKS: Final = ("", "text", "thinking", "redacted_thinking", "tool_use")
_READ_DELTAS: Final = (
    *("", "text_delta", "thinking_delta", "signature_delta", "input_json_delta"),
    "citations_delta",
)
_decoder: Final = msgspec.json.Decoder(Event)


class AnthropicWire:
    """The Messages API."""

    media_type = EVENT_STREAM

    def path(self, model: str) -> str:
        """Return the path of requests."""
        return "/messages"

    def body(self, request: Request, model: str, provider: Provider) -> dict[str, Any]:
        """Return the body of a request."""
        return anthropic_body(request, model, provider)

    def count_request(
        self, request: Request, model: str, provider: Provider
    ) -> tuple[str, dict[str, Any]]:
        """Return the path and the body of a request that counts tokens."""
        body = anthropic_body(request, model, provider)
        counted = {name: body[name] for name in COUNTED_FIELDS if name in body}
        return "/messages/count_tokens", counted

    def events_of(self, answer: Any) -> list[Any] | None:
        """Return the events of a message that wasn't streamed."""
        message = as_object(answer)
        if message.get("type") != "message":
            return None
        return [
            {"type": "message_start", "message": message},
            {"type": "message_delta", "delta": message},
            {"type": "message_stop"},
        ]

    def reader(
        self,
        request: Request,
        model: str,
        provider: Provider,
        headers: Mapping[str, str],
        strict: bool,
    ) -> AnthropicReader:
        """Return a reader for one response."""
        space = trailing_space(request)
        return AnthropicReader(Target(provider.name, model), headers, strict, space)


class AnthropicReader(Comparable):
    """Reads one message.

    - `message_start` emits `Start`, or the first block if there is none. Pings and events of
      unknown types are ignored.
    - Thinking becomes `Reasoning`, with its signature as the state; so does encrypted thinking,
      without a text. Citations become `Citation`, images `FileOutput`. A block of a tool that the
      provider calls itself becomes a `Notice("unsupported")`, and so does a delta of an unknown
      type.
    - A state without a text separates two blocks of text.
    - White space at the end of a partial answer isn't sent, and isn't repeated; see
      `anthropic_body`.
    - A `ToolCall` is emitted each time its arguments grow, and once more, complete, at the end of
      its block. See `CallReader`.
    - `Usage` merges the counts of all events that report any. It is emitted right before `End`, and
      after `Start` with the counts of the prompt.
      `input_tokens` counts all tokens read; `cached_tokens` counts those that came from the cache.
    - The end marker is `message_stop`, or `[DONE]` after a stop reason. Without one, after an event
      that couldn't be read, `message_stop` isn't a clean end.
    """

    def __init__(
        self, target: Target, headers: Mapping[str, str], strict: bool, space: str = ""
    ) -> None:
        self.is_done: bool = False
        self._target = target
        self._provider = target.provider
        self._headers = headers
        self._decoder = JsonDecoder(_decoder, strict, coerced_event, target.provider, headers)
        self._kinds: dict[int, str] = {}  # of the open blocks
        self._newest = -1  # the index of the newest block
        self._unread: set[str] = set()  # unknown types of its deltas
        self._text = TextReader(target, space)
        self._calls = CallReader()
        self._usage: TokenCounts | None = None
        self._reason: str | None = None
        self._stop_sequence: str | None = None
        self._has_begun = False

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        """Append the chunks of `event` to `chunks`; see `Reader`."""
        data = event.data
        if event.type in ERROR_EVENTS:
            raise self._decoder.failure(error_in_text(data))
        if is_done_marker(data):
            if self._reason is None:
                self.end(chunks)
            self._finish(chunks)
        elif not is_heartbeat(data):
            for each in events_in(data):
                if not self.is_done:
                    self._read_nested(each, chunks)

    def end(self, chunks: list[Chunk]) -> NoReturn:
        """Raise, because the body has ended before the end marker; see `Reader`."""
        if not self._has_begun:
            raise EmptyStreamError(f"{self._provider} sent a response without any content")
        raise TruncatedStreamError(f"the response of {self._provider} ended early")

    def _read_nested(self, data: str, chunks: list[Chunk]) -> None:
        try:
            self._read_json(data, chunks)
        except RecursionError as error:
            self._decoder.doubt(data)
            chunks.append(Notice("malformed", skipped=1, error=ErrorInfo.of(error)))

    def _read_json(self, data: str, chunks: list[Chunk]) -> None:
        decoded = self._decoder.decode(data)
        if isinstance(decoded, Notice):
            chunks.append(decoded)
            return
        if decoded.error or decoded.type not in _EVENTS:
            error = error_in_json(json.loads(data), has_answer=decoded.type in _EVENTS)
            if error is not None:
                self._read_block(decoded, chunks)
                raise self._decoder.failure(error)
        if decoded.usage is not None:
            self._add_usage(decoded.usage)
        if decoded.type == "message_start":
            self._read_start(decoded.message or Message(), chunks)
        elif decoded.type == "message_delta" and isinstance(decoded.delta, Delta):
            self._reason = finish_reason_in(decoded.delta.stop_reason) or self._reason
            check_not_aborted(self._reason or "", self._provider)
            self._stop_sequence = decoded.delta.stop_sequence or self._stop_sequence
        elif decoded.type == "message_stop":
            self._finish(chunks)
        else:
            self._read_block(decoded, chunks)

    def _read_start(self, message: Message, chunks: list[Chunk]) -> None:
        """Read the start of the message, and its content if the server sends it there."""
        if message.usage is not None:
            self._add_usage(message.usage)
        if not self._has_begun:
            self._begin(message, chunks)
            if self._usage is not None:  # of the prompt; the answer goes on
                chunks.append(msgspec.structs.replace(self._usage.as_chunk(), estimated=True))
            for index, block in enumerate(blocks_in(message.content)):
                self._open_block(index, block, chunks)
                self._close_block(index, chunks)

    def _begin(self, message: Message, chunks: list[Chunk]) -> None:
        self._has_begun = True
        name = f"{self._provider}/{message.model or self._target.model}"
        request_id = message.id or self._headers.get("request-id", "")
        chunks.append(Start(request_id, name, self._provider, time.time()))

    def _read_block(self, event: Event, chunks: list[Chunk]) -> None:
        """Read the part of the answer in `event`, if it has one."""
        block, delta, index = event.content_block, event.delta, event.index
        is_start = event.type == "content_block_start" and block is not None
        is_delta = event.type == "content_block_delta" and delta is not None
        if index is None:
            index = self._newest + is_start
        if (is_start or is_delta) and not self._has_begun:
            self._begin(Message(), chunks)
        if is_start and block is not None:
            self._open_block(index, block, chunks)
        elif is_delta and delta is not None:
            self._read_delta(index, delta, chunks)
        elif event.type == "content_block_stop":
            self._close_block(index, chunks)

    def _open_block(self, index: int, block: Block, chunks: list[Chunk]) -> None:
        if block.type == "tool_use" and self._calls.is_open(index, block.id):  # said again
            self._read_delta(index, Delta(input=block.input), chunks)
            return
        if self._text.signature:  # the thinking before it wasn't closed
            self._text.end(chunks)
        chunks += self._calls.follow(index)
        self._newest = index
        self._kinds[index] = block.type
        self._unread.clear()
        if block.type == "tool_use":
            self._text.add(self._calls.open(index, block.id, block.name, block.input), chunks)
        elif block.type == "text":
            self._text.begin_text(chunks)
        elif block.type == "redacted_thinking":
            state = self._target.state({"type": block.type, "data": block.data})
            self._text.add(Reasoning("", state), chunks)
        elif block.type not in _READ_BLOCKS:
            chunks.append(file_of(block) or unsupported({"type": block.type}))
        said = Delta("", block.text, block.thinking, block.signature, citation=block.citations)
        self._read_delta(index, said, chunks)

    def _read_delta(self, index: int, delta: Delta | str, chunks: list[Chunk]) -> None:
        kind = self._kinds.get(index, self._kinds.get(self._newest, ""))
        is_read = kind in _READ_BLOCKS
        if isinstance(delta, str):
            delta = named_delta(kind, delta)
        self._text.read(delta, chunks)
        if is_read and (arguments := delta.partial_json or delta.input):
            chunks += self._calls.add(index, arguments)
        if delta.citation:
            chunks += citations_in(delta.citation)
        is_unknown = delta.type not in _READ_DELTAS and not delta.says_something
        if is_read and is_unknown and delta.type not in self._unread:
            self._unread.add(delta.type)
            chunks.append(unsupported({"type": delta.type}))

    def _close_block(self, index: int, chunks: list[Chunk]) -> None:
        self._text.end(chunks)
        self._kinds.pop(index, None)
        chunks += self._calls.close(index)

    def _add_usage(self, usage: TokenCounts) -> None:
        """Counts are cumulative; a count that an event leaves out is kept."""
        counts = {name: getattr(usage, name) for name in usage.__struct_fields__}
        known = {name: count for name, count in counts.items() if count is not None}
        self._usage = msgspec.structs.replace(self._usage or TokenCounts(), **known)

    def _finish(self, chunks: list[Chunk]) -> None:
        if not self._has_begun:
            raise EmptyStreamError(f"{self._provider} sent a response without any content")
        if self._reason is None and self._decoder.has_skipped:
            raise TruncatedStreamError(
                f"the response of {self._provider} ended without a stop reason, after events that "
                "can't be read"
            )
        self.is_done = True
        self._text.end(chunks)
        end = end_of(self._reason, self._stop_sequence)
        chunks += self._calls.finish(may_be_complete=end.finish_reason in ("tool_calls", "stop"))
        if self._usage is not None:
            chunks.append(self._usage.as_chunk())
        chunks.append(end)
