"""The messages of the server: what comes in, and what goes out.

Everything is JSON with camelCase names, tagged by `type`, defaults left out. The chunks of
`rxllm.chunks` go out as they are; the messages here are what stands around them. The JSON Schema
and the OpenAPI document of the server are generated from these classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from rxllm.chunks import FinishReason, Usage
from rxllm.messages import Message
from rxllm.requests import ModelInfo, Strategy
from rxllm.sinks._stream_messages import Complete, Failed, StreamChunk

__all__ = [
    "ChatMessage",
    "ClientMessage",
    "Complete",
    "Connected",
    "Failed",
    "Generated",
    "Join",
    "Joined",
    "Leave",
    "Left",
    "ListModels",
    "Models",
    "Options",
    "Pause",
    "Ping",
    "Pong",
    "Resume",
    "RoomMessage",
    "Say",
    "SendChat",
    "ServerMessage",
    "Start",
    "Stop",
    "StreamChunk",
    "StreamList",
    "StreamRequest",
    "StreamState",
    "StreamSummary",
    "Typing",
]

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]


class Options(
    msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """How a stream is asked for. What is left out is the model's, or the server's, to choose."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] | str = ()
    seed: int | None = None
    strategy: Strategy | None = None
    response_format: Literal["json"] | dict[str, Any] | None = None


class StreamRequest(Options, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /stream`, `POST /api/stream` and `POST /generate`.

    Exactly one of `prompt` and `messages`.
    """

    prompt: str | None = None
    messages: tuple[Message, ...] | None = None


# From a client of the WebSocket.


class _FromClient(
    msgspec.Struct,
    kw_only=True,
    rename="camel",
    tag_field="type",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    pass


class Start(_FromClient, tag="start"):
    """Begin a stream. Its `id` is the client's to choose, and its own: other clients can't see it.

    Exactly one of `prompt` and `messages`.
    """

    id: _Id
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    options: Options = msgspec.field(default_factory=Options)


class Stop(_FromClient, tag="stop"):
    """End a stream: it ends with `End("cancelled")`."""

    id: _Id


class Pause(_FromClient, tag="pause"):
    """Hold a stream."""

    id: _Id


class Resume(_FromClient, tag="resume"):
    """Let a stream go on."""

    id: _Id


class ListModels(_FromClient, tag="models"):
    """Ask what models there are."""


class Ping(_FromClient, tag="ping"):
    """Ask for a `pong`."""


class SendChat(_FromClient, tag="chat"):
    """Say something in the chat of this connection. The server keeps its history.

    The answer comes as a stream of this `id`, and then as a `chat_message`.
    """

    id: _Id
    text: _Text
    options: Options = msgspec.field(default_factory=Options)


class Join(_FromClient, tag="join"):
    """Enter a room, under a name."""

    room: _Name
    name: _Name


class Leave(_FromClient, tag="leave"):
    """Leave a room."""

    room: _Name


class Say(_FromClient, tag="say"):
    """Say something in a room. The model answers when it is addressed or asked."""

    room: _Name
    text: _Text


class Typing(_FromClient, tag="typing"):
    """Whether somebody is writing in a room. From the server it bears the name, and only there."""

    room: _Name
    typing: bool
    name: str | None = None


ClientMessage: TypeAlias = (
    Start | Stop | Pause | Resume | ListModels | Ping | SendChat | Join | Leave | Say | Typing
)


# From the server.


class _FromServer(
    msgspec.Struct, kw_only=True, rename="camel", tag_field="type", omit_defaults=True
):
    pass


class Connected(_FromServer, tag="connected"):
    """The first message of a connection: what can be done here."""

    capabilities: tuple[str, ...]
    models: tuple[ModelInfo, ...]
    default_model: str
    welcome: str = ""


class Models(_FromServer, tag="models"):
    """What models there are."""

    models: tuple[ModelInfo, ...]
    default_model: str


class StreamState(_FromServer, tag="state"):
    """A stream has been paused, resumed or stopped, or had come to its end before it could be."""

    id: str
    status: Literal["running", "paused", "cancelled", "completed", "failed"]


class Pong(_FromServer, tag="pong"):
    """The answer to a `ping`."""


class ChatMessage(_FromServer, tag="chat_message"):
    """The whole answer in the chat of this connection: it follows each `complete` there."""

    id: str
    text: str
    history: int  # exchanges that are kept


class RoomMessage(_FromServer, tag="room_message"):
    """Something was said in a room. The model's messages begin as a stream of the same `id`."""

    room: str
    id: str
    name: str
    text: str
    timestamp: float
    bot: bool = False


class Joined(_FromServer, tag="joined"):
    """Somebody has entered a room. Who has entered gets the history with it."""

    room: str
    name: str
    participants: tuple[str, ...]
    history: tuple[RoomMessage, ...] = ()


class Left(_FromServer, tag="left"):
    """Somebody has left a room."""

    room: str
    name: str
    participants: tuple[str, ...]


class Generated(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The answer of `POST /generate`."""

    text: str
    tokens: int
    seconds: float
    model: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class StreamSummary(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """What is known of a stream, in `GET /streams`. Times are in Unix seconds, `position` is that
    of its last event; `readers` counts those who read it now."""

    id: str
    status: Literal["ready", "running", "paused", "completed", "failed", "cancelled"]
    started: float
    last_activity: float
    duration: float
    model: str | None = None
    position: int | None = None
    readers: int | None = None


class StreamList(msgspec.Struct, kw_only=True, rename="camel"):
    """The answer of `GET /streams`. Those without a `position` belong to a WebSocket connection, or
    a request that waits for the whole answer; they can be stopped, and not read."""

    streams: tuple[StreamSummary, ...]
    draining: bool = False


ServerMessage: TypeAlias = (
    Connected
    | Models
    | StreamChunk
    | Complete
    | Failed
    | StreamState
    | Pong
    | ChatMessage
    | RoomMessage
    | Joined
    | Left
    | Typing
)
