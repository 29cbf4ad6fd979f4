"""A queue that keeps as few chunks as possible without losing any text."""

from __future__ import annotations

from collections import OrderedDict

from rxllm.chunks import (
    Batch,
    Chunk,
    Reasoning,
    StateKey,
    Token,
    is_final_state,
    is_lasting,
    state_key,
)
from rxllm.restart import forget, survives_restart

__all__ = ["Coalesced"]


class Coalesced:
    """A queue that joins text, and keeps only the newest chunk of each state.

    - Text and reasoning of a source are joined into one `Batch`, until another chunk of that
      source, or one without a source, is queued after it.
    - A `Progress`, `ToolCall`, `ToolResult` or `Json` replaces the one that it continues. After a
      complete one the next is queued separately.
    - Other chunks, and states of text, are kept unchanged and in order.

    So the length of the queue doesn't grow with the text.
    """

    __slots__ = ("_committed", "_entries", "_number", "_runs", "_states", "lag")

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Chunk | _Run] = OrderedDict()
        self._runs: dict[str | None, _Run] = {}  # the run that a source's next text joins
        self._states: dict[StateKey, int] = {}  # the position of the newest chunk of each state
        self._committed: dict[str | None, int] = {}  # up to which position nothing is taken back
        self._number = 0
        self.lag: int = 0
        """The number of chunks queued, without those that were replaced."""

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, chunk: Chunk) -> None:
        """Queue `chunk`."""
        if (type(chunk) is Token or type(chunk) is Reasoning) and chunk.state is None:
            self._run(chunk.source).parts.append(chunk)
            self.lag += 1
        elif type(chunk) is Batch:
            self._run(chunk.source).parts.extend(chunk.chunks)
            self.lag += len(chunk.chunks)
        else:
            self._append_other(chunk)

    def popleft(self) -> Chunk:
        """Remove and return the first chunk."""
        number, entry = self._entries.popitem(last=False)
        if isinstance(entry, _Run):
            if self._runs.get(entry.source) is entry:
                del self._runs[entry.source]
            self.lag -= len(entry.parts)
            return entry.joined()
        self.lag -= 1
        key = state_key(entry)
        if key is not None and self._states.get(key) == number:
            del self._states[key]
        return entry

    def forget(self, source: str | None) -> None:
        """Drop all chunks of the answer of `source`; `None` drops those of all sources."""
        for number, entry in self._uncommitted(source):
            if source is None or entry.source == source:
                self._drop(number)
        self._close(source)

    def take_back(self, source: str | None) -> None:
        """Drop the chunks that a restart of `source` discards; `None` means all sources."""
        for number, entry in self._uncommitted(source):
            if isinstance(entry, _Run):
                if source is None or entry.source == source:
                    self._drop(number)
            elif not survives_restart(entry, source):
                self._drop(number)
        self._close(source)

    def chunks(self) -> list[Chunk]:
        """Return all queued chunks, in order."""
        return [
            entry.joined() if isinstance(entry, _Run) else entry for entry in self._entries.values()
        ]

    def _uncommitted(self, source: str | None) -> list[tuple[int, Chunk | _Run]]:
        """The entries after those that no restart of `source` takes back (see `is_lasting`)."""
        kept = self._committed.get(source, 0)
        return [(number, entry) for number, entry in self._entries.items() if number > kept]

    def _drop(self, number: int) -> None:
        entry = self._entries.pop(number)
        self.lag -= len(entry.parts) if isinstance(entry, _Run) else 1

    def _close(self, source: str | None) -> None:
        """Queue the next chunk of `source` after everything that is left of it."""
        forget(self._runs, source)
        for key in [key for key in self._states if source is None or key[1] == source]:
            del self._states[key]

    def _run(self, source: str | None) -> _Run:
        run = self._runs.get(source)
        if run is None:
            run = self._runs[source] = _Run(source)
            self._add(run)
        return run

    def _append_other(self, chunk: Chunk) -> None:
        key = state_key(chunk)
        place = None if key is None else self._states.get(key)
        if place is None:
            forget(self._runs, chunk.source)
            place = self._add(chunk)
            self.lag += 1
        else:
            self._entries[place] = chunk
        if is_lasting(chunk):
            self._committed[chunk.source] = self._number
        if key is not None:
            if is_final_state(chunk):
                self._states.pop(key, None)
            else:
                self._states[key] = place

    def _add(self, entry: Chunk | _Run) -> int:
        self._number += 1
        self._entries[self._number] = entry
        return self._number


class _Run:
    """Consecutive text and reasoning of one source."""

    __slots__ = ("_joined", "parts", "source")

    def __init__(self, source: str | None) -> None:
        self.source = source
        self.parts: list[Token | Reasoning] = []
        self._joined: tuple[int, Chunk] | None = None

    def joined(self) -> Chunk:
        """Return one chunk for all; the same object if nothing has been added."""
        parts = self.parts
        if len(parts) == 1:
            return parts[0]
        if self._joined is None or self._joined[0] != len(parts):
            text = "".join([part.text for part in parts if type(part) is Token])
            self._joined = len(parts), Batch(tuple(parts), text, source=self.source)
        return self._joined[1]
