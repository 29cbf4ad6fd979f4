"""The fields that are read from the events of Anthropic's messages; others are ignored.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rxllm.chunks import Usage

__all__ = ["Block", "Delta", "Event", "Message", "OutputDetails", "TokenCounts"]


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
    content: Any = None  # blocks, of a server that sends them at once
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
    citations: Any = None
    source: Any = None  # of an image


class Delta(msgspec.Struct):
    """A part of a block, or of the message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: Any = None  # a piece of JSON as text, or all of it as an object
    input: Any = None  # the same under another name
    stop_reason: str | None = None
    stop_sequence: str | None = None
    citation: Any = None

    @property
    def says_something(self) -> bool:
        """Whether it has any field that a block is read from."""
        said = (self.text, self.thinking, self.signature, self.partial_json, self.input)
        return any((*said, self.citation))


class Event(msgspec.Struct):
    """One event."""

    type: str = ""
    index: int | None = None
    message: Message | None = None
    content_block: Block | None = None
    delta: Delta | str | None = None  # some servers send a text alone
    usage: TokenCounts | None = None
    error: Any = None
