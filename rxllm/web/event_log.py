"""The events of one stream, and their readers."""

from __future__ import annotations

import asyncio
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import msgspec
from reactivex import abc
from reactivex.disposable import Disposable

from rxllm.chunks import (
    Batch,
    Chunk,
    Notice,
    Reasoning,
    StateKey,
    Token,
    ToolCall,
    is_final_state,
    is_lasting,
    is_restart,
    state_key,
)
from rxllm.restart import survives_restart
from rxllm.stream import Stream
from rxllm.valve import Valve, scheduler_or_default, valve_of
from rxllm.web.call_offsets import CallOffsets
from rxllm.web.event_reader import LogReader, Reader
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed
from rxllm.web.stream_store import Frame

__all__ = ["EventLog"]

_JOINED: Final = 16 * 1024  # characters; joined text ends with the event that reaches this
_RESTARTED: Final = -1  # the cursor of a reader that has to start over


class _Superseded(NamedTuple):
    """A call that a newer chunk has superseded: its key, and the length of its arguments."""

    key: StateKey
    length: int


class EventLog:
    """The events of a stream so far: appended at one end, read from any position.

    A reader is a position in the log, so a slow one costs no memory and doesn't affect the others.
    An event is encoded once for all readers that keep up; a reader that has fallen behind gets the
    text it missed joined, about 16,000 characters at a time. Of a state that is sent repeatedly (a
    tool call, a JSON value, progress) only the newest is kept: each chunk of a tool call repeats
    its arguments so far, so keeping all of them would take quadratic memory. Chunks invalidated by
    a restart aren't kept either. Of a superseded call, the length of its arguments is kept, so that
    it can be read as it was.

    Args:
        stream_id: the id in every message.
        max_lag: number of events that all readers may be behind before `valve` is closed.
        stall: seconds that a reader may be stalled before it is evicted.
        on_readers: called with the number of readers whenever it changes.

    Attributes:
        on_change: called after each event, and when events are taken back; `None` for nothing.
        valve: the demand of all readers: open while at least one of them keeps up, or after all
            have left. Once the stream has begun, it waits for its first reader.
        position: position of the last event.
        waiting: how many wait for the first event.
        size: total size of the kept chunks, in the unit of `append`.
        begun: set by the first event that isn't a notice; cleared if a restart leaves only notices.
    """

    def __init__(
        self,
        stream_id: str,
        max_lag: int,
        stall: float,
        on_readers: Callable[[int], None],
    ) -> None:
        self.id = stream_id
        self.valve: Final = Valve()
        self.position: int = 0
        self.size: int = 0
        self.stall = stall
        self.ending: Frame | None = None
        self.begun: Final = asyncio.Event()
        self.on_change: Callable[[], object] | None = None
        self.on_readers = on_readers
        self.waiting: int = 0
        self._was_read = False
        self._max_lag = max_lag
        self._readers: tuple[LogReader, ...] = ()
        self._forget_events()

    def _forget_events(self) -> None:
        self.position = self.size = 0
        self._chunks: list[Chunk | _Superseded | None] = []  # None where invalidated, or dropped
        self._newest_calls: dict[StateKey, ToolCall] = {}
        self._positions = array("q")
        self._sizes = array("q")
        self._times = array("d")
        self._before = 0  # the position of the event before the last
        self._states: dict[StateKey, int] = {}  # the index of the newest chunk
        self._committed: dict[str | None, int] = {}  # up to which index no restart takes back
        self._has_begun = False
        self._newest: Frame | None = None
        self._calls = CallOffsets()
        self._offset: int | None = None  # of the newest event
        self._joined: tuple[int, int, Frame | None] = (0, -1, None)

    @property
    def events(self) -> int:
        """The number of events appended."""
        return len(self._chunks)

    @property
    def readers(self) -> int:
        """The current number of readers."""
        return len(self._readers)

    def append(
        self,
        chunk: Chunk,
        size: int = 0,
        position: int | None = None,
        at: float | None = None,
    ) -> None:
        """Append an event.

        Args:
            chunk: the event.
            size: size of the chunk, counted while it is kept.
            position: above all earlier ones, or `None` for the next. Skipped positions are empty.
            at: when it happened, in Unix seconds; now if `None`.
        """
        self._offset = None
        if type(chunk) is not Token:
            self._drop_superseded(chunk)
            if type(chunk) is ToolCall and (key := state_key(chunk)) is not None:
                self._newest_calls[key] = chunk
            self._offset = self._calls.next(chunk)
            if is_lasting(chunk):
                self._committed[chunk.source] = len(self._chunks) + 1
        self._before = self.position
        if position is None:
            position = self.position + 1
        elif position > (last := self._positions[-1] if self._positions else 0) + 1:
            self._restart_between(last, position)
        self.position = position
        self.size += size
        self._chunks.append(chunk)
        self._positions.append(position)
        self._sizes.append(size)
        self._times.append(time.time() if at is None else at)
        if not self._has_begun and type(chunk) is not Notice:
            self._has_begun = True
            self.begun.set()
        if not self._was_read and self._has_begun:
            self.valve.close()
        self._newest = None
        self._notify_readers()

    def skip(self, position: int) -> None:
        """Note an event that was dropped before it came here: a reader may have received it."""
        self._chunks.append(None)
        self._positions.append(position)
        self._sizes.append(0)
        self._times.append(0.0)

    def end(self, message: Complete | StreamFailed, position: int | None = None) -> None:
        """End the stream with `message`, and set its position as `append` does."""
        self._before = self.position
        self.position = self.position + 1 if position is None else position
        message.position = self.position
        self.ending = self._newest = Frame(self.position, message)
        self.begun.set()
        self._notify_readers()
        self.valve.dispose()

    def read(self, after: int, *, exact: bool = False) -> Stream[Frame]:
        """Read the events after this position, and those to come.

        An `exact` reader gets each event as it was, with no text joined and each state of a call.

        A reader at a position that no event in this log has may have read another stream with the
        same id: it gets a `Notice("restart")` at position 0, and then everything.
        """

        def subscribe(
            observer: abc.ObserverBase[Frame], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            cursor = after if self.is_known(after) else _RESTARTED
            valve = valve_of(scheduler_or_default(scheduler))
            reader = Reader(self, observer, valve, cursor, exact)
            self.add(reader)
            reader.drain()
            self.balance()
            return Disposable(reader.leave)

        return Stream(subscribe, f"events of {self.id}", of_chunks=False)

    async def first(self) -> Frame:
        """Wait for the first event that isn't a notice, and return it."""
        position = 0
        self.waiting += 1
        try:
            while True:
                await self.begun.wait()
                frame = self.next_frame(position)
                if frame is None:
                    continue  # a restart invalidated its first events
                message = frame.message
                if not (isinstance(message, StreamChunk) and isinstance(message.chunk, Notice)):
                    return frame
                position = frame.position
        finally:
            self.waiting -= 1

    @property
    def furthest(self) -> int:
        """The highest position that the log, or a reader of it, has."""
        return max([self.position, *[reader.cursor for reader in self._readers]])

    def events_after(
        self, position: int, most: int
    ) -> tuple[Sequence[int], Sequence[float], list[Chunk | None]]:
        """Return up to `most` events: their positions, their times, and the chunks.

        In place of one that was dropped is `None`; a superseded call is there as it was.
        """
        first = bisect_right(self._positions, position)
        part = slice(first, first + most)
        chunks = [
            each if type(each) is Token else self._kept(each, exact=True)
            for each in self._chunks[part]
        ]
        return self._positions[part], self._times[part], chunks

    def clear(self, valid: int) -> None:
        """Forget the events, to append them again from another copy of the stream.

        A reader that has received an event after the position `valid` starts over; the others go
        on where they are.
        """
        self._forget_events()
        self.begun.clear()
        for reader in self._readers:
            if reader.cursor > valid:
                reader.cursor = _RESTARTED
        self.drain()

    def mark_read(self) -> None:
        """Wait for no first reader."""
        self._was_read = True
        self.balance()

    def add(self, reader: LogReader) -> None:
        """Add a reader."""
        self._was_read = True
        self._readers = (*self._readers, reader)
        self.on_readers(len(self._readers))

    def drain(self) -> None:
        """Send to all readers what they haven't received."""
        for reader in self._readers:
            reader.drain()

    def next_frame(self, after: int, exact: bool = False) -> Frame | None:
        """Return the frame after this position, with text joined unless `exact`, or `None` if there
        is none."""
        position = self.position
        if after == _RESTARTED:
            return self._restart()
        if after >= position:
            return None
        if exact and self._positions and after < self._positions[-1]:
            return self._frame_after(after, exact)
        if after >= self._before:
            if self._newest is None:
                index = len(self._chunks) - 1
                while (newest := self._chunks[index]) is None:
                    index -= 1  # skipped; of others, only older events are dropped
                assert not isinstance(newest, _Superseded)  # noqa: S101
                self._newest = self._frame_of(newest, index, self._offset)
            return self._newest
        if self._joined[0] != after or self._joined[1] != position:
            self._joined = after, position, self._frame_after(after)
        return self._joined[2]

    def forget(self, reader: LogReader) -> None:
        """Remove a reader."""
        self._readers = tuple(each for each in self._readers if each is not reader)
        self.balance()
        self.on_readers(len(self._readers))

    def balance(self) -> None:
        """Hold the stream while all readers are far behind, and release it once one catches up."""
        if self.ending is not None:
            return
        readers = self._readers
        if not self.valve.is_open:
            low = self.position - self._max_lag // 2
            if not readers or any(each.cursor >= low for each in readers):
                self.valve.open()
        elif readers and all(not each.valve.is_open for each in readers):
            high = self.position - self._max_lag
            if all(each.cursor <= high for each in readers):
                self.valve.close()

    def _drop_superseded(self, chunk: Chunk) -> None:
        """Drop the chunks that `chunk`, about to be appended, supersedes or invalidates."""
        key = state_key(chunk)
        if key is not None:
            older = self._states.pop(key, None)
            if older is not None:
                self._drop(older)
                if type(chunk) is ToolCall:
                    before = self._newest_calls[key].arguments
                    if chunk.arguments.startswith(before):
                        self._chunks[older] = _Superseded(key, len(before))
            if not is_final_state(chunk):
                self._states[key] = len(self._chunks)
        elif is_restart(chunk):
            restarted = chunk.source
            committed = self._committed.get(restarted, 0)
            for index, kept in enumerate(self._chunks[committed:], committed):
                if isinstance(kept, _Superseded):
                    if restarted in (None, kept.key[1]):
                        self._chunks[index] = None
                elif kept is not None and not survives_restart(kept, restarted):
                    self._drop(index)
            for each in [k for k in self._states if restarted is None or k[1] == restarted]:
                del self._states[each]
            if all(kept is None or isinstance(kept, Notice | _Superseded) for kept in self._chunks):
                self._has_begun = False
                self.begun.clear()

    def _drop(self, index: int) -> None:
        self._chunks[index] = None
        self.size -= self._sizes[index]

    def is_known(self, position: int) -> bool:
        """Return whether a reader at this position has received what is in this log."""
        if position == 0 or (self.ending is not None and position == self.position):
            return True
        index = bisect_left(self._positions, position)
        return index < len(self._positions) and self._positions[index] == position

    def _restart(self) -> Frame:
        notice = StreamChunk(id=self.id, position=0, timestamp=time.time(), chunk=Notice("restart"))
        return Frame(0, notice)

    def _restart_between(self, last: int, following: int) -> None:
        """Let readers start over who have received events that are not in this log."""
        for reader in self._readers:
            if last < reader.cursor < following:
                reader.cursor = _RESTARTED

    def _notify_readers(self) -> None:
        is_late = False
        for reader in self._readers:
            cursor = reader.cursor
            if (cursor >= self._before or cursor == _RESTARTED) and reader.valve.is_open:
                reader.drain()
            else:
                reader.watch()
                is_late = True
        if is_late:
            self.balance()
        if self.on_change is not None:
            self.on_change()

    def _frame_after(self, after: int, exact: bool = False) -> Frame:
        chunks, index = self._chunks, bisect_right(self._positions, after)
        while (chunk := self._kept(chunks[index], exact)) is None:
            index += 1  # the newest event is never dropped
        if index + 1 < len(chunks) and _is_text(chunk) and not exact:
            chunk, index = self._joined_from(chunk, index)
        return self._frame_of(chunk, index)

    def _kept(self, kept: Chunk | _Superseded | None, exact: bool) -> Chunk | None:
        if not isinstance(kept, _Superseded):
            return kept
        if not exact:
            return None
        newest = self._newest_calls[kept.key]
        return msgspec.structs.replace(
            newest, arguments=newest.arguments[: kept.length], complete=False, state=None
        )

    def _frame_of(self, chunk: Chunk, index: int, offset: int | None = None) -> Frame:
        position = self._positions[index]
        message = StreamChunk(
            id=self.id, position=position, timestamp=self._times[index], chunk=chunk
        )
        return Frame(position, message, offset)

    def _joined_from(self, first: Chunk, index: int) -> tuple[Chunk, int]:
        """Return the text from `index` on in one chunk, and the index of its last piece."""
        chunks, sizes = self._chunks, self._sizes
        texts, last, size = [first], index, sizes[index]
        for following in range(index + 1, len(chunks)):
            chunk = chunks[following]
            if chunk is None or isinstance(chunk, _Superseded):
                continue
            if size >= _JOINED or not _is_text(chunk) or chunk.source != first.source:
                break
            texts.append(chunk)
            last, size = following, size + sizes[following]
        return (first if len(texts) == 1 else _join(texts)), last


def _is_text(chunk: Chunk) -> bool:
    if type(chunk) is Token or type(chunk) is Reasoning:
        return chunk.state is None
    return type(chunk) is Batch


def _join(texts: list[Chunk]) -> Chunk:
    """Join pieces of text from one source into one chunk; runs of plain text become one piece."""
    source = texts[0].source
    parts: list[Token | Reasoning] = []
    for kind, run in groupby(_pieces(texts), _plain_kind):
        pieces = list(run)
        if kind is None or len(pieces) == 1:
            parts += pieces
        else:
            parts.append(kind("".join([piece.text for piece in pieces]), source=source))
    if len(parts) == 1:
        return parts[0]
    text = "".join([part.text for part in parts if type(part) is Token])
    return Batch(tuple(parts), text, source=source)


def _plain_kind(piece: Token | Reasoning) -> type[Token] | type[Reasoning] | None:
    if type(piece) is Token and (piece.confidence is not None or piece.number is not None):
        return None
    return type(piece)


def _pieces(texts: list[Chunk]) -> Iterator[Token | Reasoning]:
    for chunk in texts:
        if isinstance(chunk, Batch):
            yield from chunk.chunks
        elif isinstance(chunk, Token | Reasoning):
            yield chunk
