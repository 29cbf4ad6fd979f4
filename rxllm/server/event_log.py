"""What one stream has said, and those who read it."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxllm.chunks import Batch, Chunk, Notice, Reasoning, Token, is_restart
from rxllm.operators.multicasting._coalesced import StateKey, is_whole, state_key
from rxllm.server.event_reader import Reader
from rxllm.server.messages import Complete, Failed, StreamChunk
from rxllm.server.streams import Frame
from rxllm.valve import Valve, scheduler_or_default, valve_of

__all__ = ["EventLog"]


class EventLog:
    """A stream as far as it has come: appended to at one end, read from any place.

    A reader is a place in the log, so one that lags behind costs no memory, and the others do not
    feel it. An event is encoded once, for all who take it as it comes; what a reader has missed
    comes joined. Of a state that was told again (a tool call, a JSON value, progress) only the
    newest is held: what a call says so far would else take the square of its length.

    Args:
        stream_id: in every message.
        max_lag: events that all readers may be behind before `valve` is closed.
        stall: seconds that a reader may take nothing before it is put out.
        on_readers: called with the number of readers when it has changed.

    Attributes:
        valve: the demand of all readers: open as long as one of them keeps up, or none is left. The
            stream waits for its first reader after its first event.
        position: of the last event.
        size: of what is held, in the unit of `append`.
        begun: set with the first event.
    """

    def __init__(
        self,
        stream_id: str,
        max_lag: int,
        stall: float,
        on_readers: Callable[[int], None],
    ) -> None:
        self.id = stream_id
        self.valve = Valve()
        self.position = 0
        self.size = 0
        self.stall = stall
        self.ending: Frame | None = None
        self.begun = asyncio.Event()
        self._was_read = False
        self._max_lag = max_lag
        self._on_readers = on_readers
        self._chunks: list[Chunk | None] = []  # None: a newer one has taken its place
        self._states: dict[StateKey, tuple[int, int]] = {}  # of the newest: its place and size
        self._times = array("d")
        self._readers: tuple[Reader, ...] = ()
        self._joined: tuple[int, int, list[Frame]] = (0, -1, [])

    @property
    def readers(self) -> int:
        """How many read now."""
        return len(self._readers)

    def append(self, chunk: Chunk, size: int = 0) -> None:
        """The stream has said this; `size` is what it takes to hold it."""
        self._replace(chunk, size)
        self.size += size
        self._chunks.append(chunk)
        self._times.append(time.time())
        self.position += 1
        if not self._was_read:
            self.valve.close()
        self._tell()

    def end(self, message: Complete | Failed) -> None:
        """The stream has ended; the message gets its position."""
        self.position += 1
        message.position = self.position
        self.ending = Frame(self.position, message)
        self._tell()
        self.valve.dispose()

    def read(self, after: int) -> Observable[Frame]:
        """What was said after this position, and what comes. A position to come is none: all."""

        def subscribe(
            observer: abc.ObserverBase[Frame], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            begin = after if 0 <= after <= self.position else 0
            reader = Reader(self, observer, valve_of(scheduler_or_default(scheduler)), begin)
            self._was_read = True
            self._readers = (*self._readers, reader)
            self._on_readers(len(self._readers))
            reader.drain()
            self.balance()
            return Disposable(reader.leave)

        return Observable(subscribe)

    def frames(self, after: int) -> list[Frame]:
        """What was said after this position, in as few frames as say it exactly."""
        if self._joined[:2] != (after, self.position):
            self._joined = after, self.position, self._join(after)
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

    def _replace(self, chunk: Chunk, size: int) -> None:
        key = state_key(chunk)
        if key is None:
            return
        older = self._states.pop(key, None)
        if older is not None:
            self._chunks[older[0]] = None
            self.size -= older[1]
        if not is_whole(chunk):
            self._states[key] = len(self._chunks), size

    def _tell(self) -> None:
        self.begun.set()
        position = self.position
        late = False
        for reader in self._readers:
            if reader.cursor == position - 1 and reader.is_open:
                reader.drain()
            else:
                reader.watch()
                late = True
        if late:
            self.balance()

    def _join(self, after: int) -> list[Frame]:
        kept = _still_said(self._chunks, after)
        frames: list[Frame] = []
        index = 0
        while index < len(kept):
            first = kept[index][1]
            last = index
            if _is_text(first):
                while last + 1 < len(kept):
                    following = kept[last + 1][1]
                    if not (_is_text(following) and following.source == first.source):
                        break
                    last += 1
            frames.append(self._frame(kept[index : last + 1]))
            index = last + 1
        if self.ending is not None and after < self.position:
            frames.append(self.ending)
        return frames

    def _frame(self, parts: list[tuple[int, Chunk]]) -> Frame:
        place, chunk = parts[-1]
        if len(parts) > 1:
            chunk = _batch([part for _, part in parts])
        position = place + 1
        message = StreamChunk(
            id=self.id, position=position, timestamp=self._times[place], chunk=chunk
        )
        return Frame(position, message)


def _is_text(chunk: Chunk) -> bool:
    return type(chunk) is Token or type(chunk) is Reasoning or type(chunk) is Batch


def _still_said(chunks: list[Chunk | None], after: int) -> list[tuple[int, Chunk]]:
    """What a reader needs after `after`, each with its place: not what a newer state or a restart
    has taken the place of."""
    restarted: set[str | None] = set()
    kept: list[tuple[int, Chunk]] = []
    for place in range(len(chunks) - 1, after - 1, -1):
        chunk = chunks[place]
        if chunk is None:
            continue
        if is_restart(chunk):
            restarted.add(chunk.source)
        elif (
            restarted
            and type(chunk) is not Notice
            and not restarted.isdisjoint((None, chunk.source))
        ):
            continue
        kept.append((place, chunk))
    kept.reverse()
    return kept


def _batch(chunks: list[Chunk]) -> Batch:
    parts: list[Token | Reasoning] = []
    for chunk in chunks:
        if isinstance(chunk, Batch):
            parts.extend(chunk.chunks)
        elif isinstance(chunk, Token | Reasoning):
            parts.append(chunk)
    text = "".join([part.text for part in parts if type(part) is Token])
    return Batch(tuple(parts), text, source=chunks[0].source)
