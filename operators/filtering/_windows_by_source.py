"""The windows of all sources of one subscription of `guard`."""

from __future__ import annotations

from collections.abc import Iterable

from rxllm.chunks import ApprovalRequest, Chunk, Start, ToolResult, is_lasting, is_restart
from rxllm.operators.filtering._rules import Rules
from rxllm.operators.filtering._windows import Windows
from rxllm.restart import matching_sources, survives_restart

__all__ = ["WindowsBySource"]


class WindowsBySource:
    """The windows of all sources.

    Attributes:
        due: those with a window to check, in order.
        full: those with too much waiting.
    """

    __slots__ = ("_rules", "_streams", "due", "full")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._streams: dict[str | None, Windows] = {}
        self.due: dict[Windows, None] = {}
        self.full: set[Windows] = set()

    def append(self, chunk: Chunk) -> list[Chunk]:
        """Take the next chunk, and return those to send now."""
        stream = self._streams.get(chunk.source)
        if stream is None:
            stream = self._streams[chunk.source] = Windows(chunk.source, self._rules)
        now = stream.append(chunk)
        self._update(stream)
        return now

    def release(self, stream: Windows, *, approved: bool) -> list[Chunk]:
        """Return what can be sent once the window of `stream` is approved, or replaced."""
        released = stream.release(approved=approved)
        self._update(stream)
        return released

    def close(self) -> bool:
        """No more content follows; return whether any waits."""
        waits = False
        for stream in self._streams.values():
            stream.close()
            self._update(stream)
            waits = waits or stream.waits
        return waits

    def restart(self, source: str | None, *, in_run: bool) -> list[Chunk]:
        """Drop the answers under way that match `source`; return what may be sent of them.

        In a run, those inside tools have ended before an answer begins again.
        """
        left: list[Chunk] = []
        for each in matching_sources(self._streams, source):
            if each == source or not in_run:
                stream = self._streams[each]
                left += stream.restart()
                self._update(stream)
        return left

    def forget(self, source: str | None, later: Iterable[Chunk] = ()) -> list[Chunk]:
        """Drop the streams that match `source`, and take back what was sent unchecked.

        Returns chunks of theirs and of `later` that aren't model output, with the retractions.
        """
        waiting, retractions = list[Chunk](), list[Chunk]()
        for each in matching_sources(self._streams, source):
            stream = self._streams.pop(each)
            retractions += stream.retraction()
            waiting += stream.drop()
            self.full.discard(stream)
            self.due.pop(stream, None)
        return [*_leftovers([*waiting, *later]), *retractions]

    def clear(self) -> None:
        """Forget streams in which nothing waits."""
        self._streams.clear()

    def _update(self, stream: Windows) -> None:
        if stream.waiting > 2 * self._rules.every:
            self.full.add(stream)
        else:
            self.full.discard(stream)
        if stream.is_ready:
            self.due[stream] = None
        else:
            self.due.pop(stream, None)
        if stream.is_over:
            self._streams.pop(stream.source, None)


def _leftovers(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Return what is passed on of the chunks behind an answer that was cut off.

    This is what a restart leaves, but of later answers only usage, progress and notices: the tools
    and the answers that they begin with are not passed on either.
    """
    left: list[Chunk] = []
    ended: set[str | None] = set()
    for chunk in chunks:
        if is_lasting(chunk):
            ended.add(chunk.source)
        elif survives_restart(chunk) and not (chunk.source in ended and _is_of_run(chunk)):
            left.append(chunk)
    return left


def _is_of_run(chunk: Chunk) -> bool:
    return isinstance(chunk, Start | ToolResult | ApprovalRequest) or is_restart(chunk)
