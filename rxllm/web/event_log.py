"""What one stream has said, and those who read it."""

from __future__ import annotations

import asyncio
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Final

from reactivex import abc
from reactivex.disposable import Disposable

from rxllm.chunks import (
    Batch,
    Chunk,
    Notice,
    Reasoning,
    StateKey,
    Token,
    is_final_state,
    is_restart,
    state_key,
)
from rxllm.restart import survives_restart
from rxllm.stream import Stream
from rxllm.valve import Valve, scheduler_or_default, valve_of
from rxllm.web.event_reader import Reader
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed
from rxllm.web.stream_store import Frame

__all__ = ["EventLog"]

_JOINED: Final = 16 * 1024  # characters: what is joined ends with the event that reaches this
_RESTARTED: Final = -1  # the cursor of a reader who has to begin again


class EventLog:
    """A stream as far as it has come: appended to at one end, read from any place.

    A reader is a place in the log, so one that lags behind costs no memory, and the others do not
    feel it. An event is encoded once, for all who take it as it comes; what a reader has missed
    comes joined, some 16,000 characters at once. Of a state that was told again (a tool call, a
    JSON value, progress) only the newest is held: what a call says so far would else take the
    square of its length. What a restart takes back is not held either.

    Args:
        stream_id: in every message.
        max_lag: events that all readers may be behind before `valve` is closed.
        stall: seconds that a reader may take nothing before it is put out.
        on_readers: called with the number of readers when it has changed.

    Attributes:
        valve: the demand of all readers: open as long as one of them keeps up, or none is left. The
            stream waits for its first reader once it has begun.
        position: of the last event.
        size: of what is held, in the unit of `append`.
        begun: set with the first event that is no notice.
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
        self._was_read = False
        self._max_lag = max_lag
        self._on_readers = on_readers
        self._chunks: list[Chunk | None] = []  # None: taken back, or a newer one has its place
        self._positions = array("q")
        self._sizes = array("q")
        self._times = array("d")
        self._before = 0  # the position before the last event
        self._states: dict[StateKey, int] = {}  # the place of the newest
        self._readers: tuple[Reader, ...] = ()
        self._newest: Frame | None = None
        self._joined: tuple[int, int, Frame | None] = (0, -1, None)

    @property
    def events(self) -> int:
        """How many events were appended."""
        return len(self._chunks)

    @property
    def readers(self) -> int:
        """How many read now."""
        return len(self._readers)

    def append(self, chunk: Chunk, size: int = 0, position: int | None = None) -> None:
        """Add what the stream has said.

        Args:
            chunk: the event.
            size: what it takes to hold it.
            position: above all so far; the next one if None. Positions that are left out say
                nothing.
        """
        self._take_back(chunk)
        self._advance(position)
        self.size += size
        self._chunks.append(chunk)
        self._positions.append(self.position)
        self._sizes.append(size)
        self._times.append(time.time())
        if not self.begun.is_set() and type(chunk) is not Notice:
            self.begun.set()
        if not self._was_read and self.begun.is_set():
            self.valve.close()
        self._tell()

    def end(self, message: Complete | StreamFailed, position: int | None = None) -> None:
        """End the stream; the message gets its position, as in `append`."""
        self._advance(position)
        message.position = self.position
        self.ending = Frame(self.position, message)
        self.begun.set()
        self._tell()
        self.valve.dispose()

    def read(self, after: int) -> Stream[Frame]:
        """What was said after this position, and what comes.

        A reader whose position no event of this log has may have read something else under this id:
        it gets a `Notice("restart")` at position 0, and then everything.
        """

        def subscribe(
            observer: abc.ObserverBase[Frame], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            cursor = after if self._is_known(after) else _RESTARTED
            reader = Reader(self, observer, valve_of(scheduler_or_default(scheduler)), cursor)
            self._was_read = True
            self._readers = (*self._readers, reader)
            self._on_readers(len(self._readers))
            reader.drain()
            self.balance()
            return Disposable(reader.leave)

        return Stream(subscribe, f"events of {self.id}", of_chunks=False)

    def next_frame(self, after: int) -> Frame | None:
        """What was said after this position: text is joined. None if nothing was."""
        position = self.position
        if after == _RESTARTED:
            return self._restart()
        if after >= position:
            return None
        if after >= self._before:
            if self._newest is None or self._newest.position != position:
                self._newest = self._frame_after(after)
            return self._newest
        if self._joined[0] != after or self._joined[1] != position:
            self._joined = after, position, self._frame_after(after)
        return self._joined[2]

    def forget(self, reader: Reader) -> None:
        """`reader` has left."""
        self._readers = tuple(each for each in self._readers if each is not reader)
        self.balance()
        self._on_readers(len(self._readers))

    def balance(self) -> None:
        """Let the stream wait while all readers are far behind, and go on when one is not."""
        if self.ending is not None:
            return
        readers = self._readers
        if not self.valve.is_open:
            low = self.position - self._max_lag // 2
            if not readers or any(each.cursor >= low for each in readers):
                self.valve.open()
        elif readers and all(not each.is_open for each in readers):
            high = self.position - self._max_lag
            if all(each.cursor <= high for each in readers):
                self.valve.close()

    def _take_back(self, chunk: Chunk) -> None:
        """Hold no more what `chunk`, which comes next, takes the place of."""
        key = state_key(chunk)
        if key is not None:
            older = self._states.pop(key, None)
            if older is not None:
                self._drop(older)
            if not is_final_state(chunk):
                self._states[key] = len(self._chunks)
        elif is_restart(chunk):
            for place, told in enumerate(self._chunks):
                if told is not None and not survives_restart(told, chunk.source):
                    self._drop(place)
            restarted = chunk.source
            for each in [k for k in self._states if restarted is None or k[1] == restarted]:
                del self._states[each]
            if all(told is None or type(told) is Notice for told in self._chunks):
                self.begun.clear()

    def _drop(self, place: int) -> None:
        self._chunks[place] = None
        self.size -= self._sizes[place]

    def _advance(self, position: int | None) -> None:
        self._before = self.position
        self.position = self.position + 1 if position is None else position

    def _is_known(self, position: int) -> bool:
        if position == 0 or (self.ending is not None and position == self.position):
            return True
        place = bisect_left(self._positions, position)
        return place < len(self._positions) and self._positions[place] == position

    def _restart(self) -> Frame:
        notice = StreamChunk(id=self.id, position=0, timestamp=time.time(), chunk=Notice("restart"))
        return Frame(0, notice)

    def _tell(self) -> None:
        late = False
        for reader in self._readers:
            if reader.cursor >= self._before and reader.is_open:
                reader.drain()
            else:
                reader.watch()
                late = True
        if late:
            self.balance()

    def _frame_after(self, after: int) -> Frame | None:
        chunks = self._chunks
        count, place = len(chunks), bisect_right(self._positions, after)
        while place < count and (chunk := chunks[place]) is None:
            place += 1
        if place == count:
            return self.ending
        assert chunk is not None  # noqa: S101 - the loop has ended at it
        if place + 1 < count and _is_text(chunk):
            chunk, place = self._joined_from(chunk, place)
        position = self._positions[place]
        message = StreamChunk(
            id=self.id, position=position, timestamp=self._times[place], chunk=chunk
        )
        return Frame(position, message)

    def _joined_from(self, first: Chunk, place: int) -> tuple[Chunk, int]:
        """The text from `place` on in one chunk, and the place of its last piece."""
        chunks, sizes = self._chunks, self._sizes
        texts, last, size = [first], place, sizes[place]
        for following in range(place + 1, len(chunks)):
            chunk = chunks[following]
            if chunk is None:
                continue
            if size >= _JOINED or not _is_text(chunk) or chunk.source != first.source:
                break
            texts.append(chunk)
            last, size = following, size + sizes[following]
        return (first if len(texts) == 1 else _join(texts)), last


def _is_text(chunk: Chunk) -> bool:
    return type(chunk) is Token or type(chunk) is Reasoning or type(chunk) is Batch


def _join(texts: list[Chunk]) -> Chunk:
    """Pieces of text of one source in one chunk; those that say nothing but text become one."""
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
