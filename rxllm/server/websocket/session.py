"""What one client of the WebSocket asks for, and what it gets."""

from __future__ import annotations

import asyncio
import json
from secrets import token_urlsafe
from typing import Final, assert_never

import msgspec
from aiohttp import WSCloseCode

from rxllm.errors import RxLLMError
from rxllm.server.catalogue import Catalogue
from rxllm.server.chat import Chat
from rxllm.server.failures import invalid
from rxllm.server.messages import (
    ClientMessage,
    Connected,
    Join,
    Leave,
    ListModels,
    Models,
    Options,
    Pause,
    Ping,
    Pong,
    Reconnect,
    Reconnected,
    Resume,
    Say,
    SendChat,
    Start,
    Stop,
    Typing,
)
from rxllm.server.rooms.rooms import Rooms
from rxllm.server.websocket.outbox import Outbox
from rxllm.server.websocket.sessions import Sessions
from rxllm.server.websocket.streams import ClientStreams
from rxllm.web.failures import InvalidMessageError, failure_message
from rxllm.web.stream_store import StreamStore

__all__ = ["Session"]

_CAPABILITIES: Final = ("streams", "pause", "progress", "chat", "rooms", "reconnect")
_LONGEST_NAME: Final = 100
_WELCOME: Final = "Say something, and the model answers. It remembers what was said here."

_OPTIONS: Final = frozenset(Options.__struct_encode_fields__)

_decode = msgspec.json.Decoder(ClientMessage).decode


class Session:
    """One client: its streams, its chat, and what it asks for.

    Args:
        catalogue: whose models are asked.
        store: runs the streams.
        rooms: those of the server.
        sessions: keeps the session after its connection.

    Attributes:
        secret: names the session for a client that reconnects.
        outbox: where all messages to the client go. When it closes, the client leaves its rooms,
            and its streams and its chat may be taken up by another connection.
        code, reason: with which the connection is closed.
        is_released: another connection has taken up the session.
    """

    def __init__(
        self, catalogue: Catalogue, store: StreamStore, rooms: Rooms, sessions: Sessions
    ) -> None:
        self.secret: Final = token_urlsafe()
        self.code: int = WSCloseCode.OK
        self.reason = b""
        self.is_released = False
        self.outbox: Final = Outbox(self._detach)
        self._catalogue = catalogue
        self._rooms = rooms
        self._sessions = sessions
        self._streams = ClientStreams(store, self.outbox, catalogue.limits.streams_per_connection)
        self._chat = Chat(catalogue, self._streams)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take up again."""
        return not self._streams and self._chat.is_empty

    def forget(self) -> None:
        """Drop what was said in the chat. The streams end with their grace."""
        self._chat.close()

    def release(self) -> tuple[ClientStreams, Chat]:
        """Hand the streams and the chat to another connection, and close this one."""
        self.is_released = True
        self.outbox.finish()
        return self._streams, self._chat

    def greet(self) -> None:
        """Send what can be done here."""
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
        """Do what a message asks for, or say what is wrong with it.

        Nothing is done for a client that has gone: nobody would end it.
        """
        if not self.outbox.is_open:
            return
        try:
            message = _decode(text)
        except msgspec.DecodeError as error:
            self.refuse_unread(invalid(error), text)
            return
        except RecursionError:
            self.refuse(InvalidMessageError("this is nested too deep"))
            return
        named = getattr(message, "id", None), getattr(message, "room", None)
        try:
            await self._act(message)
        except RxLLMError as error:
            self.refuse(error, *named, field=_field_in(message, getattr(error, "field", None)))
        except Exception as error:
            self.refuse(error, *named)
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"a WebSocket message failed: {type(message)}", "exception": error}
            )

    def refuse(
        self,
        error: Exception,
        stream_id: str | None = None,
        room: str | None = None,
        *,
        field: str | None = None,
    ) -> None:
        """Say what is wrong; `field` names it better than the error does.

        An `error` with an id ends the stream of that id. So one about a stream that lives on, such
        as a second one of its id, has none.
        """
        if stream_id in self._streams or stream_id in self._chat:
            stream_id = None
        message = failure_message(error, stream_id)
        message.room = room
        message.field = field or message.field
        self.outbox.send(message)

    def refuse_unread(self, error: Exception, text: str | bytes) -> None:
        """Say why a message is not read; its id and its room are told if they can be found."""
        try:
            message = json.loads(text)  # more lenient than msgspec, as with half a surrogate pair
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
            case Ping():
                self.outbox.send(Pong())
            case Join():
                self._rooms.join(self.outbox, message.room, message.name)
            case Leave():
                self._rooms.leave(self.outbox, message.room)
            case Say():
                self._rooms.say(self.outbox, message.room, message.text)
            case Typing():
                if message.name is not None:
                    raise InvalidMessageError("who writes is known by the server", "name")
                self._rooms.type(self.outbox, message.room, message.typing)
            case _:
                assert_never(message)

    async def _start(self, message: Start) -> None:
        if message.prompt is not None and message.messages is not None:
            raise InvalidMessageError("give `prompt` or `messages`, not both", "messages")
        if message.id in self._chat:
            raise InvalidMessageError(f"a chat message {message.id!r} waits already", "id")
        prompt = message.messages if message.prompt is None else message.prompt
        await self._streams.begin(
            message.id,
            lambda listed: self._catalogue.ask(prompt, message.options, stream_id=listed),
            message.options.model or self._catalogue.default,
        )

    async def _reconnect(self, message: Reconnect) -> None:
        if not self.is_empty:
            raise InvalidMessageError("reconnect before anything else on a connection", "session")
        if message.session == self.secret:
            raise InvalidMessageError("this is the session of this connection", "session")
        self._streams, self._chat = self._sessions.take(message.session).release()
        self.outbox.send(Reconnected(history=self._chat.exchanges))
        await self._streams.attach(self.outbox, message.positions)
        self._chat.answer_waiting()

    def _detach(self) -> None:
        self._streams.detach()
        self._rooms.leave_all(self.outbox)
        self._sessions.detach(self)


def _field_in(message: ClientMessage, field: str | None) -> str | None:
    """What a request calls `field`, as it is called in a message."""
    if field in _OPTIONS and isinstance(message, Start | SendChat):
        return f"options.{field}"
    is_text = field in ("prompt", "messages") and isinstance(message, SendChat)
    return "text" if is_text else field


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= _LONGEST_NAME else None
