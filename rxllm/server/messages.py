"""The messages that the server receives and sends.

All are JSON with camelCase names, tagged by `type`, with defaults omitted; only the turns of a
conversation use OpenAI's names (`tool_call_id`). The chunks of `rxllm.chunks` are sent unchanged;
the messages here wrap them. The JSON Schema and the OpenAPI document of the server are generated
from these classes, as is the table of messages in the README (`make readme`).
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from rxllm.requests import ModelInfo
from rxllm.server.http_messages import (
    Approvals,
    Asked,
    Conversation,
    Generated,
    Health,
    Options,
    StreamList,
    StreamQuery,
    StreamRequest,
    Tools,
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
    "ListRooms",
    "Models",
    "Options",
    "Pause",
    "Ping",
    "Pong",
    "Reconnect",
    "Reconnected",
    "Resume",
    "RoomList",
    "RoomMessage",
    "RoomSummary",
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

_Text = Annotated[str, Meta(min_length=1, description="the text of the message")]
_Id = Annotated[
    str, Meta(min_length=1, max_length=100, description="the stream's id on this connection")
]
_Room = Annotated[str, Meta(min_length=1, max_length=60, description="the room's name")]
_Name = Annotated[str, Meta(min_length=1, max_length=60, description="the member's name")]
_System = Annotated[
    str | None, Meta(description="the system prompt; an empty one for none, not that of the server")
]
_Participants = Annotated[tuple[str, ...], Meta(description="names of the current members")]
_ModelInfos = Annotated[tuple[ModelInfo, ...], Meta(description="the available models")]
_Default = Annotated[str, Meta(description="the model for requests that don't name one")]


# From a WebSocket client.


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
    """Start a stream. The client chooses its `id`, which other clients can't see.

    Exactly one of `prompt` and `messages` is required.
    """

    id: _Id
    prompt: Asked = None
    messages: Conversation = None
    approvals: Approvals = None
    options: Options = msgspec.field(default_factory=Options)
    tools: Tools = ()


class Stop(_FromClient, tag="stop"):
    """Stop a stream: it ends with `End("cancelled")`."""

    id: _Id


class Pause(_FromClient, tag="pause"):
    """Pause a stream."""

    id: _Id


class Resume(_FromClient, tag="resume"):
    """Resume a paused stream."""

    id: _Id


class Reconnect(_FromClient, tag="reconnect"):
    """Continue the streams and the chat of a lost connection on a new one, before any other
    request. The server keeps them for `limits.grace` seconds. Rooms have to be joined again.
    Another server that shares the streams continues them, but not the chat."""

    session: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=100,
            description="the `session` of the lost connection: that of its `reconnected`, if it has"
            " one, or else of its `connected`",
        ),
    ]
    positions: Annotated[
        dict[str, int],
        Meta(max_length=200, description="position of the last message received, by stream id"),
    ] = {}


class ListModels(_FromClient, tag="models"):
    """Request the list of models."""


class ListRooms(_FromClient, tag="rooms"):
    """Request the list of rooms."""


class Ping(_FromClient, tag="ping"):
    """Request a `pong`."""


class SendChat(_FromClient, tag="chat"):
    """Send a message to the chat of this connection. The server keeps its history.

    The answer is a stream with this `id`, followed by a `chat_message`. If it ends with calls that
    wait for an approval, the next message may have `approvals` in place of a `text`; the answer
    goes on.
    """

    id: _Id
    text: Annotated[
        Annotated[str, Meta(min_length=1)] | None, Meta(description="the text of the message")
    ] = None
    approvals: Approvals = None
    system: _System = None
    options: Options = msgspec.field(default_factory=Options)


class Join(_FromClient, tag="join"):
    """Join a room under a name. A room that is on another of several servers is an `error` with the
    code `room_elsewhere` and the `address` of that server."""

    room: _Room
    name: _Name


class Leave(_FromClient, tag="leave"):
    """Leave a room."""

    room: _Room


class Say(_FromClient, tag="say"):
    """Send a message to a room. The model answers if it is addressed or asked a question, with this
    system prompt and these options in place of those of the room."""

    room: _Room
    text: _Text
    system: _System = None
    options: Options = msgspec.field(default_factory=Options)


class Typing(_FromClient, tag="typing"):
    """Whether somebody is typing in a room. Only the server sets `name`."""

    room: _Room
    typing: bool
    name: Annotated[str | None, Meta(description="who is typing")] = None


ClientMessage: TypeAlias = (
    Start
    | Stop
    | Pause
    | Resume
    | Reconnect
    | ListModels
    | ListRooms
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
    """The first message of a connection, with the server's capabilities and models."""

    capabilities: Annotated[tuple[str, ...], Meta(description="features of this server")]
    models: _ModelInfos
    default_model: _Default
    session: Annotated[str, Meta(description="a secret to `reconnect` with after a loss")]
    welcome: Annotated[str, Meta(description="a line of text to display")] = ""


class Reconnected(_FromServer, tag="reconnected"):
    """The streams and the chat of a lost connection continue here. The missed messages follow; a
    stream that can no longer be read ends with an `error`."""

    history: Annotated[
        int, Meta(description="number of chat exchanges kept; 0 on another server than before")
    ] = 0
    session: Annotated[
        str | None,
        Meta(
            description="of several servers: the secret to `reconnect` with after the next loss,"
            " which all of them know, in place of that of `connected`"
        ),
    ] = None


class Models(_FromServer, tag="models"):
    """The models of the server."""

    models: _ModelInfos
    default_model: _Default


class RoomSummary(msgspec.Struct, kw_only=True, rename="camel"):
    """A room. Times are in Unix seconds."""

    name: Annotated[str, Meta(description="the room's name")]
    members: Annotated[int, Meta(description="number of members")]
    last_activity: Annotated[float, Meta(description="when somebody last joined or wrote")]


class RoomList(_FromServer, tag="rooms"):
    """The rooms of this server that have members, the most recently active first; also of
    `GET /rooms`. Rooms of other servers that share its streams are not listed."""

    rooms: tuple[RoomSummary, ...]


class StreamState(_FromServer, tag="state"):
    """A stream was paused, resumed or stopped, or had already ended."""

    id: str
    status: Literal["running", "paused", "cancelled", "completed", "failed"]


class Pong(_FromServer, tag="pong"):
    """The answer to a `ping`."""


class ChatMessage(_FromServer, tag="chat_message"):
    """The full answer in the chat of this connection, sent after its `complete`."""

    id: str
    text: str
    history: Annotated[int, Meta(description="number of exchanges kept")]


class RoomMessage(_FromServer, tag="room_message"):
    """A message in a room. A message of the model is first sent as a stream with the same `id`."""

    room: str
    id: Annotated[str, Meta(description="the message's id")]
    name: Annotated[str, Meta(description="the author")]
    text: str
    timestamp: Annotated[float, Meta(description="in Unix seconds")]
    bot: Annotated[bool, Meta(description="whether the model is the author")] = False


class Joined(_FromServer, tag="joined"):
    """Somebody joined a room. The new member also receives the history."""

    room: str
    name: str
    participants: _Participants
    history: Annotated[
        tuple[RoomMessage, ...], Meta(description="recent messages, oldest first")
    ] = ()


class Left(_FromServer, tag="left"):
    """Somebody left a room."""

    room: str
    name: str
    participants: _Participants


ServerMessage: TypeAlias = (
    Connected
    | Reconnected
    | Models
    | RoomList
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
