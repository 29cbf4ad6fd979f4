"""A node among those that share streams: its lease, its inbox, and whether others are alive."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import Any, Final, Literal, TypeAlias

from rxllm.errors import NodeLostError, StoreUnavailableError
from rxllm.redis.connections import Link
from rxllm.redis.scripts import milliseconds
from rxllm.redis.stream_entries import VERSION
from rxllm.redis.stream_scripts import COMMAND, IS_ALIVE, RENEW, StreamKeys
from rxllm.valve import report_failure

__all__ = ["Command", "Node"]

_PATIENCE: Final = 2.0  # seconds for the answer of another node
_RETRY: Final = 0.1  # seconds

Command: TypeAlias = Literal[
    "follow",
    "leave",
    "hold",
    "release",
    "abandon",
    "yield",
    "readers",
    "check",
    "cancel",
    "pause",
    "resume",
    "answer",
    "wake",
]


class Node:
    """This process among those that share streams, for as long as it runs.

    Args:
        link: its connections.
        keys: of the streams.
        lease: seconds until it counts as dead when it no longer renews its lease.
        watched: returns the nodes that matter to it.
        on_beat: called each time that the lease is renewed, three times in a lease.
        on_command: called with a command, an id, who has sent it, and the flag.
        on_dead: called with nodes that have died.
        on_return: awaited when Redis, or this node, is back: what it held may be gone.

    Attributes:
        name: of this process.
    """

    def __init__(
        self,
        link: Link,
        keys: StreamKeys,
        lease: float,
        *,
        watched: Callable[[], Iterable[str]],
        on_beat: Callable[[], object],
        on_command: Callable[[str, str, str, str], str],
        on_dead: Callable[[set[str]], object],
        on_return: Callable[[], Awaitable[object]],
    ) -> None:
        self.name: Final = secrets.token_hex(6)
        self._link = link
        self._keys = keys
        self._lease = lease
        self._watched = watched
        self._on_beat = on_beat
        self._on_command = on_command
        self._on_dead = on_dead
        self._on_return = on_return
        self._in_touch_since: float | None = None
        self._returned_at: float | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Future[str]] = {}
        self._numbers = count(1)

    async def start(self) -> None:
        """Take the lease, if Redis can be reached, and keep it."""
        try:
            await self._renew()
            self._in_touch_since = asyncio.get_running_loop().time()
        except StoreUnavailableError:  # reported by the connection
            pass
        self._renewing = asyncio.create_task(self._keep_lease(), name="rxllm redis lease")

    async def close(self) -> None:
        """Stop renewing the lease, which then expires."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    @property
    def is_in_touch(self) -> bool:
        """Whether Redis was reached at the last beat."""
        return self._in_touch_since is not None

    @property
    def is_sure(self) -> bool:
        """Whether a node without a lease is dead.

        After an outage, the others need as long as a lease to renew theirs.
        """
        since = self._in_touch_since
        return since is not None and asyncio.get_running_loop().time() - since >= self._lease

    async def is_certain(self) -> bool:
        """Return whether what Redis doesn't have is nowhere.

        If Redis has forgotten everything, this node's lease, too, it takes the others a while to
        notice, and to write it again.

        Raises:
            StoreUnavailableError: Redis can't be reached.
        """
        if not await self.is_alive(self.name):
            return False
        since = self._returned_at  # it may have changed meanwhile
        return since is None or asyncio.get_running_loop().time() - since >= self._lease

    async def is_alive(self, node: str) -> bool:
        """Return whether a node has a lease.

        Raises:
            StoreUnavailableError: Redis can't be reached.
        """
        return bool(await self._link.send(IS_ALIVE, [self._keys.lease(node)]))

    def send(self, node: str, command: Command, stream_id: str, *more: str) -> None:
        """Send a command to a node, which may get it twice, or not at all."""
        self._send(node, command, stream_id, *more)

    async def request(self, node: str, command: Command, stream_id: str, flag: str) -> str:
        """Send a command to a node, and return its answer.

        Raises:
            NodeLostError: it doesn't answer in time.
            StoreUnavailableError: Redis can't be reached.
        """
        number = f"{next(self._numbers)}"
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            await self._send(node, command, stream_id, "flag", flag, "call", number)
            async with asyncio.timeout(_PATIENCE):
                return await answer
        except TimeoutError as error:
            raise NodeLostError("the server that runs the stream doesn't answer") from error
        finally:
            self._answers.pop(number, None)

    def _send(self, node: str, command: str, stream_id: str, *more: str) -> asyncio.Future[Any]:
        fields = "v", f"{VERSION}", "command", command, "id", stream_id, "from", self.name
        return self._link.send(COMMAND, [self._keys.inbox(node)], *fields, *more)

    def receive(self, message: dict[str, str]) -> None:
        """Handle a message of the inbox. One of another version is left out: a flag says it, too.

        An answer goes back to whoever has made a call.
        """
        command, sender = message.get("command", ""), message.get("from", "")
        if int(message.get("v", 0)) not in (VERSION - 1, VERSION) or command == "wake":
            return
        if command == "answer":
            answer = self._answers.pop(message["call"], None)
            if answer is not None and not answer.done():
                answer.set_result(message["id"])
            return
        result = self._on_command(command, message["id"], sender, message.get("flag", ""))
        if "call" in message:
            self.send(sender, "answer", result, "call", message["call"])

    async def _renew(self) -> bool:
        """Renew the lease; return whether it had expired."""
        lease = milliseconds(self._lease)
        return not await self._link.send(RENEW, [self._keys.lease(self.name)], lease)

    async def _keep_lease(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while not self._link.is_closed:
            await asyncio.sleep(self._lease / 3)
            while True:
                try:
                    await self._beat(loop.time() - last > self._lease * 2 / 3)
                    break
                except StoreUnavailableError:  # reported by the connection
                    self._in_touch_since = None
                except Exception as error:  # the lease must be kept
                    report_failure(loop, error)
                await asyncio.sleep(_RETRY)
            last = loop.time()

    async def _beat(self, was_late: bool) -> None:
        """Renew the lease, and look at those of others.

        If this node was late by what makes the lease of another one expire, the other one may have
        been late for the same reason, such as a busy machine, and gets the time to renew it.
        """
        watched = sorted({*self._watched()} - {self.name, ""})
        replies = [self._link.send(IS_ALIVE, [self._keys.lease(each)]) for each in watched]
        had_expired = await self._renew()
        is_back = self._in_touch_since is None
        if is_back or had_expired:  # before anybody sees that the lease is there
            self._returned_at = asyncio.get_running_loop().time()
        alive = [bool(await reply) for reply in replies]
        self._on_beat()
        if is_back or was_late:
            self._in_touch_since = asyncio.get_running_loop().time()
        if is_back or had_expired:
            await self._on_return()
        if self.is_sure:
            self._on_dead({each for each, lives in zip(watched, alive, strict=True) if not lives})
