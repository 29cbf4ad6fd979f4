"""The streams that this node runs, and writes to Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.errors import StoreUnavailableError, StreamStateError
from rxllm.redis.connections import Link
from rxllm.redis.journal import Journal, Journals
from rxllm.redis.scripts import milliseconds
from rxllm.redis.stream_entries import EPOCH, epoch_of
from rxllm.redis.stream_scripts import ENLIST, FORGET, READ, RESTORE, SET_STATE, StreamKeys
from rxllm.redis.stream_state import StreamState, fields_of
from rxllm.web.event_log import EventLog
from rxllm.web.memory_store import MemoryStreams
from rxllm.web.running_stream import RunningStream, StreamDetails

__all__ = ["OwnedStreams"]

_GONE: Final = 2.0  # seconds for which a forgotten stream can still be read
_FORGOTTEN: Final = 5.0  # seconds for which the rest of a forgotten stream is tried to be written
_REST: Final = 1.0  # seconds to write what is left at the end
_RETRY: Final = 0.25  # seconds
_MOST_UNFORGOTTEN: Final = 10_000


class OwnedStreams:
    """Runs streams in memory, with a journal for each.

    Args:
        link: the connections.
        keys: of the streams.
        node: the name of this node.
        memory: the streams.
        flush: minimum seconds between two writes.
        ttl, ended_ttl: seconds that the keys of a live and of an ended stream are kept.
        on_lost: called when another node has a stream: with what it was begun with, and as, its
            log, the position that Redis had, and its state in Redis, if it is there.
        on_replaced: called with the id of a stream, and a node that had it before Redis was away.
    """

    def __init__(
        self,
        link: Link,
        keys: StreamKeys,
        node: str,
        memory: MemoryStreams,
        *,
        flush: float,
        ttl: float,
        ended_ttl: float,
        on_lost: Callable[[StreamDetails, str, EventLog, int, StreamState | None], object],
        on_replaced: Callable[[str, str], object],
    ) -> None:
        self.link: Final = link
        self.keys: Final = keys
        self.ttl: Final = milliseconds(ttl)
        self._node = node
        self._memory = memory
        self._on_lost = on_lost
        self._unforgotten: dict[str, str] = {}  # tokens of streams that Redis should forget
        self._journals: dict[str, Journal] = {}
        self._has_written = asyncio.Event()
        self._is_closing = False
        self._forgotten: dict[Journal, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: Final = Journals(
            link,
            flush,
            ttl,
            ended_ttl,
            on_missing=self._restore,
            on_replaced=lambda journal, node: on_replaced(journal.kept.details.id, node),
            on_written=self._on_written,
            on_fenced=self._on_fenced,
            on_flag=self._on_flag,
        )

    @property
    def followers(self) -> set[str]:
        """The nodes that have readers of these streams."""
        return {node for kept in self._memory.running.values() for node in kept.followers}

    def run(
        self,
        details: StreamDetails,
        token: str,
        ask: Callable[[], Observable[Chunk]],
        *,
        born: str | None = None,
        log: EventLog | None = None,
        written: int = 0,
    ) -> RunningStream:
        """Run a stream that this node has claimed.

        Args:
            details: what it is begun with.
            token: that of the claim.
            ask: returns the stream.
            born: names the stream; `None` if this node has begun it.
            log: what another node has said before; a new log if `None`.
            written: the position that Redis has.
        """
        epoch = epoch_of(token)
        keys = self.keys.of_stream(details.id)
        first = None if epoch == 1 else (epoch - 1) * EPOCH + 1
        try:
            kept = self._memory.run(details, ask, log=log, first_position=first)
        except BaseException:
            self.release(details.id, token)
            raise
        if (older := self._journals.get(details.id)) is not None:
            self._remove(older)
        fields = fields_of(details, self._node)
        born = token.partition(".")[2] if born is None else born
        journal = self._journals[details.id] = Journal(kept, token, keys, written, born, fields)
        kept.log.on_change = lambda: self._writer.note(journal)
        self.enlist(details.id)
        self._writer.note(journal)
        if kept is not self._memory.running.get(details.id):
            self.forget(kept)  # it has ended, and nothing is kept
        return kept

    def _count_readers(self, node: str, held: dict[str, bool]) -> None:
        """Take over which streams a node has readers of, and which of them it holds."""
        for stream_id, kept in list(self._memory.running.items()):
            if kept.log.ending is not None:
                continue
            is_held = held.get(stream_id)
            if is_held is not None or node in kept.followers:
                kept.follow(node, is_held is not None)
                kept.hold(node, bool(is_held))

    def release(self, stream_id: str, token: str) -> None:
        """Give up a claim, or let others no longer read what this node no longer keeps."""
        self._unforgotten[stream_id] = token
        if len(self._unforgotten) > _MOST_UNFORGOTTEN:
            del self._unforgotten[next(iter(self._unforgotten))]  # its keys expire
        self._start(self._release(stream_id, token))

    def _release(self, stream_id: str, token: str) -> Coroutine[Any, Any, None]:
        keys = self.keys.of_stream(stream_id)
        sent = self.link.send(FORGET, keys, token, milliseconds(_GONE))  # before what comes next
        return self._released(stream_id, token, sent)

    async def _released(self, stream_id: str, token: str, sent: asyncio.Future[Any]) -> None:
        with suppress(StoreUnavailableError):  # it is tried again later
            await sent
            if self._unforgotten.get(stream_id) == token:
                del self._unforgotten[stream_id]

    def act(self, kept: RunningStream, what: str) -> None:
        """Pause, resume or cancel a stream.

        Raises:
            StreamStateError: it has ended.
        """
        if what == "cancel":
            kept.cancel()
            return
        if what == "pause":
            kept.tracked.pause()
        else:
            kept.tracked.resume()
        journal = self._journals.get(kept.details.id)
        if journal is not None and journal.kept is kept:
            state = "paused" if what == "pause" else "running"
            self.link.send(SET_STATE, journal.keys, journal.token, state)

    def obey(self, command: str, stream_id: str, sender: str, flag: str) -> str:
        """Handle a command of another node, and return the answer."""
        if command == "readers":
            self._count_readers(sender, json.loads(stream_id))
            return "ok"
        kept = self._memory.running.get(stream_id)
        if kept is None:
            return f"the stream {stream_id!r} has ended"
        if command in ("follow", "leave"):
            if kept.log.ending is None:
                kept.follow(sender, command == "follow")
        elif command in ("hold", "release"):
            kept.hold(sender, command == "hold")
        elif command == "abandon":
            kept.cancel_if_unread()
        elif command == "check":
            if (journal := self._journals.get(stream_id)) is not None and not journal.is_fenced:
                self._start(self._writer.restore(journal, self._restore(journal)))
        elif command == "yield":
            if (journal := self._journals.get(stream_id)) is not None:
                self._start(self._settle(journal))
        elif command in ("cancel", "pause", "resume"):
            if (journal := self._journals.get(stream_id)) is not None:
                journal.obeyed = flag
            try:
                self.act(kept, command)
            except StreamStateError as error:
                return str(error)
        return "ok"

    def has_token(self, stream_id: str, token: str) -> bool:
        """Return whether a stream of this node has a token."""
        journal = self._journals.get(stream_id)
        return journal is not None and _is_same(journal.token, token)

    def may_have_forgotten(self, stream_id: str) -> bool:
        """Return whether a stream that isn't in memory may be one for `has_forgotten`."""
        return stream_id in self._journals or stream_id in self._unforgotten

    def has_forgotten(self, state: StreamState) -> bool:
        """Return whether a stream that isn't in memory was one of these. Redis is about to forget
        it, once its end is written, or by a script that is on its way."""
        token = self._unforgotten.get(state.details.id)
        return self.has(state) or (token is not None and _is_same(token, state.token))

    def has(self, state: StreamState) -> bool:
        """Return whether a stream, as Redis knows it, is one of these."""
        return self.has_token(state.details.id, state.token)

    def drop_followers(self, nodes: set[str]) -> None:
        """Forget the readers of dead nodes."""
        for kept in list(self._memory.running.values()):
            for node in nodes.intersection(kept.followers):
                kept.follow(node, False)

    def forget(self, kept: RunningStream) -> None:
        """Forget a stream elsewhere, once its end is written."""
        journal = self._journals.get(kept.details.id)
        if journal is None or journal.kept is not kept or journal.is_forgotten:
            return
        journal.is_forgotten = True
        if journal.is_complete:
            self._drop(journal)
        else:
            timer = self.link.loop.call_later(_FORGOTTEN, self._drop, journal)
            self._forgotten[journal] = timer

    async def restore_all(self) -> None:
        """Write again what Redis has forgotten, also of streams that say nothing now; and let it
        forget what it could not."""
        unforgotten = [self._release(*each) for each in self._unforgotten.items()]
        await asyncio.gather(*unforgotten)
        journals = [each for each in self._journals.values() if not each.is_fenced]
        for journal, restored in [(each, self._restore(each)) for each in journals]:
            await self._writer.restore(journal, restored)

    async def write_rest(self) -> None:
        """Write what is left, for a while. Nothing is forgotten from now on."""
        self._is_closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_REST):
                while not all(each.is_settled for each in self._journals.values()):
                    self._has_written.clear()
                    await self._has_written.wait()

    async def close(self) -> None:
        """Stop writing."""
        for task in tuple(self._tasks):
            task.cancel()
        await self._writer.close()
        for journal in list(self._journals.values()):
            self._remove(journal)

    def enlist(self, stream_id: str) -> None:
        """Add a stream to the list of all, unless it is there."""
        self.link.send(ENLIST, self.keys.listing, stream_id, self.ttl)

    def _restore(self, journal: Journal) -> asyncio.Future[Any]:
        """Create a stream again, if Redis has forgotten it."""
        self.enlist(journal.kept.details.id)
        return self.link.send(
            RESTORE, journal.keys, journal.token, self.ttl, journal.born, *journal.fields
        )

    def _on_written(self, journal: Journal) -> None:
        self._has_written.set()
        if journal.is_forgotten and journal.is_complete:
            self._drop(journal)

    def _drop(self, journal: Journal) -> None:
        stream_id = journal.kept.details.id
        if self._journals.get(stream_id) is not journal:
            return
        self._remove(journal)
        if not self._is_closing:  # or others may read it for the grace period
            self.release(stream_id, journal.token)

    def _remove(self, journal: Journal) -> None:
        del self._journals[journal.kept.details.id]
        journal.kept.log.on_change = None
        journal.is_fenced = True
        if (timer := self._forgotten.pop(journal, None)) is not None:
            timer.cancel()

    def _on_flag(self, journal: Journal, flag: str) -> None:
        journal.obeyed = flag
        with suppress(StreamStateError):  # it has ended
            self.act(journal.kept, flag.partition(" ")[2])

    def _on_fenced(self, journal: Journal) -> None:
        self._has_written.set()
        if self._journals.get(journal.kept.details.id) is journal:
            self._start(self._settle(journal))

    async def _settle(self, journal: Journal) -> None:
        """Follow the node that has the stream, unless it is this one."""
        kept, stream_id = journal.kept, journal.kept.details.id
        while True:
            try:
                reply = await self.link.send(READ, journal.keys)
                break
            except StoreUnavailableError:  # reported by the connection
                await asyncio.sleep(_RETRY)
        if self._journals.get(stream_id) is not journal:
            return
        state = StreamState.of(stream_id, kept.details.grace, reply)
        is_nobodys = reply[0] is None
        if is_nobodys or (state is not None and _is_same(state.token, journal.token)):
            # Or it is still ours; or a claim that was given up was executed all the same.
            journal.token = journal.token if state is None else state.token
            journal.is_fenced = False
            self._writer.note(journal)
            return
        self._remove(journal)
        if kept.log.ending is None and self._memory.running.get(stream_id) is kept:
            log = self._memory.detach(kept)
            self._on_lost(kept.details, journal.born, log, journal.written, state)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="rxllm redis streams")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_same(token: str, other: str) -> bool:
    """Return whether two tokens are of one claim: only Redis knows its epoch."""
    return token.partition(".")[2] == other.partition(".")[2]
