"""Responses of Anthropic's Messages API.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from itertools import takewhile
from secrets import token_hex
from typing import Any, Final

import msgspec

from rxllm.chunks import Chunk, Citation, Notice, Reasoning, Start, Token, ToolCall
from rxllm.errors import EmptyStreamError, TruncatedStreamError
from rxllm.models.remote.anthropic_request import COUNTED_FIELDS, anthropic_body, trailing_space
from rxllm.models.remote.anthropic_types import (
    Block,
    Delta,
    Event,
    Message,
    TokenCounts,
    coerced_event,
)
from rxllm.models.remote.coercion import as_object, as_objects, as_optional_text, is_json
from rxllm.models.remote.finish_reasons import check_not_aborted, end_of, finish_reason_in
from rxllm.models.remote.history import Target
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.reported_error import error_in_json, error_in_text
from rxllm.models.remote.sse import ERROR_EVENTS, EVENT_STREAM, ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.wire import JsonDecoder, TextJoiner, is_heartbeat, unsupported
from rxllm.requests import Request

__all__ = ["AnthropicReader", "AnthropicWire"]


_EVENTS: Final = (
    *("message_start", "message_delta", "message_stop", "ping"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
)
_READ_BLOCKS: Final = ("", "text", "thinking", "redacted_thinking")
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
        blocks = enumerate(as_objects(message.get("content")))
        return [
            {"type": "message_start", "message": message},
            *(event for index, block in blocks for event in _events_of_block(index, block)),
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


def _events_of_block(index: int, block: dict[str, Any]) -> list[Any]:
    citations = [
        {"type": "content_block_delta", "index": index, "delta": {"citation": citation}}
        for citation in as_objects(block.get("citations"))
    ]
    start = {"type": "content_block_start", "index": index, "content_block": block}
    return [start, *citations, {"type": "content_block_stop", "index": index}]


class AnthropicReader(Comparable):
    """Reads one message.

    - `message_start` emits `Start`. Pings and events of unknown types are ignored.
    - Thinking becomes `Reasoning`, with its signature as the state; so does encrypted thinking,
      without a text. Citations become `Citation`. A block of a tool that the provider calls itself
      becomes a `Notice("unsupported")`.
    - A state without a text separates two blocks of text.
    - White space at the end of a partial answer isn't sent, and isn't repeated; see
      `anthropic_body`.
    - A `ToolCall` is emitted each time its arguments grow, and once more, complete, at the end of
      its block.
    - `Usage` merges the counts of all events that report any, and is emitted right before `End`.
      `input_tokens` counts all tokens read; `cached_tokens` counts those that came from the cache.
    - The end marker is `message_stop`.
    """

    def __init__(
        self, target: Target, headers: Mapping[str, str], strict: bool, space: str = ""
    ) -> None:
        self.is_done: bool = False
        self._target = target
        self._provider = target.provider
        self._decoder = JsonDecoder(_decoder, strict, coerced_event, target.provider, headers)
        self._space = space  # at the end of the partial answer, not yet repeated
        self._block = ""  # the type of the newest block
        self._signature: str | None = None  # of the open block
        self._text = TextJoiner()
        self._reasoning = TextJoiner()
        self._calls: dict[int, ToolCall] = {}  # of the open blocks
        self._call_count = 0
        self._is_given = False  # the input of the open call, at its start
        self._arguments = TextJoiner()
        self._usage: TokenCounts | None = None
        self._reason: str | None = None
        self._stop_sequence: str | None = None
        self._has_begun = False

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        """Append the chunks of `event` to `chunks`; see `Reader`."""
        data = event.data
        if event.type in ERROR_EVENTS:
            raise self._decoder.failure(error_in_text(data))
        if is_heartbeat(data):
            return
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
        self._read_block(decoded, chunks)
        if decoded.type == "content_block_stop":
            self._close_block(decoded.index, chunks)
        elif decoded.type == "message_start" and decoded.message is not None:
            self._begin(decoded.message, chunks)
        elif decoded.type == "message_delta" and decoded.delta is not None:
            self._reason = finish_reason_in(decoded.delta.stop_reason) or self._reason
            check_not_aborted(self._reason or "", self._provider)
            self._stop_sequence = decoded.delta.stop_sequence or self._stop_sequence
        elif decoded.type == "message_stop":
            self._finish(chunks)

    def end(self, chunks: list[Chunk]) -> None:
        """Raise, because the body has ended before the end marker; see `Reader`."""
        if not self._has_begun:
            raise EmptyStreamError(f"{self._provider} sent a response without any content")
        raise TruncatedStreamError(f"the response of {self._provider} ended early")

    def _begin(self, message: Message, chunks: list[Chunk]) -> None:
        self._has_begun = True
        if message.usage is not None:
            self._add_usage(message.usage)
        name = f"{self._provider}/{message.model or self._target.model}"
        chunks.append(Start(message.id, name, self._provider, time.time()))

    def _read_block(self, event: Event, chunks: list[Chunk]) -> None:
        """Read the part of the answer in `event`, if it has one."""
        if event.type == "content_block_delta" and event.delta is not None:
            self._read_delta(event.index, event.delta, chunks)
        elif event.type == "content_block_start" and event.content_block is not None:
            self._open_block(event.index, event.content_block, chunks)

    def _open_block(self, index: int, block: Block, chunks: list[Chunk]) -> None:
        if self._signature:  # the thinking before it wasn't closed
            self._close_block(-1, chunks)
        if block.type == "tool_use":
            self._is_given = bool(block.input)
            given = json.dumps(block.input, ensure_ascii=False) if block.input else ""
            call_id = block.id or f"toolu_{token_hex(12)}"
            call = ToolCall(call_id, block.name, given, index=self._call_count)
            self._call_count += 1
            self._calls[index] = call
            chunks.append(call)
        elif block.type == "text" and self._block == "text":
            chunks.append(Token("", state=self._target.state({"type": "text"})))
        elif block.type == "redacted_thinking":
            state = self._target.state({"type": block.type, "data": block.data})
            chunks.append(Reasoning("", state))
        elif block.type not in _READ_BLOCKS:
            chunks.append(unsupported({"type": block.type}))
        self._block = block.type
        self._read_delta(index, Delta(block.text, block.thinking, block.signature), chunks)

    def _read_delta(self, index: int, delta: Delta, chunks: list[Chunk]) -> None:
        if delta.citation:
            self._cite(as_object(delta.citation), chunks)
        self._signature = delta.signature or self._signature
        if delta.text:
            if text := self._without_space(self._text.feed(delta.text)):
                chunks.append(Token(text))
        elif delta.thinking:
            if thought := self._reasoning.feed(delta.thinking):
                chunks.append(Reasoning(thought))
        elif delta.partial_json and index in self._calls:
            call = self._calls[index]
            before = "" if self._is_given else call.arguments  # it is said again, in pieces
            self._is_given = False
            arguments = before + self._arguments.feed(delta.partial_json)
            call = self._calls[index] = msgspec.structs.replace(call, arguments=arguments)
            chunks.append(call)

    def _without_space(self, text: str) -> str:
        """Return `text` without the white space that the partial answer ends with already."""
        if self._space and text:
            pairs = zip(text, self._space, strict=False)
            repeated = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            self._space = self._space[repeated:] if repeated == len(text) else ""
            text = text[repeated:]
        return text

    def _cite(self, fields: dict[str, Any], chunks: list[Chunk]) -> None:
        """Read a citation of a search result or of a document."""
        title = fields.get("title") or fields.get("document_title")
        chunks.append(
            Citation(
                as_optional_text(fields.get("url")),
                as_optional_text(title),
                as_optional_text(fields.get("cited_text")),
            )
        )

    def _close_block(self, index: int, chunks: list[Chunk]) -> None:
        """Blocks are sequential, so any text held back belongs to this one."""
        if thought := self._reasoning.flush():
            chunks.append(Reasoning(thought))
        if self._signature:
            data = {"type": "thinking", "signature": self._signature}
            chunks.append(Reasoning("", self._target.state(data)))
            self._signature = None
        if text := self._text.flush():
            chunks.append(Token(text))
        call = self._calls.pop(index, None)
        if call is not None:
            arguments = (call.arguments + self._arguments.flush()) or "{}"
            complete = is_json(arguments)
            chunks.append(msgspec.structs.replace(call, arguments=arguments, complete=complete))

    def _add_usage(self, usage: TokenCounts) -> None:
        """Counts are cumulative; a count that an event leaves out is kept."""
        counts = {name: getattr(usage, name) for name in usage.__struct_fields__}
        known = {name: count for name, count in counts.items() if count is not None}
        self._usage = msgspec.structs.replace(self._usage or TokenCounts(), **known)

    def _finish(self, chunks: list[Chunk]) -> None:
        self.is_done = True
        if not self._has_begun:
            raise EmptyStreamError(f"{self._provider} sent a response without any content")
        for index in (*self._calls, -1):  # what a server left open
            self._close_block(index, chunks)
        if self._usage is not None:
            chunks.append(self._usage.as_chunk())
        chunks.append(end_of(self._reason, self._stop_sequence))
