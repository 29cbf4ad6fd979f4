"""`AnswerCounts`: numbers that grow with an answer, and that a restart takes back."""

from __future__ import annotations

from collections.abc import Iterable

from rxllm.chunks import Chunk, End, ToolCall, ToolResult, is_restart
from rxllm.restart import forget, matching_sources

__all__ = ["AnswerCounts", "NestedSources", "nested_in"]


class AnswerCounts(dict[str | None, int]):
    """A number for each source. A restart takes back what an answer has added since it began.

    What earlier answers of a run have added stays (see `chunks.is_lasting`).

    >>> from rxllm.chunks import Notice
    >>> counts = AnswerCounts({None: 3})
    >>> counts.note(End("tool_calls", more=True))
    >>> counts[None] += 2
    >>> counts.note(Notice("restart"))
    >>> counts
    {None: 3}
    """

    __slots__ = ("_committed",)

    def __init__(self, counts: dict[str | None, int] | None = None) -> None:
        super().__init__(counts or {})
        self._committed: dict[str | None, int] = {}

    def note(self, chunk: Chunk) -> None:
        """Note a chunk that isn't text: the ends of answers, and restarts."""
        if type(chunk) is End:
            if chunk.more:
                self.commit(chunk.source)
        elif type(chunk) is ToolResult:
            for nested in nested_in(self, chunk):
                self.commit(nested)
        elif is_restart(chunk):
            forget(self, chunk.source)
            for source in matching_sources(self._committed, chunk.source):
                self[source] = self._committed[source]

    def committed(self, source: str | None) -> int:
        """What the earlier answers of `source` have added."""
        return self._committed.get(source, 0)

    def commit(self, source: str | None) -> None:
        """Keep the number of `source` as it is."""
        if source in self:
            self._committed[source] = self[source]


class NestedSources:
    """The sources of what runs inside a tool: the id of its call, or a path of such ids.

    >>> from rxllm.chunks import ToolCall
    >>> nested = NestedSources()
    >>> nested.note(ToolCall("1", "ask"))
    >>> [source in nested for source in (None, "1", "1/2", "2")]
    [False, True, True, False]
    """

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: set[str] = set()

    def note(self, call: ToolCall | ToolResult) -> None:
        """Note a call, or the preliminary result of one that an earlier run has made."""
        self._calls.add(call.id if call.source is None else f"{call.source}/{call.id}")

    def __contains__(self, source: str | None) -> bool:
        if source is None or not self._calls:
            return False
        names = source.split("/")
        return any("/".join(names[: length + 1]) in self._calls for length in range(len(names)))


def nested_in(sources: Iterable[str | None], result: ToolResult) -> list[str]:
    """Return those of `sources` that ran inside the tool whose final `result` this is."""
    if result.preliminary:
        return []
    name = result.id if result.source is None else f"{result.source}/{result.id}"
    known = [each for each in sources if each is not None]
    return [each for each in known if each == name or each.startswith(f"{name}/")]
