"""The messages in which a stream goes out: chunks, and then `complete` or `error`."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from rxllm.chunks import Chunk, FinishReason, Usage

__all__ = ["Complete", "StreamChunk", "StreamFailed", "StreamStatus", "StreamSummary"]


class _OfStream(msgspec.Struct, kw_only=True, rename="camel", tag_field="type", omit_defaults=True):
    pass


class StreamChunk(_OfStream, tag="chunk", gc=False):
    """A chunk of a stream.

    `position` counts the events of the stream from 1, as the event ids of its SSE form do;
    `timestamp` is in Unix seconds. A snapshot for a late reader is one of these as well, with the
    position of the last event in it.
    """

    id: str
    position: int
    timestamp: float
    chunk: Chunk
    room: str | None = None


class Complete(_OfStream, tag="complete"):
    """The end of a stream that has not failed. `seconds` from its beginning."""

    id: str
    tokens: int
    seconds: float
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    model: str | None = None
    text: str | None = None  # in the NDJSON form alone
    position: int | None = None
    room: str | None = None


class StreamFailed(_OfStream, tag="error"):
    """Something went wrong: a stream (`id`), or a message of the client.

    `code` names the class of the error in lower case with underscores (`rate_limit`,
    `bad_request`, `invalid_message`, `too_many_messages`, ...), `field` what was wrong in the
    message, `partial` is what the stream had said, `retry_after` how many seconds to wait where
    the provider says so.
    """

    code: str
    message: str
    id: str | None = None
    field: str | None = None
    retryable: bool = False
    partial: str | None = None
    position: int | None = None
    retry_after: float | None = None
    room: str | None = None


StreamStatus: TypeAlias = Literal[
    "waiting", "ready", "running", "paused", "completed", "failed", "cancelled"
]


class StreamSummary(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """What is known of a stream, in `GET /streams`. One that is `waiting` has had no event yet.
    Times are in Unix seconds, `position` is that of its last event; `readers` counts those who read
    it now."""

    id: str
    status: StreamStatus
    started: float
    last_activity: float
    duration: float
    model: str | None = None
    position: int | None = None
    readers: int | None = None
