"""Chat rooms of several people and a model."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from rxllm.server.catalogue import Catalogue
from rxllm.server.messages import Left, RoomSummary, Say
from rxllm.server.persona import RoomSettings
from rxllm.server.rooms.member import Member, check_name
from rxllm.server.rooms.room import Room
from rxllm.server.websocket.outbox import Outbox
from rxllm.web.failures import (
    RefusedError,
    RoomElsewhereError,
    failure_message,
)
from rxllm.web.shared_store import NameLeases, SharedStore
from rxllm.web.stream_store import StreamStore

__all__ = ["Rooms"]

_ROOMS_PER_CLIENT: Final = 8


class Rooms:
    """The rooms of a server. A room exists while it has members.

    A client is identified by its outbox, and may be in several rooms. Of several servers that share
    a store, one has each room: the others refuse to open one of the same name.

    Args:
        catalogue: the models, and the limits for clients.
        store: holds the answers while they are streamed.
        settings: how the model answers.
        address: returns the address of this server.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        store: StreamStore,
        settings: RoomSettings,
        address: Callable[[], str],
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._settings = settings
        self._rooms: dict[str, Room] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._binding: Counter[str] = Counter()  # names, by those who wait to join
        self._names: NameLeases | None = None
        if isinstance(store, SharedStore):
            self._names = store.names(address, self._on_lost)

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def listed(self) -> tuple[RoomSummary, ...]:
        """The rooms, the most recently active first."""
        rooms = sorted(self._rooms.values(), key=lambda room: -room.last_activity)
        return tuple(
            [
                RoomSummary(
                    name=room.name, members=len(room.members), last_activity=room.last_activity
                )
                for room in rooms
            ]
        )

    async def join(self, outbox: Outbox, room_name: str, name: str) -> None:
        """Join a room.

        All members receive `joined`, the new one with the history. The new member then receives who
        is typing, and the answer in progress from its beginning. A room that is opened is bound to
        this server until it closes.

        Raises:
            InvalidMessageError: a name is invalid, or taken in this room.
            RefusedError: there are too many rooms, or too many members in the room.
            RoomElsewhereError: another server has the room.
            StoreUnavailableError: another server may have the room, and can't be asked.
        """
        check_name(room_name, "room")
        check_name(name, "name")
        self._check_count(outbox, room_name)
        if self._names is None or room_name in self._rooms:
            self._open(room_name).join(Member(name, outbox))
            return
        self._binding[room_name] += 1
        try:
            address = await self._names.bind(room_name)
            if address is not None:
                raise _elsewhere(room_name, address)
            if outbox.is_open:  # or the client has left meanwhile
                self._check_count(outbox, room_name)
                self._open(room_name).join(Member(name, outbox))
        finally:
            self._binding[room_name] -= 1
            self._unbind(room_name)

    def _check_count(self, outbox: Outbox, room_name: str) -> None:
        """Raise a `RefusedError` if there are too many rooms for another one."""
        room = self._rooms.get(room_name)
        joined = sum(outbox in each for each in self._rooms.values())
        if joined >= _ROOMS_PER_CLIENT and (room is None or outbox not in room):
            raise RefusedError("too_many_rooms", f"you are already in {joined} rooms", 429)
        most = self._catalogue.limits.rooms
        if room is None and len(self._rooms) >= most:
            raise RefusedError("too_many_rooms", f"the server already has {most} rooms", 429)

    def _open(self, room_name: str) -> Room:
        """Return the room with this name; a new one if there is none."""
        room = self._rooms.get(room_name)
        if room is None:
            room = Room(room_name, self._catalogue, self._store, self._settings)
            self._rooms[room_name] = room
        return room

    def leave(self, outbox: Outbox, room_name: str) -> None:
        """Leave a room.

        Raises:
            RefusedError: this client is not in it.
        """
        room = self._find(outbox, room_name)
        room.leave(outbox)
        # The broadcast may evict members, the last of whom closes the room.
        if not room.members and self._rooms.get(room_name) is room:
            self._close(room)

    def leave_all(self, outbox: Outbox) -> None:
        """Leave all rooms, when the client has disconnected."""
        for room in [each for each in self._rooms.values() if outbox in each]:
            self.leave(outbox, room.name)

    def say(self, outbox: Outbox, message: Say) -> None:
        """Send a message to all members of a room; the model answers if it is addressed.

        Raises:
            InvalidMessageError: the text is empty, or an option is invalid.
            ModelNotFoundError: the server has no model with this name.
            RefusedError: this client is not in the room; or the message was sent, but the model is
                too busy to answer.
            TooLargeError: the text is too long.
        """
        self._find(outbox, message.room).say(outbox, message)

    def type(self, outbox: Outbox, room_name: str, typing: bool) -> None:
        """Notify the other members whether this client is typing.

        Raises:
            RefusedError: this client is not in the room.
        """
        self._find(outbox, room_name).type(outbox, typing)

    async def close(self) -> None:
        """Stop all answers, and wait until they have ended."""
        for room in list(self._rooms.values()):
            self._close(room)
        if self._stopping:
            await asyncio.wait(tuple(self._stopping))

    def _find(self, outbox: Outbox, room_name: str) -> Room:
        room = self._rooms.get(room_name)
        if room is None or outbox not in room:
            raise RefusedError("not_in_room", f"you are not in the room {room_name!r}", 409)
        return room

    def _on_lost(self, room_name: str, address: str) -> None:
        """Close a room that another server has as well, and let its members know."""
        room = self._rooms.get(room_name)
        if room is None:
            return
        message = failure_message(_elsewhere(room_name, address))
        message.room = room_name
        members = room.members
        self._close(room)
        for each in members:
            each.outbox.send(message)
            each.outbox.send(Left(room=room_name, name=each.name, participants=()))

    def _unbind(self, room_name: str) -> None:
        """Let other servers have a name, unless there is such a room, or somebody will open it."""
        if self._names is None or self._binding[room_name] > 0:
            return
        del self._binding[room_name]
        if room_name not in self._rooms:
            self._names.unbind(room_name)

    def _close(self, room: Room) -> None:
        del self._rooms[room.name]
        self._unbind(room.name)
        task = room.close()
        if task is not None:
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)


def _elsewhere(room_name: str, address: str) -> RoomElsewhereError:
    return RoomElsewhereError(f"the room {room_name!r} is on another server: {address}", address)
