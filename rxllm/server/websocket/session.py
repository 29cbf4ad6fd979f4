"""The session of one WebSocket client, which handles its messages."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from secrets import token_urlsafe
from typing import Final, assert_never

import msgspec
from aiohttp import WSCloseCode
from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.errors import RxLLMError, StoreUnavailableError
from rxllm.server.catalogue import Catalogue
from rxllm.server.chat import Chat
from rxllm.server.failures import invalid
from rxllm.server.messages import (
    ClientMessage,
    Connected,
    Join,
    Leave,
    ListModels,
    ListRooms,
    Models,
    Options,
    Pause,
    Ping,
    Pong,
    Reconnect,
    Reconnected,
    Resume,
    RoomList,
    Say,
    SendChat,
    Start,
    Stop,
    Typing,
)
from rxllm.server.persona import Persona
from rxllm.server.rooms.rooms import Rooms
from rxllm.server.websocket.outbox import Outbox
from rxllm.server.websocket.sessions import Sessions
from rxllm.server.websocket.streams import ClientStreams
from rxllm.web.failures import InvalidMessageError, RefusedError, failure_message
from rxllm.web.shared_store import SharedStore
from rxllm.web.stream_store import StreamStore

__all__ = ["Session"]

_CAPABILITIES: Final = ("streams", "pause", "progress", "chat", "rooms", "reconnect")
_LONGEST_NAME: Final = 100
_WELCOME: Final = "Send a message to the model. It remembers this conversation."

_OPTIONS: Final = frozenset(Options.__struct_encode_fields__)

_decode = msgspec.json.Decoder(ClientMessage).decode


class Session:
    """One client, with its streams and its chat.

    Args:
        catalogue: the models.
        store: runs the streams.
        rooms: the rooms of the server.
        sessions: keeps the session after its connection has ended.
        persona: how the model answers in the chat.

    Attributes:
        secret: identifies the session when the client reconnects.
        outbox: receives all messages to the client. When it closes, the client leaves its rooms;
            another connection may continue its streams and its chat.
        code, reason: the close code and reason of the connection.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        store: StreamStore,
        rooms: Rooms,
        sessions: Sessions,
        persona: Persona,
    ) -> None:
        self.secret: Final = token_urlsafe()
        self.code: int = WSCloseCode.OK
        self.reason = b""
        self.outbox: Final = Outbox(self._detach)
        self._catalogue = catalogue
        self._store = store
        self._rooms = rooms
        self._sessions = sessions
        self._persona = persona
        self._streams: ClientStreams
        self._chat: Chat
        self._use(self._new_streams(self.secret))

    @property
    def first_secret(self) -> str:
        """The secret of the client's first connection, which this session continues."""
        return self._streams.secret

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to continue on another connection."""
        return not self._streams and self._chat.is_empty

    def release(self) -> tuple[ClientStreams, Chat]:
        """Hand the streams and the chat to another connection, and close this one."""
        self.outbox.finish()
        return self._streams, self._chat

    def greet(self) -> None:
        """Send `connected`, the first message, unless the client has left already."""
        if not self.outbox.is_open:
            return
        self._sessions.add(self)
        models = self._catalogue.listed
        self.outbox.send(
            Connected(
                capabilities=_CAPABILITIES,
                models=models,
                default_model=self._catalogue.default,
                session=self.secret,
                welcome=_WELCOME,
            )
        )

    async def receive(self, text: str) -> None:
        """Handle a message, or report what is wrong with it.

        No effect if the client has disconnected: nothing would stop what it started.
        """
        if not self.outbox.is_open:
            return
        try:
            message = _decode(text)
        except msgspec.DecodeError as error:
            self.refuse_unread(invalid(error), text)
            return
        except RecursionError:
            self.refuse(InvalidMessageError("the JSON is nested too deeply"))
            return
        named = getattr(message, "id", None), getattr(message, "room", None)
        try:
            await self._act(message)
        except RxLLMError as error:
            self.refuse(error, *named, field=_field_in(message, getattr(error, "field", None)))
        except Exception as error:
            self.refuse(error, *named)
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"handling {type(message).__name__} failed", "exception": error}
            )

    def refuse(
        self,
        error: Exception,
        stream_id: str | None = None,
        room: str | None = None,
        *,
        field: str | None = None,
    ) -> None:
        """Send an `error`; `field` overrides the field of the error.

        An `error` with an id ends the stream with that id. So an error that doesn't end the stream,
        such as a second `start` with its id, is sent without the id.
        """
        if stream_id in self._streams or stream_id in self._chat:
            stream_id = None
        message = failure_message(error, stream_id)
        message.room = room
        message.field = field or message.field
        self.outbox.send(message)

    def refuse_unread(self, error: Exception, text: str | bytes) -> None:
        """Report why a message was not read, with its id and its room if they can be found."""
        try:
            message = json.loads(text)  # more lenient than msgspec, e.g. with half a surrogate pair
        except (ValueError, RecursionError):
            message = None
        names = message if isinstance(message, dict) else {}
        self.refuse(error, _name(names.get("id")), _name(names.get("room")))

    async def _act(self, message: ClientMessage) -> None:
        match message:
            case Start():
                await self._start(message)
            case Stop() if message.id in self._chat:
                self._chat.withdraw(message.id)
            case Stop():
                await self._streams.stop(message.id)
            case Pause():
                await self._streams.pause(message.id)
            case Resume():
                await self._streams.resume(message.id)
            case Reconnect():
                await self._reconnect(message)
            case SendChat():
                await self._chat.say(message)
            case ListModels():
                catalogue = self._catalogue
                self.outbox.send(Models(models=catalogue.listed, default_model=catalogue.default))
            case ListRooms():
                self.outbox.send(RoomList(rooms=self._rooms.listed))
            case Ping():
                self.outbox.send(Pong())
            case Join():
                await self._rooms.join(self.outbox, message.room, message.name)
            case Leave():
                self._rooms.leave(self.outbox, message.room)
            case Say():
                self._rooms.say(self.outbox, message)
            case Typing():
                if message.name is not None:
                    raise InvalidMessageError("name must not be given: the server sets it", "name")
                self._rooms.type(self.outbox, message.room, message.typing)
            case _:
                assert_never(message)

    async def _start(self, message: Start) -> None:
        if message.prompt is not None and message.messages is not None:
            raise InvalidMessageError("give `prompt` or `messages`, not both", "messages")
        if message.id in self._chat:
            raise InvalidMessageError(
                f"the id {message.id!r} is in use by a waiting chat message", "id"
            )
        prompt = message.messages if message.prompt is None else message.prompt
        catalogue, options, approvals = self._catalogue, message.options, message.approvals
        self._streams.check(message.id)
        catalogue.find(options.model)
        request = catalogue.request(prompt, options, tools=message.tools)

        def ask(listed: str) -> Observable[Chunk]:
            return catalogue.ask(request, options, stream_id=listed, approvals=approvals)

        asked = catalogue.asked(request, options, approvals=approvals)
        model = options.model or catalogue.default
        await self._streams.begin(message.id, ask, model, asked=asked)

    async def _reconnect(self, message: Reconnect) -> None:
        if not self.is_empty:
            raise InvalidMessageError(
                "reconnect must come before any stream or chat message", "session"
            )
        if message.session == self.secret:
            raise InvalidMessageError("session must be that of a lost connection", "session")
        await self._take_over(message.session)
        if not self.outbox.is_open:
            return  # the client has left meanwhile; what was taken over is kept
        first = self.first_secret if isinstance(self._store, SharedStore) else None
        self.outbox.send(Reconnected(history=self._chat.exchanges, session=first))
        started = {
            stream_id: position
            for stream_id, position in message.positions.items()
            if stream_id not in self._chat  # a message that waits has no stream yet
        }
        await self._streams.attach(self.outbox, started)
        self._chat.answer_waiting()

    async def _take_over(self, secret: str) -> None:
        """Take over the streams and the chat of a session, or its streams from other servers.

        Raises:
            RefusedError: the secret is unknown, or the session has expired.
            StoreUnavailableError: it isn't here, and the other servers can't be reached.
        """
        is_shared = isinstance(self._store, SharedStore)
        try:
            self._streams, self._chat = self._sessions.take(secret).release()
        except RefusedError:
            streams = self._new_streams(secret)
            if not (is_shared and await streams.find()):
                raise
            if self.outbox.is_open:
                self._use(streams)
                self._sessions.add(self)
            return
        if is_shared:
            self._sessions.add(self)
            with suppress(StoreUnavailableError):
                await self._streams.find()  # it may have been on another server, and come back

    def _new_streams(self, secret: str) -> ClientStreams:
        most = self._catalogue.limits.streams_per_connection
        return ClientStreams(self._store, self.outbox, most, secret)

    def _use(self, streams: ClientStreams) -> None:
        """Use streams, with an empty chat."""
        self._streams = streams
        self._chat = Chat(self._catalogue, streams, self._persona)

    def _detach(self) -> None:
        self._streams.detach()
        self._rooms.leave_all(self.outbox)
        self._sessions.detach(self)


def _field_in(message: ClientMessage, field: str | None) -> str | None:
    """Return the name in a message of the request's `field`."""
    if field in _OPTIONS and isinstance(message, Start | SendChat | Say):
        return f"options.{field}"
    is_text = field in ("prompt", "messages") and isinstance(message, SendChat | Say)
    return "text" if is_text else field


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= _LONGEST_NAME else None
