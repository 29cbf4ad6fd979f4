"""The streams of a `RedisPool` on one event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Hashable
from itertools import count
from typing import Any

from reactivex.abc import DisposableBase

from rxllm.errors import PoolFullError, StoreUnavailableError
from rxllm.operators.controlling import Pooled
from rxllm.redis.connections import Link
from rxllm.redis.pool_scripts import ENTER, LEAVE, RENEW
from rxllm.redis.scripts import Script, digest, milliseconds

__all__ = ["PoolNode", "Slot"]


class Slot:
    """A slot, or a place in the queue.

    Attributes:
        has_slot: whether it is a slot.
        place: in the queue, from 1, once that is known.
    """

    def __init__(self, id: str) -> None:  # noqa: A002
        self.id: str = id
        self.has_slot: bool = False
        self.place: int | None = None


class PoolNode:
    """The streams of one pool on one event loop.

    Args:
        link: the connections of the loop.
        keys: of the pool.
        limit, queue, lease: see `RedisPool`.

    Attributes:
        slots: those that the streams hold or wait for.
    """

    def __init__(self, link: Link, keys: list[str], limit: int, queue: int, lease: float) -> None:
        self.slots: dict[Pooled, Slot] = {}
        self._link = link
        self._keys = keys
        self._limit = limit
        self._queue = queue
        self._lease = lease
        self._name = secrets.token_hex(8)
        self._numbers = count()
        self._renewing: asyncio.Task[None] | None = None
        self._entering: set[asyncio.Task[None]] = set()
        self._listener: DisposableBase | None = None

    def enter(self, stream: Pooled) -> None:
        """Ask for a slot, and admit or refuse the stream later."""
        id = f"{self._name}/{next(self._numbers)}/{_name_of(stream.client)}"  # noqa: A001
        slot = self.slots[stream] = Slot(id)
        reply = self._send(ENTER, slot.id, self._queue)
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._enter(stream, slot, reply), name="rxllm redis pool")
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)
        if self._renewing is None:
            self._renewing = loop.create_task(self._renew(), name="rxllm redis pool leases")

    def leave(self, stream: Pooled) -> asyncio.Task[None]:
        """Release the slot or the place in the queue; return what does so."""
        slot = self._forget(stream)
        released = self._send(LEAVE, slot.id)
        return asyncio.get_running_loop().create_task(
            _settle(released), name="rxllm redis pool release"
        )

    async def _enter(self, stream: Pooled, slot: Slot, reply: asyncio.Future[int]) -> None:
        try:
            place = await reply
        except StoreUnavailableError as error:
            self._refuse(stream, slot, error)
            return
        if place < 0:
            words = f"all {self._limit} slots are taken and {self._queue} streams wait"
            self._refuse(stream, slot, PoolFullError(words))
        else:
            self._place(stream, slot, place)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            await self._look()

    async def _look(self) -> None:
        """Renew all leases, and learn who has been admitted."""
        slots = [(stream, slot) for stream, slot in self.slots.items() if slot.has_slot]
        held = len(slots)
        slots += [(stream, slot) for stream, slot in self.slots.items() if slot.place is not None]
        if not slots:
            return
        reply = self._send(RENEW, held, *[slot.id for _, slot in slots])
        try:
            places = await reply
        except StoreUnavailableError as error:  # reported by the connection
            if self._link.is_closed:
                for stream, slot in slots[held:]:
                    self._refuse(stream, slot, error)
            return  # the next renewal may do
        for (stream, slot), place in zip(slots, places, strict=True):
            self._place(stream, slot, place)

    def _place(self, stream: Pooled, slot: Slot, place: int) -> None:
        """Take over the place of a stream; 0 for a slot."""
        if self.slots.get(stream) is not slot or slot.has_slot:
            return  # it has left, or been admitted, meanwhile
        if place > 0:
            slot.place = place
            self._listen()
            return
        slot.has_slot, slot.place = True, None
        try:
            stream.admit()
        except Exception:  # its scheduler accepts no more work: a closed event loop
            self.leave(stream)

    def _refuse(self, stream: Pooled, slot: Slot, error: Exception) -> None:
        if self.slots.get(stream) is slot:
            self._forget(stream)
            self._send(LEAVE, slot.id)  # it may have been executed all the same
            stream.refuse(error)

    def _forget(self, stream: Pooled) -> Slot:
        slot = self.slots.pop(stream)
        if not self.slots and self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
            if self._listener is not None:
                self._listener.dispose()
                self._listener = None
        return slot

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = self._link.messages.listen(
                f"{self._keys[0]}:{self._name}", self._on_admitted, self._on_listening
            )

    def _on_admitted(self, id: str) -> None:  # noqa: A002
        for stream, slot in self.slots.items():
            if slot.id == id:
                self._place(stream, slot, 0)
                return

    def _on_listening(self) -> None:
        """Somebody may have been admitted before, or while there was no connection."""
        task = asyncio.get_running_loop().create_task(self._look(), name="rxllm redis pool")
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    def _send(self, script: Script, *arguments: str | float) -> asyncio.Future[Any]:
        fixed = self._limit, milliseconds(self._lease)
        return self._link.send(script, self._keys, *fixed, *arguments)


def _name_of(client: Hashable) -> str:
    """Return a name that is the same in all processes, and says nothing of the client."""
    return "" if client is None else digest(repr(client))[:16]


async def _settle(released: asyncio.Future[Any]) -> None:
    try:
        await released
    except StoreUnavailableError:  # reported by the connection; the lease isn't renewed any more
        return
