"""A stream that another node runs, as far as this one has read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from reactivex import Observable
from reactivex.abc import DisposableBase

from rxllm.chunks import Token
from rxllm.errors import StoreUnavailableError
from rxllm.redis.stream_entries import (
    EPOCH,
    VERSION,
    CallReader,
    Entry,
    decode_end,
    decode_events,
    run_of,
)
from rxllm.web.event_log import EventLog
from rxllm.web.failures import failure_message
from rxllm.web.running_stream import size_of
from rxllm.web.stream_store import Frame

__all__ = ["Replica"]

_READABLE: Final = (VERSION - 1, VERSION)
_PATIENCE: Final = 5.0  # seconds until the entries that are there have been read
_BEHIND: Final = 1.0  # seconds to wait for what was read on another node
_LINGER: Final = 1.0  # seconds without a reader


class Replica:
    """A copy of a stream, and the `StreamHandle` of its readers here.

    Args:
        stream_id: the stream's id.
        key: of its entries.
        node: the node that runs it.
        token: with which it writes.
        born: names the stream among all that have had its id.
        last: the last position in Redis.
        log: the log to fill.
        on_readers: called when it has readers, or none any more.
        on_idle: called when it hasn't been used for a while.
        on_hold: called when all readers are far behind, or no longer.
        on_abandon: called when its creator has left for good.
        on_stranger: called when another stream has got its id.

    Attributes:
        is_doubted: whether Redis didn't have it when it was last looked for.
        looked_at: the position at which it was last asked for in Redis.
        key_of_request, owner: of the request, and of the client that made it.
        claim: the token with which this node takes it over, once it tries.
        position: up to which it has read Redis; its log may have been said less.
    """

    def __init__(
        self,
        stream_id: str,
        key: bytes,
        node: str,
        token: str,
        born: str,
        last: int,
        log: EventLog,
        *,
        on_readers: Callable[[Replica, bool], object],
        on_idle: Callable[[Replica], object],
        on_hold: Callable[[Replica, bool], object],
        on_abandon: Callable[[Replica], object],
        on_stranger: Callable[[Replica], object],
    ) -> None:
        self.id: Final = stream_id
        self.key: Final = key
        self.node: str = node
        self.token: str = token
        self.born: str = born
        self.log: Final = log
        self.position: int = 0
        self.has_readers: bool = False
        self.key_of_request: str | None = None
        self.owner: str | None = None
        self.claim: str = ""
        self.looked_at: int = -1
        self.is_doubted: bool = False
        self.taking_over: asyncio.Task[None] | None = None
        self._target = last
        self._on_readers = on_readers
        self._on_idle = on_idle
        self._on_abandon = on_abandon
        self._on_stranger = on_stranger
        self._calls = CallReader()
        self._waiting = 0
        self._is_closed = False
        self._moved = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        log.on_readers = self._count_readers
        log.mark_read()
        self._on_hold = on_hold
        self._holding: DisposableBase = log.valve.on_change(self._on_valve)
        self._count_readers(log.readers)

    @property
    def is_live(self) -> bool:
        """Whether there may be more to read: not if this node runs the stream itself by now."""
        return self.log.ending is None and not self._is_closed

    @property
    def is_used(self) -> bool:
        """Whether somebody reads it, or is about to."""
        return self.has_readers or self._waiting > 0 or self.log.waiting > 0

    def take(self, entry_id: bytes, field: str, data: bytes) -> bool:
        """Add the events of an entry. Return whether to go on; else to read from the beginning."""
        self._moved.set()
        if int(field[1:]) not in _READABLE:
            self.fail(
                StoreUnavailableError(
                    f"the stream is run by a node of another version (entries {field!r}): try again"
                )
            )
            return True
        try:
            if field.startswith("e"):
                self.log.end(decode_end(data), int(entry_id.partition(b"-")[0]))
                return True
            before, entry = decode_events(entry_id, data)
            previous = before if entry.previous < 0 else entry.previous
            if entry.run != run_of(self.born):
                self._on_stranger(self)
                return False
            if previous > self.position:
                self.fail(StoreUnavailableError("entries of the stream are missing in Redis"))
            elif previous == self.position or before < self.position:
                self._add(before, entry)
            elif before + len(entry.events) > self.position:
                # Another node has gone on before what was read here, which Redis had lost.
                self.begin_again(previous)
                return False
        except msgspec.DecodeError as error:
            failure = StoreUnavailableError(f"an entry of the stream can't be read: {error}")
            failure.__cause__ = error
            self.fail(failure)
        return True

    def begin_again(self, valid: int) -> None:
        """Read everything again; what readers have had is right up to the position `valid`."""
        self.position = 0
        self._calls = CallReader()
        self.log.clear(valid)

    def _add(self, position: int, entry: Entry) -> None:
        """Add the events after this position that aren't there yet."""
        append, have = self.log.append, self.position
        for event, offset in zip(entry.events, entry.offsets, strict=True):
            position += 1
            if position <= have:
                continue
            self.position = position
            if type(event) is str:
                append(Token(event), len(event), position, entry.at + offset / 1000)
            elif event is None:
                self.log.skip(position)
            else:
                chunk = self._calls.read(event)  # type: ignore[arg-type]
                append(chunk, size_of(chunk), position, entry.at + offset / 1000)

    def fail(self, error: Exception) -> None:
        """End the stream for its readers here, and for no others.

        The position is one that no event has, so that whoever resumes from there starts over.
        """
        if self.log.ending is None:
            chunks = self.log.events_after(0, self.log.events)[2]
            text = "".join([each.text for each in chunks if isinstance(each, Token)])
            message = failure_message(error, self.id, partial=text)
            self.log.end(message, (self.log.furthest // EPOCH + 1) * EPOCH)
        self._moved.set()

    async def caught_up(self, target: int | None = None) -> None:
        """Wait until what is in Redis has been read.

        Raises:
            StoreUnavailableError: it takes too long.
        """
        if target is not None:
            self._target = max(self._target, target)
        if not await self._until(lambda: self.position >= self._target, _PATIENCE):
            raise StoreUnavailableError(
                f"the stream {self.id!r} could not be read from Redis in {_PATIENCE:g} s"
            )

    async def _until(self, is_done: Callable[[], bool], seconds: float) -> bool:
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                while self.is_live and not is_done():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
            self._count_readers(self.log.readers)
        return True

    async def first(self) -> Frame:
        """As `StreamHandle.first`."""
        self._waiting += 1
        try:
            return await self.log.first()
        finally:
            self._waiting -= 1
            self._count_readers(self.log.readers)

    async def read(self, after: int = 0, *, exact: bool = False) -> Observable[Frame]:
        """As `StreamHandle.read`. What its reader has had on another node is waited for."""
        await self.caught_up()
        await self._until(lambda: after <= self.position, _BEHIND)
        return self.log.read(after, exact=exact)

    def cancel_if_unread(self) -> None:
        """As `StreamHandle.cancel_if_unread`."""
        if not self.log.readers and self.is_live:
            self._on_abandon(self)

    def close(self) -> None:
        """Stop its timers. Its readers may read on."""
        self._is_closed = True
        self._holding.dispose()
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _on_valve(self, is_open: bool) -> None:
        self._on_hold(self, not is_open)

    def _count_readers(self, count: int) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if bool(count) != self.has_readers:
            self.has_readers = bool(count)
            self._on_readers(self, self.has_readers)
        if not count and not self._waiting and not self._is_closed:
            self._linger = asyncio.get_running_loop().call_later(_LINGER, self._end_linger)

    def _end_linger(self) -> None:
        """Go, unless somebody waits for the first event, who may read it later."""
        self._linger = None
        if self.is_used:
            self._count_readers(self.log.readers)
            self._linger = self._linger or asyncio.get_running_loop().call_later(
                _LINGER, self._end_linger
            )
        else:
            self._on_idle(self)
