"""One chat room."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import msgspec

from rxllm.server.catalogue import Catalogue
from rxllm.server.limits import Limits
from rxllm.server.messages import Joined, Left, RoomMessage, Say, Typing
from rxllm.server.persona import RoomSettings
from rxllm.server.rooms.bot import Bot
from rxllm.server.rooms.member import BOT, Member, is_addressed, name_key
from rxllm.server.websocket.outbox import Outbox
from rxllm.web.encoding import to_json
from rxllm.web.failures import InvalidMessageError, RefusedError, TooLargeError
from rxllm.web.stream_store import StreamStore

__all__ = ["Room"]

_HISTORY: Final = 50
_TYPING_SECONDS: Final = 60.0


class Room:
    """One room. Created by `Rooms`, whose methods document those of this class."""

    def __init__(
        self, name: str, catalogue: Catalogue, store: StreamStore, settings: RoomSettings
    ) -> None:
        self.name = name
        self.last_activity = time.time()
        self._limits: Limits = catalogue.limits
        self._members: dict[Outbox, Member] = {}
        self._history: deque[RoomMessage] = deque(maxlen=_HISTORY)
        self._bot = Bot(self, catalogue, store, settings)

    def __contains__(self, outbox: object) -> bool:
        return outbox in self._members

    @property
    def members(self) -> Sequence[Member]:
        """The members, in the order in which they joined."""
        return tuple(self._members.values())

    @property
    def history(self) -> Sequence[RoomMessage]:
        """The last messages, within `limits.prompt_characters` in all."""
        return tuple(self._history)

    def join(self, member: Member) -> None:
        if member.outbox in self._members:
            raise RefusedError("already_joined", f"you are already in the room {self.name!r}", 409)
        if len(self._members) >= self._limits.room_members:
            raise RefusedError("room_full", f"the room {self.name!r} is full", 429)
        if any(name_key(each.name) == name_key(member.name) for each in self.members):
            raise InvalidMessageError(f"the name {member.name!r} is taken in this room", "name")
        self._members[member.outbox] = member
        self.last_activity = time.time()
        joined = Joined(room=self.name, name=member.name, participants=self._names)
        self.broadcast(joined, besides=member)
        member.outbox.send(msgspec.structs.replace(joined, history=self.history))
        for each in self.members:
            if each.typing is not None:
                member.outbox.send(self._typing(each.name, True))
        if self._bot.is_typing:
            member.outbox.send(self._typing(BOT, True))
        self._bot.attach(member)

    def leave(self, outbox: Outbox) -> None:
        member = self._members.pop(outbox)
        self._stop_typing(member)
        member.leave()
        left = Left(room=self.name, name=member.name, participants=self._names)
        outbox.send(left)
        self.broadcast(left)

    def say(self, outbox: Outbox, said: Say) -> None:
        member, text = self._members[outbox], said.text
        most = min(self._limits.history_characters, self._limits.prompt_characters)
        if len(text) > most:
            raise TooLargeError(f"a message must be at most {most} characters", "text")
        if not text.strip():
            raise InvalidMessageError("the message is empty", "text")
        if asks := is_addressed(text):
            self._bot.check(said)
        self._stop_typing(member)
        message = RoomMessage(
            room=self.name, id=uuid4().hex, name=member.name, text=text, timestamp=time.time()
        )
        self.keep(message)
        self.broadcast(message)
        if asks:
            self._bot.answer(message, said)

    def type(self, outbox: Outbox, typing: bool) -> None:
        member = self._members[outbox]
        if not typing:
            self._stop_typing(member)
            return
        before = member.typing
        loop = asyncio.get_running_loop()
        member.typing = loop.call_later(_TYPING_SECONDS, self._stop_typing, member)
        if before is None:
            self.broadcast(self._typing(member.name, True), besides=member)
        else:
            before.cancel()

    def keep(self, message: RoomMessage) -> None:
        """Add a message to the history."""
        self.last_activity = time.time()
        self._history.append(message)
        characters = sum(len(each.text) for each in self._history)
        while characters > self._limits.prompt_characters:
            characters -= len(self._history.popleft().text)

    def broadcast(self, message: msgspec.Struct, besides: Member | None = None) -> None:
        """Send to all members; for a slow one, messages are queued in its own outbox."""
        frame = to_json(message)
        for member in self.members:
            if member is not besides:
                member.outbox.write(frame)

    def close(self) -> asyncio.Task[None] | None:
        """Let all members go, without a word, and stop the answers of the model. Returns their
        cancelled task, if any."""
        for member in self.members:
            member.leave()
        self._members.clear()
        return self._bot.stop()

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members)

    def _typing(self, name: str, typing: bool) -> Typing:
        return Typing(room=self.name, typing=typing, name=name)

    def _stop_typing(self, member: Member) -> None:
        if member.typing is not None:
            member.typing.cancel()
            member.typing = None
            self.broadcast(self._typing(member.name, False), besides=member)
