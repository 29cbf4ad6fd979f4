"""The fields that are read from the events of Anthropic's messages; others are ignored.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rxllm.chunks import Usage
from rxllm.models.remote.coercion import as_counts, as_int, as_object, as_optional_text, as_text

__all__ = ["Block", "Delta", "Event", "Message", "OutputDetails", "TokenCounts", "coerced_event"]


class OutputDetails(msgspec.Struct, gc=False):
    """Details of the output tokens."""

    thinking_tokens: int | None = None


class TokenCounts(msgspec.Struct, gc=False):
    """The usage, of which an event may report a part."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None

    def as_chunk(self) -> Usage:
        """Return the usage as a chunk; the tokens read include those of the cache."""
        cached, written = self.cache_read_input_tokens, self.cache_creation_input_tokens
        details = self.output_tokens_details
        return Usage(
            (self.input_tokens or 0) + (written or 0) + (cached or 0),
            self.output_tokens or 0,
            cached_tokens=cached,
            reasoning_tokens=None if details is None else details.thinking_tokens,
            cache_write_tokens=written,
        )


class Message(msgspec.Struct):
    """The message that begins."""

    id: str = ""
    model: str | None = None
    usage: TokenCounts | None = None


class Block(msgspec.Struct):
    """The beginning of a block; some servers send all of it there."""

    type: str = ""
    id: str = ""
    name: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None  # of reasoning that is encrypted
    input: Any = None


class Delta(msgspec.Struct):
    """A part of a block, or of the message."""

    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    citation: Any = None


class Event(msgspec.Struct):
    """One event."""

    type: str = ""
    index: int = 0
    message: Message | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: TokenCounts | None = None
    error: Any = None


def coerced_event(value: Any) -> Event:
    """Return an event whose fields have other types; what can't be understood is left out."""
    fields = as_object(value)
    kind = as_optional_text(fields.get("type")) or ""
    message, block, delta = (
        as_object(fields.get(n)) for n in ("message", "content_block", "delta")
    )
    return Event(
        type=kind,
        index=as_int(fields.get("index")) or 0,
        message=Message(
            as_optional_text(message.get("id")) or "",
            as_optional_text(message.get("model")),
            _usage(message.get("usage")),
        ),
        content_block=Block(
            as_optional_text(block.get("type")) or "",
            as_optional_text(block.get("id")) or "",
            as_optional_text(block.get("name")) or "",
            as_text(block.get("text")) or None,
            as_text(block.get("thinking")) or None,
            as_optional_text(block.get("signature")),
            as_optional_text(block.get("data")),
            block.get("input"),
        ),
        delta=Delta(
            as_text(delta.get("text")) or None,
            as_text(delta.get("thinking")) or None,
            as_optional_text(delta.get("signature")),
            as_optional_text(delta.get("partial_json")),
            as_optional_text(delta.get("stop_reason")),
            as_optional_text(delta.get("stop_sequence")),
            delta.get("citation"),
        ),
        usage=_usage(fields.get("usage")),
        error=fields.get("error"),
    )


def _usage(value: Any) -> TokenCounts | None:
    return as_counts(TokenCounts, value) if isinstance(value, dict) else None
