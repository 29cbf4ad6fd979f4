"""The chunks of a model stream, in memory and on the wire.

A stream is one `Start`, then content, then `End`, then `on_completed`. A failure is `on_error` with
an `RxLLMError`, never a chunk. A second `Start` is always preceded by a `Notice`.

The classes are the wire format: JSON objects with camelCase names, tagged by `type`, with default
values omitted.

>>> encode(Token("Hello", confidence=0.5))
b'{"type":"token","text":"Hello","confidence":0.5}'
>>> decode(b'{"type":"end","finishReason":"stop"}')
End(finish_reason='stop', stop_sequence=None, native_reason=None, more=False, source=None)

**States.** Some providers send data with a piece of their answer that they want back, unread, with
the next request: a signature of the reasoning, an encrypted copy of it. A `ProviderState` carries
it. It comes in a chunk of its own with an empty text, after the text that it belongs to, so that no
operator has to cut it; on a `ToolCall`, it comes with the call.

**Runs.** An agent's stream is one answer after another: each but the last ends with
`End(more=True)`, and the results of its tool calls follow it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

__all__ = [
    "ApprovalRequest",
    "Batch",
    "Carried",
    "Chunk",
    "ChunkCarrier",
    "Citation",
    "End",
    "ErrorInfo",
    "FileOutput",
    "FinishReason",
    "Json",
    "Notice",
    "NoticeKind",
    "Outcome",
    "Progress",
    "ProviderState",
    "RateLimit",
    "RateLimits",
    "Reasoning",
    "StageInfo",
    "StageStatus",
    "Start",
    "StateKey",
    "Status",
    "Steering",
    "Token",
    "TokenLogprob",
    "ToolCall",
    "ToolResult",
    "Usage",
    "carried",
    "decode",
    "encode",
    "has_output",
    "is_bare_state",
    "is_chunk",
    "is_final_state",
    "is_lasting",
    "is_restart",
    "is_stream_failed",
    "state_key",
    "text_of",
    "tokens_of",
]

FinishReason: TypeAlias = Literal[
    "stop", "length", "tool_calls", "content_filter", "cancelled", "limit"
]
"""Why an answer ended. `"length"` is the limit of one answer, `"limit"` that of a whole run."""

Outcome: TypeAlias = Literal["completed", "failed", "cancelled"]
"""How a stream ended."""

Status: TypeAlias = Literal["ready", "running", "paused"] | Outcome
"""The state of a stream, or how it ended."""

StateKey: TypeAlias = tuple[object, ...]
NoticeKind: TypeAlias = Literal[
    "retry",
    "fallback",
    "restart",
    "resume",
    "degraded",
    "malformed",
    "unsupported",
    "lagged",
    "failed",
    "loading",
]


class _Chunk(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    rename="camel",
    omit_defaults=True,
):
    """Base class of all chunks. After a merge, `source` names the stream it came from.

    Each class declares how its chunks may be handled:

    Attributes:
        is_content: output of the model; see `has_output` for content that is empty.
        is_structure: gives a stream its order: starts, notices and ends.
        is_state: repeats the whole state each time, so only the newest counts (see `state_key`).
        is_droppable: may be dropped for a slow reader, unless it is the final state.
        survives_restart: still valid after the answer has restarted.
    """

    is_content: ClassVar[bool] = False
    is_structure: ClassVar[bool] = False
    is_state: ClassVar[bool] = False
    is_droppable: ClassVar[bool] = False
    survives_restart: ClassVar[bool] = False

    source: str | None = None


class RateLimit(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """What a provider still permits: `remaining` of `limit`, until `reset` seconds have passed."""

    remaining: int
    limit: int | None = None
    reset: float | None = None


class RateLimits(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """The rate limits of a provider: of requests, and of tokens."""

    requests: RateLimit | None = None
    tokens: RateLimit | None = None


class Start(_Chunk, tag="start", frozen=True, gc=False):
    """The model has accepted the request.

    `created` is in Unix seconds; `rate_limits` are what the provider says about them, if it does.
    `max_tokens` is that of the request; of an answer that is continued, that of the whole answer.
    """

    is_structure = True
    survives_restart = True

    request_id: str
    model: str
    provider: str | None = None
    created: float | None = None
    rate_limits: RateLimits | None = None
    max_tokens: int | None = None


class ProviderState(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Data of a provider about a part of its answer, to be sent back with the next request.

    It is sent back unchanged with the part that it belongs to, and only to the same model.

    Args:
        provider: the name of the provider.
        model: the model that was asked, by the provider's name for it.
        data: a JSON value, in the provider's own form.
    """

    provider: str
    model: str
    data: Any


class TokenLogprob(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """The log probability of one token of the model, and of the likeliest ones in its place."""

    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


class Token(_Chunk, tag="token", frozen=True, gc=False, eq=False):
    """A piece of the answer: whole characters, from one or more model tokens.

    `confidence` is the probability (0..1) that the model gave this piece, if known, and `logprobs`
    are those of its tokens, if requested; an operator that cuts the piece drops them. `number`
    counts words, sentences or lines from 1, once the text has been split into them. `masked` is
    True if the text stands in place of what `redact` has masked. A `state` belongs to the text
    since the last one, and ends that part of the answer; its own text is empty.

    `tokens` is how many of the model's tokens it completes. A piece from a model counts as one,
    since few models say it. An operator that cuts or joins pieces keeps the sum: a part of a token
    has none, except for the last part. It takes no part in comparisons, as a piece says the same
    however many tokens it is made of.
    """

    is_content = True
    is_droppable = True

    text: str
    confidence: float | None = None
    number: int | None = None
    state: ProviderState | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    masked: bool = False
    tokens: int = 1

    @property
    def _compared(self) -> tuple[object, ...]:
        return (
            *(self.text, self.confidence, self.number, self.state),
            *(self.logprobs, self.masked, self.source),
        )

    def __eq__(self, other: object) -> bool:
        return self._compared == other._compared if type(other) is Token else NotImplemented

    def __ne__(self, other: object) -> bool:  # that of a Struct compares identities
        return not self == other

    def __hash__(self) -> int:
        return hash(self._compared)


class Reasoning(_Chunk, tag="reasoning", frozen=True, gc=False):
    """A piece of a thinking block; not part of the answer's text.

    A `state` belongs to the reasoning since the last one, and ends that block; its own text is
    empty.
    """

    is_content = True
    is_droppable = True

    text: str
    state: ProviderState | None = None


class ToolCall(_Chunk, tag="tool_call", frozen=True, gc=False):
    """A tool call, with the arguments (JSON text) received so far.

    `index` is its position among the calls of one answer, from 0. `complete` is True on the last
    chunk of a call.
    """

    is_content = True
    is_state = True
    is_droppable = True

    id: str
    name: str
    arguments: str = ""
    index: int = 0
    complete: bool = False
    state: ProviderState | None = None


class ToolResult(_Chunk, tag="tool_result", frozen=True):
    """The result of a tool call, run by the application and not by the model.

    Args:
        id, name: those of the call.
        output: the JSON value that the tool returned.
        error: why it failed, as the model is told.
        preliminary: the tool is still running, and another result follows.
    """

    is_state = True
    is_droppable = True
    survives_restart = True

    id: str
    name: str
    output: Any = None
    error: ErrorInfo | None = None
    preliminary: bool = False

    @property
    def content(self) -> str:
        """The text that the model receives: the error, or the output, as JSON unless a string."""
        if self.error is not None:
            return f"{self.error.type}: {self.error.message}"
        if isinstance(self.output, str):
            return self.output
        return _encoder.encode(self.output).decode()


class ApprovalRequest(_Chunk, tag="approval_request", frozen=True, gc=False):
    """A tool call that waits for somebody's approval. `token` identifies it in the answer."""

    is_structure = True
    survives_restart = True

    id: str
    token: str
    reason: str | None = None


class Steering(_Chunk, tag="steering", frozen=True, gc=False):
    """A message of the user that joined a run between two of its answers."""

    is_structure = True
    survives_restart = True

    text: str
    id: str | None = None


class Json(_Chunk, tag="json", frozen=True):
    """The JSON value received so far; `complete` is True on the last one.

    `index` counts the values of an answer with several of them, from 0.
    """

    is_content = True
    is_state = True
    is_droppable = True

    value: Any
    complete: bool = False
    index: int = 0


class Usage(_Chunk, tag="usage", frozen=True, gc=False):
    """Input and output tokens, and the cost in USD once priced; `None` means not known.

    Args:
        input_tokens: all tokens read.
        output_tokens: all tokens written, including reasoning.
        cached_tokens: those read from the provider's cache.
        reasoning_tokens: those written as reasoning.
        cost: USD.
        cache_write_tokens: those read that the provider has written to its cache.
        estimated: the numbers are estimates; a remote stream has them until the provider counts.
    """

    survives_restart = True

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    cache_write_tokens: int | None = None
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return the sum, without a source. A field unknown to both stays unknown.

        It is estimated if a part of it is.

        >>> Usage(3, 5, cost=0.5) + Usage(1, 1) == Usage(4, 6, cost=0.5)
        True
        """
        total: dict[str, Any] = {}
        for name in self.__struct_fields__:
            known = [
                each for each in (getattr(self, name), getattr(other, name)) if each is not None
            ]
            if known and name != "source":
                total[name] = sum(known)
        total["estimated"] = self.estimated or other.estimated
        return Usage(**total)


class ErrorInfo(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """An error within a stream: the name of its class, and its message."""

    type: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> ErrorInfo:
        """Describe `error`."""
        return cls(type(error).__name__, str(error))


StageStatus: TypeAlias = Literal[
    "pending", "running", "completed", "failed", "skipped", "cancelled"
]


class StageInfo(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """A stage of the work; `started` and `ended` are seconds since the subscription."""

    name: str
    status: StageStatus
    started: float | None = None
    ended: float | None = None
    error: ErrorInfo | None = None


class Progress(_Chunk, tag="progress", frozen=True, gc=False):
    """The progress of a stream. Times are in seconds, `percentage` is 0..100.

    `tokens` are those of the answer. While a local model reads a long prompt, the stage is
    `"prompt"`, and the percentage that of the prompt. While the stream waits for a slot, the stage
    is `"queue"`, and `place` its place in the queue: 1 is the next one, and 0 that it has its slot.
    `stages` are all stages of the work, if they are tracked.
    """

    is_state = True
    is_droppable = True
    survives_restart = True

    tokens: int
    elapsed: float
    tokens_per_second: float | None = None
    max_tokens: int | None = None
    percentage: float | None = None
    remaining: float | None = None
    stage: str | None = None
    place: int | None = None
    stages: tuple[StageInfo, ...] = ()
    characters_per_second: float | None = None

    @classmethod
    def of(
        cls,
        tokens: int,
        elapsed: float,
        speed: float | None,
        max_tokens: int | None,
        *,
        ended: bool = False,
        characters_per_second: float | None = None,
        source: str | None = None,
    ) -> Progress:
        """Return the progress of an answer, with the percentage and the remaining seconds.

        Both are `None` without `max_tokens`.

        >>> Progress.of(25, 5.0, 5.0, 100).percentage, Progress.of(25, 5.0, 5.0, 100).remaining
        (25.0, 15.0)
        """
        percentage = remaining = None
        if max_tokens is not None:
            percentage = min(100.0, 100.0 * tokens / max_tokens)
            left = 0 if ended else max(0, max_tokens - tokens)
            if not left:
                remaining = 0.0
            elif speed:
                remaining = left / speed
        return cls(
            tokens,
            elapsed,
            tokens_per_second=speed,
            max_tokens=max_tokens,
            percentage=percentage,
            remaining=remaining,
            characters_per_second=characters_per_second,
            source=source,
        )


class Notice(_Chunk, tag="notice", frozen=True):
    """An event in the stream that the subscriber should know about.

    After `kind="restart"` the answer begins again: discard the text before it. `kind="failed"`
    reports that one of several streams has failed while the others continue, `"unsupported"` that
    the model has sent something that no chunk can carry, `"loading"` that a local model is being
    loaded, which isn't time that it takes for its first token. `attempt` counts from 1, `delay` is
    in seconds, `skipped` counts omitted chunks or events. `options` are those of a `"degraded"`
    attempt that differ from the original request.
    """

    is_structure = True
    survives_restart = True

    kind: NoticeKind
    attempt: int | None = None
    delay: float | None = None
    skipped: int | None = None
    error: ErrorInfo | None = None
    options: dict[str, Any] | None = None


class End(_Chunk, tag="end", frozen=True, gc=False):
    """The end of an answer, and its reason. `stop_sequence` is the one that matched, if any.

    `native_reason` is the provider's word for the reason, if it is none of the known ones; the
    finish reason is `"stop"` then. `more` is True if another answer of the same run follows.
    """

    is_structure = True

    finish_reason: FinishReason
    stop_sequence: str | None = None
    native_reason: str | None = None
    more: bool = False


class Citation(_Chunk, tag="citation", frozen=True, gc=False):
    """A source that the answer cites.

    `text` is the passage that the citation is about: of the answer, or of the source. `start` and
    `end` are its place in the answer, in the provider's units (usually characters).
    """

    is_content = True

    url: str | None = None
    title: str | None = None
    text: str | None = None
    start: int | None = None
    end: int | None = None


class FileOutput(_Chunk, tag="file", frozen=True, gc=False):
    """Output that isn't text, such as an image: its data in base64, or where to find it."""

    is_content = True

    media_type: str
    data: str | None = None
    url: str | None = None


class Batch(_Chunk, tag="batch", frozen=True):
    """Several text chunks of one source, in order, with the answer's text that they contain.

    The chunks carry the `source` of the batch, and have no `state`.
    """

    is_content = True
    is_droppable = True

    chunks: tuple[Token | Reasoning, ...]
    text: str


Chunk: TypeAlias = (
    Start
    | Token
    | Reasoning
    | ToolCall
    | ToolResult
    | ApprovalRequest
    | Steering
    | Json
    | Citation
    | FileOutput
    | Batch
    | Usage
    | Progress
    | Notice
    | End
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Chunk] = msgspec.json.Decoder(Chunk)

encode: Callable[[msgspec.Struct], bytes] = _encoder.encode
"""Encode a chunk as one line of UTF-8 JSON, without a newline."""


class ChunkCarrier:
    """An item that adds something to a chunk. Sinks read the chunk.

    Attributes:
        chunk: the chunk.
    """

    __slots__ = ("chunk",)

    chunk: Chunk


Carried: TypeAlias = Chunk | ChunkCarrier
"""What sinks read: chunks, or items that carry one."""


def carried(item: Any) -> Any:
    """Return the chunk that `item` carries, or `item` itself."""
    return item.chunk if isinstance(item, ChunkCarrier) else item


def is_chunk(item: object) -> bool:
    """Return whether `item` is an instance of one of the classes in `Chunk`."""
    return isinstance(item, _Chunk)


def decode(data: bytes | str) -> Chunk:
    """Decode one chunk from JSON. Unknown fields are ignored.

    Raises:
        msgspec.ValidationError: `data` is JSON but not a chunk.
        msgspec.DecodeError: `data` is not JSON.
    """
    return _decoder.decode(data)


def text_of(chunk: object) -> str:
    """Return the answer text in `chunk`: `""` unless it is a `Token` or `Batch`."""
    return chunk.text if isinstance(chunk, Token | Batch) else ""


def tokens_of(chunk: object) -> int:
    """Return how many tokens of a model `chunk` completes, in text or reasoning."""
    if type(chunk) is Token:
        return 0 if is_bare_state(chunk) else chunk.tokens
    if type(chunk) is Reasoning:
        return not is_bare_state(chunk)
    return sum(map(tokens_of, chunk.chunks)) if type(chunk) is Batch else 0


def has_output(chunk: Chunk) -> bool:
    """Return whether `chunk` carries output of the model: content that isn't an empty text."""
    if type(chunk) is Token or type(chunk) is Reasoning:
        return bool(chunk.text) or chunk.state is not None
    if type(chunk) is Batch:
        return bool(chunk.text) or any(part.text for part in chunk.chunks)
    return chunk.is_content


def is_bare_state(chunk: Token | Reasoning) -> bool:
    """Return whether `chunk` carries only a state: operators on text pass it on in its place."""
    return chunk.state is not None and not chunk.text


def state_key(chunk: Chunk) -> StateKey | None:
    """Identify the state that `chunk` updates; `None` if it adds to earlier chunks instead."""
    if type(chunk) is ToolCall:
        return ToolCall, chunk.source, chunk.index, chunk.id
    if type(chunk) is ToolResult:
        return ToolResult, chunk.source, chunk.id
    if type(chunk) is Json:
        return Json, chunk.source, chunk.index
    return (type(chunk), chunk.source) if chunk.is_state else None


def is_final_state(chunk: Chunk) -> bool:
    """Return whether `chunk` is the final state of a tool call, its result or a JSON value."""
    if type(chunk) is ToolResult:
        return not chunk.preliminary
    return (type(chunk) is ToolCall or type(chunk) is Json) and chunk.complete


def is_lasting(chunk: Chunk) -> bool:
    """Return whether no restart of its source takes back `chunk`, nor anything before it.

    A restart begins an answer again. The answers before it, and the results of their tools, stay.
    """
    if type(chunk) is ToolResult:
        return not chunk.preliminary
    return type(chunk) is Steering or (type(chunk) is End and chunk.more)


def is_restart(chunk: object) -> bool:
    """Return whether `chunk` is the notice after which the answer begins again."""
    return type(chunk) is Notice and chunk.kind == "restart"


def is_stream_failed(chunk: object) -> bool:
    """Return whether `chunk` is the notice, sent in place of `End`, that one stream has failed."""
    return type(chunk) is Notice and chunk.kind == "failed"
