"""The bodies and queries of HTTP requests, and what answers them in one piece of JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rxllm.chunks import FinishReason, Usage
from rxllm.messages import Message
from rxllm.requests import Strategy
from rxllm.web.stream_messages import StreamSummary

__all__ = [
    "Asked",
    "Conversation",
    "Generated",
    "Health",
    "Options",
    "StreamList",
    "StreamQuery",
    "StreamRequest",
]

Asked = Annotated[str | None, Meta(description="what the model is asked, as a text")]
Conversation = Annotated[
    tuple[Message, ...] | None, Meta(description="or as a conversation, oldest first")
]


class Options(
    msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """How a stream is asked for. What is left out is the model's, or the server's, to choose."""

    model: Annotated[str | None, Meta(description="one of those that are listed")] = None
    max_tokens: Annotated[int | None, Meta(description="length of the answer at most")] = None
    temperature: Annotated[
        float | None, Meta(description="0 (the likeliest token always) to 2")
    ] = None
    top_p: Annotated[
        float | None, Meta(description="the likeliest tokens that add up to this, above 0 to 1")
    ] = None
    stop: Annotated[
        tuple[str, ...] | str, Meta(description="texts at which the answer ends, without them")
    ] = ()
    seed: Annotated[int | None, Meta(description="makes sampling repeatable, 0 or more")] = None
    strategy: Annotated[
        Strategy | None, Meta(description="how a router chooses among its models")
    ] = None
    response_format: Annotated[
        Literal["json"] | dict[str, Any] | None,
        Meta(description="JSON of any form, or a JSON Schema that the answer has to follow"),
    ] = None


class StreamQuery(Options, kw_only=True, forbid_unknown_fields=True):
    """The query of `GET /stream`. `stop` may come several times; a JSON Schema takes a body."""

    prompt: Asked = None
    id: Annotated[
        str | None,
        Meta(description="names the stream, so that an `EventSource` can go on with it"),
    ] = None
    response_format: Annotated[Literal["json"] | None, Meta(description="JSON of any form")] = None


class StreamRequest(Options, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /stream`, `POST /api/stream` and `POST /generate`.

    Exactly one of `prompt` and `messages`.
    """

    prompt: Asked = None
    messages: Conversation = None


class Generated(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The answer of `POST /generate`."""

    text: str
    tokens: int
    seconds: Annotated[float, Meta(description="that the answer took")]
    model: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class Health(msgspec.Struct, kw_only=True, rename="camel"):
    """The answer of `GET /healthz`; `streams` counts those that live."""

    status: Literal["ok", "draining"]
    streams: int
    version: str


class StreamList(msgspec.Struct, kw_only=True, rename="camel"):
    """The answer of `GET /streams`. Those without a `position` belong to
    a request that waits for the whole answer; they can be stopped, and not read."""

    streams: tuple[StreamSummary, ...]
    draining: bool = False
