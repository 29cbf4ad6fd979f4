"""The messages in which a stream goes out: chunks, and then `complete` or `error`."""

from __future__ import annotations

import re

import msgspec

from rxllm.chunks import Chunk, FinishReason, Usage
from rxllm.errors import RxLLMError, deserves

__all__ = ["Complete", "Failed", "StreamChunk", "code_of", "failed"]


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


class Failed(_OfStream, tag="error"):
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


def code_of(error: BaseException) -> str:
    """The code of an error: the name of its class, `"internal"` if it is none of rxllm's.

    >>> from rxllm.errors import RateLimitError
    >>> code_of(RateLimitError("slow down")), code_of(ValueError("a bug"))
    ('rate_limit', 'internal')
    """
    if not isinstance(error, RxLLMError):
        return "internal"
    name = type(error).__name__.removesuffix("Error")
    return "failed" if name == "RxLLM" else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def failed(
    error: BaseException, stream_id: str | None = None, position: int | None = None
) -> Failed:
    """What a client is told of an error.

    What an error says that is none of rxllm's is not for strangers, and is not told.

    >>> failed(ValueError("no such table: passwords")).message
    'something went wrong inside of the server'
    """
    is_ours = isinstance(error, RxLLMError)
    return Failed(
        id=stream_id,
        code=code_of(error),
        message=str(error) if is_ours else "something went wrong inside of the server",
        retryable=deserves(error) == "again",
        partial=(error.partial or None) if isinstance(error, RxLLMError) else None,
        position=position,
        retry_after=getattr(error, "retry_after", None),
    )
