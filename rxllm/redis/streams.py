"""`RedisStreams`: streams that several servers share."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from typing import Final

from reactivex import Observable

from rxllm import operators as ops
from rxllm.arguments import check_number
from rxllm.chunks import Chunk
from rxllm.errors import NodeLostError, StoreUnavailableError, StreamStateError
from rxllm.redis.claims import RedisClaims
from rxllm.redis.connections import Connected, Link, Server
from rxllm.redis.followed_streams import FollowedStreams
from rxllm.redis.names import RedisNames
from rxllm.redis.nodes import Command, Node
from rxllm.redis.other_streams import OtherStreams
from rxllm.redis.owned_streams import OwnedStreams
from rxllm.redis.scripts import milliseconds
from rxllm.redis.stream_entries import EPOCH, epoch_gap
from rxllm.redis.stream_scripts import CLAIM, DELETE, FLAG, LIST, StreamKeys
from rxllm.redis.stream_state import StreamReader, StreamState, fields_of
from rxllm.redis.tail import Tail
from rxllm.web.failures import StreamNotFoundError
from rxllm.web.memory_store import MemoryStreams
from rxllm.web.running_stream import RunningStream, StoreLimits, StreamDetails
from rxllm.web.stream_messages import StreamSummary
from rxllm.web.stream_store import Frame, Resume, StreamHandle

__all__ = ["RedisStreams"]

_CLAIM_PATIENCE: Final = 1.0  # seconds; a stream begins without Redis after that
_SPARE: Final = 60.0  # seconds that keys are kept beyond the time of a stream


class RedisStreams(Connected):
    """A `StreamStore` that several servers share.

    A stream runs where it was begun, and its events are there: local readers never wait for Redis.
    They are also written to Redis, a flush at a time, where other servers read them for readers of
    their own. So each server can list, read, resume, pause and cancel all streams.

    - A server that dies: within `lease` seconds and a half, another one that has readers of its
      stream continues it, if `resume` was given to `start` and the stream is resumable; else these
      readers receive an `error` with the code `node_lost` after all that was said. A server that
      was only cut off and comes back stops its model, and follows.
    - A reader that has received more than Redis has receives a `Notice("restart")` at position 0,
      and then everything.
    - Redis can't be reached: streams go on, and can begin, where they are. What needs another
      server raises a `StoreUnavailableError`; readers of other servers' streams wait. When it is
      back, even empty, what it has missed is written again.
    - Demand: a stream waits while all its readers, on all servers, are far behind. A server whose
      readers have caught up while Redis was away says so when it is back.

    Redis holds the text of streams until `limits.grace` seconds after their end, the SHA-256 of
    keys, and what was given as `asked`. It should evict nothing (`maxmemory-policy noeviction`).

    Args:
        server: a URL, a `redis.asyncio.Redis`, or `RedisConnections` to share.
        registry, limits: as for `MemoryStreams`.
        buffer_size: events that all readers of a stream may lag behind before its model waits.
        name: whose streams they are. All stores of this name share them.
        lease: seconds after which a server that died counts as dead, above 0.
        flush: minimum seconds between two writes to Redis, 0 or more. The text is as old at the
            readers of other servers, at most; the more of it is written at once, the less it costs.

    Raises:
        TypeError, ValueError: an argument is not such a value.
    """

    def __init__(
        self,
        server: Server,
        registry: ops.StreamRegistry,
        limits: StoreLimits,
        buffer_size: int = 1024,
        *,
        name: str = "streams",
        lease: float = 3.0,
        flush: float = 0.05,
    ) -> None:
        super().__init__(server)
        if limits.stream_events >= EPOCH:
            raise ValueError(f"stream_events must be below {EPOCH}, got {limits.stream_events}")
        self.lease: float = check_number(
            "lease", lease, "the seconds until a dead server counts as dead", above=0
        )
        self.flush: float = check_number(
            "flush", flush, "the seconds between two writes", minimum=0
        )
        self.keys: StreamKeys = StreamKeys(name)
        self._claims = RedisClaims(self._connections, name)
        self._registry = registry
        self._limits = limits
        self._ttl = limits.stream_seconds + limits.grace + _SPARE
        self._memory = MemoryStreams(registry, limits, buffer_size, self._on_forget)
        self._buffer_size = buffer_size
        self._resume: Resume | None = None
        self._link: Link
        self._reader: StreamReader
        self._node: Node
        self._tail: Tail
        self._owned: OwnedStreams
        self._followed: FollowedStreams
        self._others: OtherStreams
        self._names: list[RedisNames] = []
        self._owner_of: Callable[[str], str | None] | None = None

    def share_live(self, owner_of: Callable[[str], str | None]) -> None:
        """As `rxllm.web.shared_store.SharedStore.share_live`."""
        self._owner_of = owner_of

    def is_reached(self) -> bool:
        """As `rxllm.web.shared_store.SharedStore.is_reached`."""
        return self._node.is_in_touch

    async def claim(self, token: str) -> bool:
        """As `rxllm.web.shared_store.SharedStore.claim`."""
        return await self._claims(token)

    async def start(self, resume: Resume | None = None) -> None:
        """As `StreamStore.start`. Redis needn't be reachable."""
        self._resume = resume
        link = self._link = self._connections.link()
        self._reader = StreamReader(
            link, self.keys, self._limits.grace, lambda: self._node.is_certain()
        )
        node = self._node = Node(
            link,
            self.keys,
            self.lease,
            watched=lambda: {*self._owned.followers, *self._followed.nodes},
            on_beat=self._on_beat,
            on_command=self._on_command,
            on_dead=self._on_dead,
            on_return=self._on_return,
        )
        self._tail = Tail(
            link,
            self.keys,
            node.name,
            self.flush,
            replicas=lambda: self._followed.replicas,
            on_message=node.receive,
            wake=lambda: node.send(node.name, "wake", ""),
        )
        self._owned = OwnedStreams(
            link,
            self.keys,
            node.name,
            self._memory,
            flush=self.flush,
            ttl=self._ttl,
            ended_ttl=max(1.0, self._limits.grace + 0.5),
            on_lost=lambda *lost: self._followed.adopt(*lost),
            on_replaced=lambda stream_id, other: node.send(other, "yield", stream_id),
        )
        self._others = OtherStreams(
            link, self.keys, node.name, self.lease, self._live_outside, self._owner_of
        )
        self._followed = FollowedStreams(
            self._reader,
            node,
            self._owned,
            self._tail,
            self._registry,
            self._limits,
            self._buffer_size,
            resume,
        )
        await node.start()
        self._tail.start()

    async def begin(
        self,
        ask: Callable[[], Observable[Chunk]],
        stream_id: str,
        *,
        model: str | None = None,
        grace: float | None = None,
        key: str | None = None,
        owner: str | None = None,
        asked: bytes | None = None,
        is_resumable: bool = False,
    ) -> StreamHandle:
        """As `StreamStore.begin`. While Redis can't be reached, the stream begins here; if another
        server has begun one with this id meanwhile, one of them yields later."""
        details = StreamDetails(
            id=stream_id,
            grace=self._limits.grace if grace is None else grace,
            model=model,
            key=None if key is None else hashlib.sha256(key.encode("utf-8", "replace")).hexdigest(),
            owner=owner,
            asked=asked,
            is_resumable=is_resumable and asked is not None,
        )
        known = self._memory.joined(details)
        if known is not None:
            return known
        claim, token = await self._claim(details)
        try:
            known = self._memory.joined(details)  # two such requests may have come at once
        except BaseException:
            if claim == "new":
                self._owned.release(stream_id, token)
            raise
        if known is not None:
            if claim == "new" and not self._owned.has_token(stream_id, token):
                self._owned.release(stream_id, token)
            return known
        if claim == "exists":
            raise StreamStateError(f"a stream {stream_id!r} already exists: choose another id")
        if claim == "join":
            return await self._followed.follow(stream_id)
        return self._owned.run(details, token, ask)

    async def _claim(self, details: StreamDetails) -> tuple[str, str]:
        """Return `"new"`, `"join"` or `"exists"`, and the token."""
        random = secrets.token_hex(6)
        dead = ""
        fields = details.key or "", random, epoch_gap()
        rest = milliseconds(self._ttl), *fields_of(details, self._node.name)
        keys = self.keys.of_stream(details.id)
        while True:
            try:
                async with asyncio.timeout(_CLAIM_PATIENCE):
                    sent = self._link.send(CLAIM, keys, *fields, dead, *rest)
                    self._owned.enlist(details.id)  # in the same batch, so that it is there at once
                    reply = await sent
                    claim, token, node = [each.decode() for each in reply]
                    if claim == "new" or dead:
                        return claim, token
                    if not await self._is_abandoned(details, node, claim == "join"):
                        return claim, token
                    dead = token
            except (StoreUnavailableError, TimeoutError):  # reported by the connection
                return "new", f"{1 + epoch_gap()}.{random}"

    async def _is_abandoned(self, details: StreamDetails, node: str, is_same: bool) -> bool:
        """Return whether a stream that has the id is one that nobody runs, nor would continue.

        `is_same` says whether it was begun by the same request.
        """
        if node == self._node.name:  # if it isn't in memory, it has ended, which isn't written yet
            return details.id not in self._memory.running
        if not is_same or self._is_continued(details) or not self._node.is_sure:
            return False
        return not await self._node.is_alive(node)

    def _is_continued(self, details: StreamDetails) -> bool:
        """Return whether a stream would be continued if its node died."""
        return self._resume is not None and details.is_resumable

    async def read(
        self, stream_id: str, after: int = 0, *, exact: bool = False
    ) -> Observable[Frame]:
        """As `StreamStore.read`."""
        if await self._is_own(stream_id):
            return await self._memory.read(stream_id, after, exact=exact)
        if self._owned.may_have_forgotten(stream_id):
            await self._state(stream_id)
        replica = await self._followed.follow(stream_id)
        return await replica.read(after, exact=exact)

    async def pause(self, stream_id: str) -> None:
        """As `StreamStore.pause`."""
        await self._act(stream_id, "pause")

    async def resume(self, stream_id: str) -> None:
        """As `StreamStore.resume`."""
        await self._act(stream_id, "resume")

    async def cancel(self, stream_id: str) -> None:
        """As `StreamStore.cancel`."""
        await self._act(stream_id, "cancel")

    async def _act(self, stream_id: str, what: Command) -> None:
        if await self._is_own(stream_id):
            self._owned.act(self._memory.running[stream_id], what)
            return
        try:
            state = await self._state(stream_id)
        except StreamNotFoundError:
            other = await self._others.find(stream_id)
            if other is None:
                raise
            await self._request(other.node, stream_id, what)
            return
        if not state.is_live:
            if what != "cancel":
                raise StreamStateError(f"the stream {stream_id!r} has ended")
            return
        flag = f"{secrets.token_hex(6)} {what}"  # its node sees it in the next reply, if not before
        await self._link.send(FLAG, self.keys.of_stream(stream_id), flag)
        await self._request(state.node, stream_id, what, flag)

    async def _request(self, node: str, stream_id: str, what: Command, flag: str = "") -> None:
        """Let the node of a stream act."""
        if self._node.is_sure and not await self._node.is_alive(node):
            raise NodeLostError(f"the server that runs the stream {stream_id!r} has died")
        answer = await self._node.request(node, what, stream_id, flag)
        if answer != "ok":
            raise StreamStateError(answer)

    async def describe(self, stream_id: str) -> StreamSummary:
        """As `StreamStore.describe`. That of another server's stream has fewer fields."""
        if await self._is_own(stream_id):
            return await self._memory.describe(stream_id)
        try:
            state = await self._state(stream_id)
        except StreamNotFoundError:
            other = await self._others.find(stream_id)
            if other is None:
                raise
            return other.summary
        return state.summary(self._is_lost(state, await self._lost_nodes([state])))

    async def asked(self, stream_id: str) -> bytes | None:
        """As `StreamStore.asked`."""
        if await self._is_own(stream_id):
            return await self._memory.asked(stream_id)
        await self._state(stream_id)
        return await self._reader.request(stream_id)

    async def list(self, prefix: str = "") -> list[StreamSummary]:
        """As `StreamStore.list`. While Redis can't be reached, only the streams of this server;
        with a prefix, a `StoreUnavailableError`."""
        own = {each.id: each for each in await self._memory.list(prefix)}
        try:
            reply = await self._link.send(LIST, self.keys.listing, prefix.encode())
            ids = [each.decode() for each in reply]
            known = await self._reader.read_all([each for each in ids if each not in own])
            if prefix and not await self._node.is_certain():
                raise StoreUnavailableError("streams may not be known again yet")
            own |= {each.id: each for each in await self._memory.list(prefix)}  # taken over since
            states = [each for each in known if not self._is_here(each, own)]
            lost = await self._lost_nodes(states)
            summaries = [each.summary(is_lost=self._is_lost(each, lost)) for each in states]
            others = [each.summary for each in await self._others.read()]
            summaries += [each for each in others if each.id.startswith(prefix)]
        except StoreUnavailableError:
            if prefix:
                raise
            summaries = []
        return sorted([*own.values(), *summaries], key=lambda each: each.started)

    def _is_here(self, state: StreamState, own: Container[str]) -> bool:
        """Return whether a stream is one of this server, or was and is forgotten."""
        return state.details.id in own or self._owned.has_forgotten(state)

    async def _state(self, stream_id: str) -> StreamState:
        """Return what Redis knows of a stream that this server doesn't keep.

        Raises:
            StreamNotFoundError: there is none, or this server has forgotten it.
            StoreUnavailableError: Redis can't be reached, or may not know it again yet.
        """
        state = await self._reader.read(stream_id)
        if stream_id not in self._memory.running and self._owned.has_forgotten(state):
            raise StreamNotFoundError(f"the stream {stream_id!r} is no longer kept")
        return state

    async def _is_own(self, stream_id: str) -> bool:
        """Return whether this server has a stream. One that has failed here may have been begun
        again by another one."""
        kept = self._memory.running.get(stream_id)
        if kept is None or kept.may_be_joined:
            return kept is not None
        with suppress(StoreUnavailableError, StreamNotFoundError):
            state = await self._reader.read(stream_id)
            if not self._owned.has(state):
                self._memory.forget(kept)
        return stream_id in self._memory.running

    async def _lost_nodes(self, states: Iterable[StreamState]) -> set[str]:
        """Return the dead nodes among those of the streams."""
        nodes = {each.node for each in states if each.is_live} if self._node.is_sure else set()
        return {each for each in nodes if not await self._node.is_alive(each)}

    def _is_lost(self, state: StreamState, lost: Container[str]) -> bool:
        """Return whether the node of a stream is dead, and nobody would continue it."""
        return state.is_live and state.node in lost and not self._is_continued(state.details)

    def names(
        self, address: Callable[[], str], on_lost: Callable[[str, str], object]
    ) -> RedisNames:
        """As `rxllm.web.shared_store.SharedStore.names`."""
        names = RedisNames(lambda: self._link, self.keys.room, self.lease, address, on_lost)
        self._names.append(names)
        return names

    async def close(self) -> None:
        """As `StreamStore.close`. What was said is written first, for at most a second."""
        for kept in list(self._memory.running.values()):
            kept.cancel()
        await self._owned.write_rest()
        await self._memory.close()
        await self._others.close()
        self._followed.close()
        await asyncio.gather(*[each.close() for each in self._names])
        await asyncio.gather(self._owned.close(), self._tail.close(), self._node.close())
        name = self._node.name
        with suppress(StoreUnavailableError):
            for key in (self.keys.inbox(name), self.keys.lease(name)):
                await self._link.send(DELETE, [key])
        await super().close()

    def _on_forget(self, kept: RunningStream) -> None:
        self._owned.forget(kept)

    def _live_outside(self) -> Sequence[ops.TrackedStream]:
        """The live streams of this server that are in no store."""
        return [each for each in self._registry.active if each.id not in self._memory.running]

    def _on_command(self, command: str, stream_id: str, sender: str, flag: str) -> str:
        """Handle a command of another server, and return the answer."""
        is_kept = stream_id in self._memory.running
        live = None if is_kept else self._registry.get(stream_id)
        if live is None or not live.is_live or command not in ("cancel", "pause", "resume"):
            return self._owned.obey(command, stream_id, sender, flag)
        try:
            getattr(live, command)()
        except StreamStateError as error:
            return str(error)
        return "ok"

    def _on_beat(self) -> None:
        self._others.publish()
        self._followed.look_at_silent()
        self._followed.tell_readers()

    def _on_dead(self, nodes: set[str]) -> None:
        self._owned.drop_followers(nodes)
        self._followed.take_from(nodes)

    async def _on_return(self) -> None:
        """Redis, or this server, is back: tell again what may have been forgotten."""
        await self._tail.rewind()
        await self._owned.restore_all()
