"""The bodies and queries of HTTP requests, and the JSON responses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rxllm.chunks import ApprovalRequest, FinishReason, Usage
from rxllm.messages import Message, Tool
from rxllm.requests import Strategy
from rxllm.web.stream_messages import StreamSummary

__all__ = [
    "Approvals",
    "Asked",
    "Conversation",
    "Generated",
    "Health",
    "Options",
    "StreamList",
    "StreamQuery",
    "StreamRequest",
    "Tools",
]

Asked = Annotated[str | None, Meta(description="the prompt as text")]
Conversation = Annotated[
    tuple[Message, ...] | None, Meta(description="the prompt as a conversation, oldest first")
]

_Token = Annotated[str, Meta(max_length=200)]
_Decision = bool | Annotated[str, Meta(max_length=2000)]
Approvals = Annotated[
    Annotated[dict[_Token, _Decision], Meta(max_length=200)] | None,
    Meta(
        description="decisions about tool calls that wait in the conversation, by their tokens: "
        "`true`, `false`, or the reason for a no; only for agents"
    ),
]

StreamId = Annotated[
    str | None,
    Meta(description="a name for the stream, with which the same request resumes it"),
]


class Options(
    msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """The options of a request. Omitted ones default to those of the model or the server."""

    model: Annotated[str | None, Meta(description="one of the listed models")] = None
    max_tokens: Annotated[int | None, Meta(description="maximum length of the answer")] = None
    temperature: Annotated[
        float | None, Meta(description="0 (always the likeliest token) to 2")
    ] = None
    top_p: Annotated[
        float | None,
        Meta(description="total probability of the likeliest tokens to sample, above 0 to 1"),
    ] = None
    stop: Annotated[
        tuple[str, ...] | str, Meta(description="texts that end the answer, not included in it")
    ] = ()
    seed: Annotated[int | None, Meta(description="makes sampling repeatable, 0 or more")] = None
    strategy: Annotated[
        Strategy | None, Meta(description="how a router chooses among its models")
    ] = None
    response_format: Annotated[
        Literal["json"] | dict[str, Any] | None,
        Meta(description="any JSON, or a JSON Schema for the answer"),
    ] = None


Tools = Annotated[
    tuple[Tool, ...],
    Meta(description="tools of the client, which answers their calls in another request"),
]


class StreamQuery(Options, kw_only=True, forbid_unknown_fields=True):
    """The query of `GET /stream`. `stop` may be repeated; a JSON Schema requires a body."""

    prompt: Asked = None
    id: StreamId = None
    response_format: Annotated[Literal["json"] | None, Meta(description="any JSON")] = None


class StreamRequest(Options, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /stream`, `POST /api/stream` and `POST /generate`.

    Exactly one of `prompt` and `messages` is required.
    """

    prompt: Asked = None
    messages: Conversation = None
    approvals: Approvals = None
    id: StreamId = None
    tools: Tools = ()


class Generated(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The response of `POST /generate`.

    If there are calls, `messages` are what is added to the conversation, with the results of an
    agent's tools. `text` is its last answer; `pending` are the calls that wait for an approval.
    """

    text: str
    tokens: int
    seconds: Annotated[float, Meta(description="duration of the answer")]
    model: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    messages: tuple[Message, ...] = ()
    pending: tuple[ApprovalRequest, ...] = ()


class Health(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The response of `GET /healthz`; `streams` counts the live ones. `store` says whether the
    store that several servers share is reached; without it, a server still begins streams."""

    status: Literal["ok", "draining"]
    streams: int
    version: str
    store: Literal["ok", "away"] | None = None


class StreamList(msgspec.Struct, kw_only=True, rename="camel"):
    """The response of `GET /streams`. Those without a `position` belong to a request for the whole
    answer; they can be stopped, but not read."""

    streams: tuple[StreamSummary, ...]
    draining: bool = False
