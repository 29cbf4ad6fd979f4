"""The messages of the server: what comes in, and what goes out.

Everything is JSON with camelCase names, tagged by `type`, defaults left out; only the turns of a
conversation have the names that OpenAI gave them (`tool_call_id`). The chunks of `rxllm.chunks` go
out as they are; the messages here are what stands around them. The JSON Schema
and the OpenAPI document of the server are generated from these classes, and so is the table of
messages in the README (`make readme`).
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from rxllm.requests import ModelInfo
from rxllm.server.http_messages import (
    Asked,
    Conversation,
    Generated,
    Health,
    Options,
    StreamList,
    StreamQuery,
    StreamRequest,
)
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed, StreamSummary

__all__ = [
    "ChatMessage",
    "ClientMessage",
    "Complete",
    "Connected",
    "Generated",
    "Health",
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
    "Reconnect",
    "Reconnected",
    "Resume",
    "RoomMessage",
    "Say",
    "SendChat",
    "ServerMessage",
    "Start",
    "Stop",
    "StreamChunk",
    "StreamFailed",
    "StreamList",
    "StreamQuery",
    "StreamRequest",
    "StreamState",
    "StreamSummary",
    "Typing",
]

_Text = Annotated[str, Meta(min_length=1, description="what is said")]
_Id = Annotated[
    str, Meta(min_length=1, max_length=100, description="of the stream, in this connection")
]
_Room = Annotated[str, Meta(min_length=1, max_length=60, description="the room's name")]
_Name = Annotated[str, Meta(min_length=1, max_length=60, description="who it is, in this room")]
_Participants = Annotated[tuple[str, ...], Meta(description="all who are in the room now")]
_ModelInfos = Annotated[tuple[ModelInfo, ...], Meta(description="what may be asked")]
_Default = Annotated[str, Meta(description="the model that is asked when a request names none")]


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
    prompt: Asked = None
    messages: Conversation = None
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


class Reconnect(_FromClient, tag="reconnect"):
    """Take up the streams and the chat of a connection that was lost, before anything else is
    asked on a new one. The server keeps them for `limits.grace` seconds; rooms are joined again."""

    session: Annotated[
        str, Meta(min_length=1, max_length=100, description="of the lost connection")
    ]
    positions: Annotated[
        dict[str, int],
        Meta(max_length=200, description="of the last message of each stream that has arrived"),
    ] = {}


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

    room: _Room
    name: _Name


class Leave(_FromClient, tag="leave"):
    """Leave a room."""

    room: _Room


class Say(_FromClient, tag="say"):
    """Say something in a room. The model answers when it is addressed or asked."""

    room: _Room
    text: _Text


class Typing(_FromClient, tag="typing"):
    """Whether somebody is writing in a room. From the server it bears the name, and only there."""

    room: _Room
    typing: bool
    name: Annotated[str | None, Meta(description="who writes")] = None


ClientMessage: TypeAlias = (
    Start
    | Stop
    | Pause
    | Resume
    | Reconnect
    | ListModels
    | Ping
    | SendChat
    | Join
    | Leave
    | Say
    | Typing
)


# From the server.


class _FromServer(
    msgspec.Struct, kw_only=True, rename="camel", tag_field="type", omit_defaults=True
):
    pass


class Connected(_FromServer, tag="connected"):
    """The first message of a connection: what can be done here."""

    capabilities: Annotated[tuple[str, ...], Meta(description="what this server can do")]
    models: _ModelInfos
    default_model: _Default
    session: Annotated[str, Meta(description="a secret, for a `reconnect` if this one is lost")]
    welcome: Annotated[str, Meta(description="a line to show")] = ""


class Reconnected(_FromServer, tag="reconnected"):
    """The streams and the chat of a lost connection continue here. The messages that it missed
    follow; a stream that can't be read any more ends with an `error`."""

    history: Annotated[int, Meta(description="exchanges of the chat that are kept")] = 0


class Models(_FromServer, tag="models"):
    """What models there are."""

    models: _ModelInfos
    default_model: _Default


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
    history: Annotated[int, Meta(description="exchanges that are kept")]


class RoomMessage(_FromServer, tag="room_message"):
    """Something was said in a room. The model's messages begin as a stream of the same `id`."""

    room: str
    id: Annotated[str, Meta(description="of this message")]
    name: Annotated[str, Meta(description="who has said it")]
    text: str
    timestamp: Annotated[float, Meta(description="in Unix seconds")]
    bot: Annotated[bool, Meta(description="whether the model has said it")] = False


class Joined(_FromServer, tag="joined"):
    """Somebody has entered a room. Who has entered gets the history with it."""

    room: str
    name: str
    participants: _Participants
    history: Annotated[
        tuple[RoomMessage, ...], Meta(description="what was said last, oldest first")
    ] = ()


class Left(_FromServer, tag="left"):
    """Somebody has left a room."""

    room: str
    name: str
    participants: _Participants


ServerMessage: TypeAlias = (
    Connected
    | Reconnected
    | Models
    | StreamChunk
    | Complete
    | StreamFailed
    | StreamState
    | Pong
    | ChatMessage
    | RoomMessage
    | Joined
    | Left
    | Typing
)
