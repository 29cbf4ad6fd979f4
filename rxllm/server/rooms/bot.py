"""The model in a room, which answers questions one at a time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol
from uuid import uuid4

import msgspec
from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.errors import RxLLMError
from rxllm.messages import Message, Role
from rxllm.server.catalogue import Catalogue
from rxllm.server.chat import ask_with_history
from rxllm.server.client import CLIENT, Client
from rxllm.server.messages import Complete, RoomMessage, Say, Typing
from rxllm.server.persona import RoomSettings
from rxllm.server.rooms.member import BOT, Member, Reply
from rxllm.web.failures import RefusedError, failure_message
from rxllm.web.stream_store import Frame, StreamStore

__all__ = ["Audience", "Bot"]

_MOST_WAITING: Final = 5


class Audience(Protocol):
    """The room, as seen by the model."""

    @property
    def name(self) -> str: ...
    @property
    def members(self) -> Sequence[Member]: ...
    @property
    def history(self) -> Sequence[RoomMessage]: ...
    def keep(self, message: RoomMessage) -> None: ...
    def broadcast(self, message: msgspec.Struct) -> None: ...


class _Question(NamedTuple):
    """A message to answer, as it is in the room and as it was sent, and who pays for the answer."""

    message: RoomMessage
    said: Say
    client: Client


class Bot:
    """Answers the messages that address the model in one room, one after the other.

    Each answer is a stream in the server's store, with the id of the message that it becomes. It
    runs at the pace of the model: a slow member holds up neither the model nor other members. A
    `typing` message is sent before an answer and again after it, however it ends.

    Args:
        room: the room.
        catalogue: the models.
        store: holds the answers while they are streamed.
        settings: how the model answers.
    """

    def __init__(
        self, room: Audience, catalogue: Catalogue, store: StreamStore, settings: RoomSettings
    ) -> None:
        self._room = room
        self._catalogue = catalogue
        self._store = store
        self._settings = settings
        self._waiting: deque[_Question] = deque()
        self._reply: Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def is_typing(self) -> bool:
        """Whether an answer is in progress."""
        return self._task is not None

    def check(self, said: Say) -> None:
        """Check a message before it is sent to the room.

        Raises:
            RxLLMError: the model is unknown, an option is invalid, or the prompt is too long.
        """
        options = self._settings.options(said.options)
        self._catalogue.find(options.model)
        prompt = [*self._settings.beginning(said.system), Message("user", said.text)]
        self._catalogue.request(prompt, options)

    def answer(self, message: RoomMessage, said: Say) -> None:
        """Answer `message`, now or after those before it. No effect once stopped.

        Raises:
            RefusedError: too many messages are waiting.
        """
        if self._stopped:
            return  # its author was evicted during the broadcast, which closed the room
        if len(self._waiting) >= _MOST_WAITING:
            raise RefusedError(
                "bot_busy", f"{_MOST_WAITING} messages are already waiting for an answer", 429
            )
        self._waiting.append(_Question(message, said, CLIENT.get()))
        if self._task is None:
            self._task = asyncio.create_task(self._answer_all(), name="rxllm room")

    def attach(self, member: Member) -> None:
        """Let a new member read the answer in progress."""
        if self._reply is not None:
            self._reply.attach(member)

    def stop(self) -> asyncio.Task[None] | None:
        """Stop answering. Returns the cancelled task of the current answers, if any."""
        self._stopped = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        return self._task

    async def _answer_all(self) -> None:
        self._broadcast_typing(True)
        try:
            while self._waiting:
                await self._answer_one(self._waiting.popleft())
        finally:
            self._task = self._reply = None
            self._broadcast_typing(False)

    async def _answer_one(self, question: _Question) -> None:
        reply_id = uuid4().hex
        CLIENT.set(question.client)
        try:
            await self._stream(reply_id, question)
        except Exception as error:
            refusal = failure_message(error, reply_id)
            refusal.room = self._room.name
            self._room.broadcast(refusal)
            if not isinstance(error, RxLLMError):
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "an answer in a room failed to start", "exception": error}
                )

    async def _stream(self, reply_id: str, question: _Question) -> None:
        model = self._settings.options(question.said.options).model
        handle = await self._store.begin(
            lambda: self._ask(reply_id, question),
            reply_id,
            model=model or self._catalogue.default,
            grace=0.0,
        )
        frames = await handle.read()
        reply = Reply(self._room.name, reply_id, frames)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_frame(frame: Frame) -> None:
            if frame.outcome is not None:
                self._end(reply, frame.message)

        def end(error: Exception | None = None) -> None:
            if not ended.done():
                ended.set_result(None)

        # The room subscribes first, so that the message is in its history before a member reads the
        # last event, and the demand of the members doesn't matter.
        reading = frames.subscribe(on_frame, end, end)
        try:
            self._reply = reply
            for member in self._room.members:
                reply.attach(member)
            await ended
        finally:
            self._reply = None
            reading.dispose()
            if not ended.done() or ended.cancelled():
                await self._store.cancel(reply_id)

    def _end(self, reply: Reply, message: object) -> None:
        self._reply = None
        if isinstance(message, Complete) and (message.text or "").strip():
            reply.message = RoomMessage(
                room=self._room.name,
                id=message.id,
                name=BOT,
                text=message.text or "",
                timestamp=time.time(),
                bot=True,
            )
            self._room.keep(reply.message)

    def _ask(self, reply_id: str, question: _Question) -> Observable[Chunk]:
        message, said, _ = question
        earlier = _before(message, self._room.history)
        before = earlier[max(0, len(earlier) - self._settings.messages) :]
        beginning = self._settings.beginning(said.system)
        options = self._settings.options(said.options)
        with_names = len({each.name for each in (*before, message) if not each.bot}) > 1

        def conversation(length: int) -> list[Message]:
            turns = _conversation((*before[len(before) - length :], message), with_names)
            return [*beginning, *turns]

        return ask_with_history(self._catalogue, conversation, len(before), options, reply_id)

    def _broadcast_typing(self, typing: bool) -> None:
        self._room.broadcast(Typing(room=self._room.name, typing=typing, name=BOT))


def _before(question: RoomMessage, history: Sequence[RoomMessage]) -> list[RoomMessage]:
    """Return what the model can know: what was said before the question, and all its answers."""
    ids = [each.id for each in history]
    place = ids.index(question.id) if question.id in ids else -1
    return [each for at, each in enumerate(history) if at < place or (each.bot and at > place)]


def _conversation(messages: Sequence[RoomMessage], with_names: bool) -> list[Message]:
    """Convert messages to alternating turns of user and assistant, the only roles models know."""
    turns: list[Message] = []
    for each in messages:
        text = f"{each.name}: {each.text}" if with_names and not each.bot else each.text
        role: Role = "assistant" if each.bot else "user"
        if turns and turns[-1].role == role:
            turns[-1] = turns[-1].followed_by("\n" + text)
        elif turns or role == "user":
            turns.append(Message(role, text))
    return turns
