"""Journals: what the streams of this node say, written to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from rxllm.errors import StoreUnavailableError
from rxllm.redis.connections import Link
from rxllm.redis.scripts import milliseconds
from rxllm.redis.stream_entries import END, EVENTS, encode_events, run_of
from rxllm.redis.stream_scripts import APPEND
from rxllm.web.call_offsets import CallOffsets
from rxllm.web.encoding import to_json
from rxllm.web.running_stream import RunningStream

__all__ = ["Journal", "Journals"]

_MOST: Final = 500  # events of an entry
_AT_ONCE: Final = 200  # entries of a script, which Redis executes without a pause

_PAUSE: Final = 0.25
"""Seconds until what Redis has refused is tried again."""


_encode: Final = msgspec.msgpack.Encoder().encode


class _Entry(NamedTuple):
    last: int
    events: int
    field: str
    data: bytes
    status: str = ""


class Journal:
    """One stream of this node, as far as Redis has it.

    It is one more reader of the stream's log, which stays where the truth is: whatever Redis has
    lost is written again from there.

    Args:
        kept: the stream.
        token: the fence; Redis refuses what has another one.
        keys: of the stream.
        written: the position that Redis has.
        born: names the stream among all that have had its id.
        fields: for `RESTORE`.

    Attributes:
        is_fenced: whether another node has the stream.
        is_forgotten: whether this node no longer keeps the stream.
        obeyed: the last flag that was obeyed.
    """

    def __init__(
        self,
        kept: RunningStream,
        token: str,
        keys: list[str],
        written: int,
        born: str,
        fields: tuple[str | bytes, ...],
    ) -> None:
        self.kept: Final = kept
        self.token: str = token
        self.keys: Final = keys
        self.born: Final = born
        self.fields: Final = fields
        self._run: Final = run_of(born)
        self.written: int = written
        self.is_fenced: bool = False
        self.is_forgotten: bool = False
        self.obeyed: str = ""
        self._log: Final = kept.log
        self._calls = CallOffsets()
        self._pending: tuple[int, _Entry] | None = None
        self.rewind(written)

    @property
    def is_complete(self) -> bool:
        """Whether Redis has everything that was said so far."""
        return self.written >= self._log.position

    @property
    def backlog(self) -> int:
        """The number of positions that Redis doesn't have."""
        return self._log.position - self.written

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing left to write."""
        return self.is_fenced or self.is_complete

    def rewind(self, position: int) -> None:
        """Continue after this position."""
        self.written, self._pending = position, None
        self._calls = CallOffsets()
        for at, chunk in zip(*self._log.events_after(0, self._log.events)[::2], strict=True):
            if at <= position and chunk is not None:
                self._calls.next(chunk)

    def next_entry(self) -> _Entry | None:
        """Return what to write next; the same until it is written."""
        if self.is_settled:
            return None
        if self._pending is None or self._pending[0] != self.written:
            self._pending = self.written, self._new_entry()
        return self._pending[1]

    def _new_entry(self) -> _Entry:
        positions, times, chunks = self._log.events_after(self.written, _MOST)
        if not positions:
            ending = self._log.ending
            assert ending is not None and ending.outcome is not None  # noqa: S101, PT018
            return _Entry(ending.position, 1, END, to_json(ending.message), ending.outcome)
        count = len(positions)
        while positions[count - 1] - positions[0] != count - 1:
            count -= 1  # one epoch in one entry
        data = encode_events(
            self.written, positions[:count], times[:count], chunks[:count], self._calls, self._run
        )
        return _Entry(positions[count - 1], count, EVENTS, data)


class Journals:
    """Writes all journals of an event loop: one batch at a time, with whatever has come meanwhile.

    Args:
        link: the connections of the loop.
        flush: minimum seconds between two batches.
        ttl: seconds that the keys of a live stream are kept.
        ended_ttl: seconds that those of an ended one are kept.
        on_missing: called with journals that Redis doesn't know, before they are written again.
        on_replaced: called with a journal that is written again, and the node that had its stream.
        on_written: called with a journal after each entry.
        on_fenced: called with a journal that belongs to another node.
        on_flag: called with a journal and its flag.
    """

    def __init__(
        self,
        link: Link,
        flush: float,
        ttl: float,
        ended_ttl: float,
        *,
        on_missing: Callable[[Journal], asyncio.Future[Any]],
        on_replaced: Callable[[Journal, str], object],
        on_written: Callable[[Journal], object],
        on_fenced: Callable[[Journal], object],
        on_flag: Callable[[Journal, str], object],
    ) -> None:
        self._link = link
        self._flush = flush
        self._ttls = milliseconds(ttl), milliseconds(ended_ttl)
        self._on_missing = on_missing
        self._on_replaced = on_replaced
        self._on_written = on_written
        self._on_fenced = on_fenced
        self._on_flag = on_flag
        self._changed: dict[Journal, None] = {}
        self._later: dict[Journal, asyncio.TimerHandle] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_behind = False

    def note(self, journal: Journal) -> None:
        """Write what is new in a journal, soon."""
        if self._later and (timer := self._later.pop(journal, None)) is not None:
            timer.cancel()
        self._changed[journal] = None
        if self._task is None and not self._link.is_closed:
            loop = self._link.loop
            self._task = loop.create_task(self._write_all(), name="rxllm redis journals")

    def _note_later(self, journal: Journal) -> None:
        if journal not in self._later:
            self._later[journal] = self._link.loop.call_later(_PAUSE, self.note, journal)

    async def close(self) -> None:
        """Stop writing."""
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _write_all(self) -> None:
        try:
            while self._changed:
                begun = self._link.loop.time()
                self._is_behind = False
                await self._write_batch()
                pause = 0.0 if self._is_behind else begun + self._flush - self._link.loop.time()
                await asyncio.sleep(pause)
        finally:
            self._task = None

    async def _write_batch(self) -> None:
        journals, self._changed = self._changed, {}
        entries = [
            (journal, entry) for journal in journals if (entry := journal.next_entry()) is not None
        ]
        missing: list[Journal] = []
        for first in range(0, len(entries), _AT_ONCE):
            await self._append(entries[first : first + _AT_ONCE], missing)
        restoring = [(journal, self._on_missing(journal)) for journal in missing]
        for journal, restored in restoring:
            await self.restore(journal, restored)

    async def _append(
        self, entries: Sequence[tuple[Journal, _Entry]], missing: list[Journal]
    ) -> None:
        """Write entries, and note those whose streams are missing."""
        keys = [journal.keys[0] for journal, _ in entries]
        arguments = [
            (
                *(journal.token, journal.written, entry.last, entry.events, entry.field),
                *(entry.status, self._ttls[1 if entry.status else 0]),
            )
            for journal, entry in entries
        ]
        data = [entry.data for _, entry in entries]
        try:
            replies = await self._link.send(APPEND, keys, _encode(arguments), *data)
        except StoreUnavailableError:  # reported by the connection
            replies = [None] * len(entries)
        for (journal, entry), reply in zip(entries, replies, strict=True):
            if reply == 1:
                self._take_reply(journal, 1, entry.last, "")
            elif not isinstance(reply, list):
                self._note_later(journal)
                if isinstance(reply, bytes):
                    self._link.report_refusal(reply.decode("utf-8", "replace"))
            elif reply[0] == -1:
                missing.append(journal)
            else:
                code, last, flag = reply
                self._take_reply(journal, code, last, flag.decode())

    def _take_reply(self, journal: Journal, code: int, last: int, flag: str) -> None:
        if code == -2:
            journal.is_fenced = True
            self._on_fenced(journal)
            return
        if code == 1:
            journal.written = last
        elif last != journal.written:
            journal.rewind(last)
        if flag not in ("", journal.obeyed):
            self._on_flag(journal, flag)
        if not journal.is_complete:
            self._changed[journal] = None
            self._is_behind = self._is_behind or journal.backlog > _MOST
        self._on_written(journal)

    async def restore(self, journal: Journal, restored: asyncio.Future[Any]) -> None:
        """Write a journal again from its beginning, once its stream has been created again."""
        try:
            outcome, node = await restored
        except StoreUnavailableError:
            self._note_later(journal)
            return
        if outcome == 0:
            journal.is_fenced = True
            self._on_fenced(journal)
            return
        if outcome == 1:
            journal.rewind(0)
        if node:
            self._on_replaced(journal, node.decode())
        self.note(journal)
