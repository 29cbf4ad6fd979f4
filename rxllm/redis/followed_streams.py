"""The streams that other nodes run, and this one reads."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import msgspec
import reactivex
from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.errors import NodeLostError, StoreUnavailableError
from rxllm.redis.nodes import Node
from rxllm.redis.owned_streams import OwnedStreams
from rxllm.redis.replica import Replica
from rxllm.redis.stream_entries import epoch_gap
from rxllm.redis.stream_scripts import TAKE_OVER
from rxllm.redis.stream_state import Found, StreamReader, StreamState
from rxllm.redis.tail import Tail
from rxllm.valve import report_failure
from rxllm.web.event_log import EventLog
from rxllm.web.failures import StreamNotFoundError
from rxllm.web.running_stream import StoreLimits, StreamDetails
from rxllm.web.stream_store import Resume

__all__ = ["FollowedStreams"]

_LOST: Final = "the server that ran the stream has died"
_REPLACED: Final = "another stream has the id of this one"
_RETRY: Final = 0.25  # seconds


class FollowedStreams:
    """Replicas of streams, one for each that has readers here.

    Args:
        reader: reads what Redis knows of them.
        node: this node.
        owned: runs those that it takes over.
        tail: fills the replicas.
        registry: of the live streams.
        limits: what readers may do.
        buffer_size: events that the readers of a stream may lag behind before its model waits.
        resume: continues the streams of dead nodes; `None` to let their readers know.
    """

    def __init__(
        self,
        reader: StreamReader,
        node: Node,
        owned: OwnedStreams,
        tail: Tail,
        registry: ops.StreamRegistry,
        limits: StoreLimits,
        buffer_size: int,
        resume: Resume | None,
    ) -> None:
        self._reader = reader
        self._node = node
        self._owned = owned
        self._tail = tail
        self._registry = registry
        self._limits = limits
        self._buffer_size = buffer_size
        self._resume = resume
        self._replicas: dict[str, Replica] = {}
        self._late: set[Replica] = set()  # of streams that have got another replica meanwhile
        self._told: set[str] = set()  # nodes that count readers here
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def replicas(self) -> Iterable[Replica]:
        """Those to read."""
        return [*self._replicas.values(), *self._late]

    @property
    def nodes(self) -> set[str]:
        """The nodes that run them."""
        return {each.node for each in self.replicas if each.is_live}

    async def follow(self, stream_id: str) -> Replica:
        """Return the replica of a stream.

        Raises:
            StreamNotFoundError: there is no such stream.
            StoreUnavailableError: Redis can't be reached.
        """
        replica = self._replicas.get(stream_id)
        if replica is not None:
            found = await self._reader.find(stream_id)
            if found.born == replica.born:
                return replica
            self._change_node(replica, found)  # another stream has got the id, maybe of another key
        state = await self._reader.read(stream_id)
        replica = self._replicas.get(stream_id)  # another reader may have come meanwhile
        if replica is None or replica.born != state.born:
            log = EventLog(stream_id, self._buffer_size, self._limits.reader_stall, _ignore)
            replica = self._add(state, log)
        return replica

    def adopt(
        self,
        details: StreamDetails,
        born: str,
        log: EventLog,
        valid: int,
        state: StreamState | None,
    ) -> None:
        """Follow a stream that this node has run, and another one has now.

        Args:
            details, born: what it was begun with here, and as.
            log: its events and its readers, who have received the right ones up to `valid`.
            state: its state in Redis; `None` if it isn't there.
        """
        if state is not None:
            is_same = state.born == born
            if is_same or _is_readable(Found.of(state), details.key, details.owner):
                self._add(state, log).begin_again(valid if is_same else 0)
                return
        lost = Replica(details.id, b"", "", "1.", "", 0, log, **self._callbacks)
        lost.fail(NodeLostError(_REPLACED))
        lost.close()

    def take_from(self, nodes: set[str]) -> None:
        """Take over the streams of dead nodes, or let their readers know."""
        for replica in self.replicas:
            is_orphan = replica.is_live and replica.is_used and replica.node in nodes
            if is_orphan and (replica.taking_over is None or replica.taking_over.done()):
                replica.taking_over = self._start(self._take(replica, replica.node))

    def look_at_silent(self) -> None:
        """See whether streams of which nothing has come for a while are still there."""
        for replica in self.replicas:
            if replica.is_live and replica.looked_at == replica.position:
                self._start(self._look(replica))
            replica.looked_at = replica.position

    def tell_readers(self) -> None:
        """Tell each node which of its streams have readers here, and which are held.

        Other messages say it at once; what they don't, because they were lost, or came before the
        node had the stream, this one puts right.
        """
        readers: dict[str, dict[str, bool]] = {node: {} for node in self._told}
        for replica in self.replicas:
            if replica.is_live and replica.is_used:
                of_node = readers.setdefault(replica.node, {})
                is_held = replica.has_readers and not replica.log.valve.is_open
                of_node[replica.id] = is_held and of_node.get(replica.id, True)
        for node, held in readers.items():
            self._node.send(node, "readers", json.dumps(held))
        self._told = {node for node, held in readers.items() if held}

    async def _look(self, replica: Replica) -> None:
        try:
            found = await self._reader.find(replica.id)
        except StoreUnavailableError:  # it will be looked at again
            return
        except StreamNotFoundError:
            if replica.is_doubted:
                self._fail(replica, "the server that ran the stream no longer keeps it")
            replica.is_doubted = True
            self._node.send(replica.node, "check", replica.id)  # Redis may have lost it
            return
        replica.is_doubted = False
        if found.token not in (replica.token, replica.claim):
            self._change_node(replica, found)

    def close(self) -> None:
        """Stop following."""
        for task in tuple(self._tasks):
            task.cancel()
        for replica in self.replicas:
            replica.close()
        self._replicas.clear()
        self._late.clear()

    def _add(self, state: StreamState, log: EventLog) -> Replica:
        replica = Replica(
            state.details.id,
            self._reader.keys.of_stream(state.details.id)[1].encode(),
            state.node,
            state.token,
            state.born,
            state.last,
            log,
            **self._callbacks,
        )
        replica.key_of_request, replica.owner = state.details.key, state.details.owner
        self._replicas[replica.id] = replica
        self._tail.refresh()
        return replica

    @property
    def _callbacks(self) -> dict[str, Callable[..., object]]:
        return {
            "on_readers": self._on_readers,
            "on_idle": self._on_idle,
            "on_hold": self._on_hold,
            "on_abandon": self._on_abandon,
            "on_stranger": self._on_stranger,
        }

    def _on_readers(self, replica: Replica, has_readers: bool) -> None:
        if not replica.is_live:
            return
        self._node.send(replica.node, "follow" if has_readers else "leave", replica.id)
        current = self._replicas.get(replica.id)
        if not has_readers or current is replica:
            return
        if current is None:  # subscribed to after a while
            self._replicas[replica.id] = replica
        else:
            self._late.add(replica)
        self._tail.refresh()

    def _on_idle(self, replica: Replica) -> None:
        self._late.discard(replica)
        if self._replicas.get(replica.id) is replica:
            del self._replicas[replica.id]

    def _on_hold(self, replica: Replica, is_held: bool) -> None:
        if replica.is_live:
            self._node.send(replica.node, "hold" if is_held else "release", replica.id)

    def _on_abandon(self, replica: Replica) -> None:
        self._node.send(replica.node, "abandon", replica.id)

    async def _take(self, replica: Replica, dead: str) -> None:
        try:
            state = await self._reader.read(replica.id)
        except StoreUnavailableError:  # it will be looked at again
            return
        except StreamNotFoundError:
            self._fail(replica)
            return
        if state.node != dead and state.token != replica.claim:  # another node was faster
            self._change_node(replica, Found.of(state))
        elif state.is_live:
            with_resume = self._resume if state.details.is_resumable else None
            try:
                await replica.caught_up(state.last)
                asked = await self._reader.request(replica.id)
            except StoreUnavailableError:
                return
            if with_resume is None or self._registry.refusing:
                # Only its readers here are told, and nothing is written: the node may come back.
                self._fail(replica)
            else:
                details = msgspec.structs.replace(state.details, asked=asked)
                await self._take_over(replica, state._replace(details=details), with_resume)

    def _fail(self, replica: Replica, why: str = _LOST) -> None:
        self._on_idle(replica)
        replica.close()
        replica.fail(NodeLostError(why))

    def _on_stranger(self, replica: Replica) -> None:
        if not replica.is_doubted:
            replica.is_doubted = True
            self._start(self._look(replica))

    def _change_node(self, replica: Replica, found: Found) -> None:
        is_other = found.born != replica.born
        if is_other and not _is_readable(found, replica.key_of_request, replica.owner):
            self._fail(replica, _REPLACED)
            return
        replica.node, replica.token, replica.born = found.node, found.token, found.born
        if is_other:  # the request was repeated after its stream was lost
            replica.begin_again(0)
        if replica.has_readers:
            self._on_readers(replica, True)

    async def _take_over(self, replica: Replica, state: StreamState, resume: Resume) -> None:
        """Continue a stream here, unless another node was faster."""
        if not replica.claim:  # the same if it is tried again: it may have been executed
            replica.claim = f"{state.epoch + epoch_gap()}.{secrets.token_hex(6)}"
        token, keys = replica.claim, self._reader.keys.of_stream(replica.id)
        claim = TAKE_OVER, keys, state.token, token, self._node.name, self._owned.ttl
        # It may be ours by now, even if the reply was lost and nobody reads it any more.
        while True:
            try:
                last = await self._reader.link.send(*claim)
                if last < 0:
                    replica.claim = ""
                    return
                await replica.caught_up(last)
                break
            except StoreUnavailableError:
                await asyncio.sleep(_RETRY)
        self._on_idle(replica)
        replica.close()
        log = replica.log
        if log.ending is not None:
            return  # it had ended
        said = [each for each in log.events_after(0, log.events)[2] if each is not None]
        asked = state.details.asked or b""

        def ask() -> Observable[Chunk]:
            try:
                return resume(replica.id, asked, said)
            except Exception as error:
                lost = NodeLostError(f"{_LOST}, and it can't be continued: {error}")
                lost.__cause__ = error
                return reactivex.throw(lost).pipe(ops.track(self._registry, replica.id))

        try:
            self._owned.run(state.details, token, ask, born=state.born, log=log, written=last)
        except Exception as error:
            replica.fail(NodeLostError(f"{_LOST}, and it can't be continued: {error}"))
            report_failure(asyncio.get_running_loop(), error)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name="rxllm redis takeover")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _ignore(_: int) -> None:
    """The readers are counted by the replica."""


def _is_readable(found: Found, key: str | None, owner: str | None) -> bool:
    """Return whether the readers of a stream may go on with another one that has its id: only if it
    answers the same request of the same client."""
    return bool(key) and (found.key, found.owner) == (key, owner)
