"""The wire messages of a stream: chunks, and then `complete` or `error`."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from rxllm.chunks import Chunk, FinishReason, Outcome, Progress, Usage

__all__ = ["Complete", "StreamChunk", "StreamFailed", "StreamStatus", "StreamSummary"]


class _OfStream(msgspec.Struct, kw_only=True, rename="camel", tag_field="type", omit_defaults=True):
    pass


class StreamChunk(_OfStream, tag="chunk", gc=False):
    """A chunk of a stream.

    `position` counts the events of the stream from 1, and is the event id over SSE; `timestamp` is
    in Unix seconds. A snapshot for a late reader is also a message of this type, with the position
    of the last event that it contains.

    With an `offset`, the `arguments` of the chunk, a tool call, are only those from this character
    on: the reader has the ones before from earlier messages about the call.
    """

    id: str
    position: int
    timestamp: float
    chunk: Chunk
    offset: int | None = None
    room: str | None = None


class Complete(_OfStream, tag="complete"):
    """The end of a stream that hasn't failed. `seconds` is its duration."""

    id: str
    tokens: int
    seconds: float
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    model: str | None = None
    text: str | None = None  # only in NDJSON
    position: int | None = None
    room: str | None = None


class StreamFailed(_OfStream, tag="error"):
    """The failure of a stream (`id`), or of a client's message.

    `code` names the class of the error in snake case (`rate_limit`, `bad_request`,
    `invalid_message`, `too_many_messages`, ...), `field` the invalid part of the message. `partial`
    is the text received before the failure, `retry_after` how many seconds to wait, if the provider
    specified it, `address` that of the server that has the `room` (`room_elsewhere`).
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
    address: str | None = None


StreamStatus: TypeAlias = Literal[
    "waiting", "ready", "running", "paused", "completed", "failed", "cancelled"
]


class StreamSummary(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """A stream in `GET /streams`.

    A stream that is `waiting` has had no event yet. Times are in Unix seconds, `position` is that
    of the last event, `readers` the current number of readers, `owner` the name of the API key
    that began it. `estimated_end` is when it will probably end, by its last `progress`.
    """

    id: str
    status: StreamStatus
    started: float
    last_activity: float
    duration: float
    model: str | None = None
    position: int | None = None
    readers: int | None = None
    owner: str | None = None
    progress: Progress | None = None
    estimated_end: float | None = None

    @property
    def outcome(self) -> Outcome | None:
        """How the stream ended; `None` while it is live."""
        status = self.status
        return status if status in ("completed", "failed", "cancelled") else None
