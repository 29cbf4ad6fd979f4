"""The items of a response's output: which of them an event is about, and what has been read."""

from __future__ import annotations

from typing import Any, TypeAlias

from rxllm.chunks import Chunk
from rxllm.models.remote.call_ids import distinct_id, is_id
from rxllm.models.remote.coercion import as_optional_text
from rxllm.models.remote.responses_calls import CALLS, CUSTOM_CALL, PendingCall
from rxllm.models.remote.state import Comparable

__all__ = ["OutputItem", "OutputItems", "Place"]

Place: TypeAlias = tuple[str, int]
"""A part of an item: what it is, and its index."""


class OutputItem(Comparable):
    """One item of the output, and what of it has been read.

    Attributes:
        kind: its type.
        index: its place in the output, or `None` if it isn't known.
        id, call_id: its ids, as far as they are known.
        is_opened: whether the item itself has arrived, and not only a part of it.
        is_done: whether its end has arrived.
        read: the parts whose text has been emitted.
        held: parts that came with their start; deltas may repeat their text.
        extras: the citations and notices that have been emitted.
        call: the call that it is, if it is one.
    """

    def __init__(self, kind: str, index: int | None, given: str | None) -> None:
        self.kind = kind
        self.index = index
        self.id = given
        self.call_id: str | None = None
        self.is_opened: bool = False
        self.is_done: bool = False
        self.read: set[Place] = set()
        self.held: dict[Place, dict[str, Any]] = {}
        self.extras: list[Chunk] = []
        self.call: PendingCall | None = (
            PendingCall(is_custom=kind == CUSTOM_CALL) if kind in CALLS else None
        )

    def learn(self, item: dict[str, Any]) -> None:
        """Keep the ids of the item itself."""
        self.is_opened = True
        self.id = self.id or _id_in(item, "id")
        self.call_id = self.call_id or _id_in(item, "call_id")

    def emit_once(self, extra: Chunk, chunks: list[Chunk]) -> None:
        """Append a citation or a notice, unless it has been emitted."""
        if extra not in self.extras:
            self.extras.append(extra)
            chunks.append(extra)

    def has_id(self, given: str | None) -> bool:
        """Return whether this is one of its ids."""
        return given is not None and given in (self.id, self.call_id)

    def is_same(self, index: int | None, key: str | None) -> bool:
        """Return whether an item is this one: it has its id, or its place and no other id."""
        known = self.call_id or self.id
        if key is not None and known is not None:
            return key == known
        return index is not None and index == self.index


class OutputItems(Comparable):
    """The items that have been read, in the order in which they came.

    An event names its item by its index in the output; servers also leave it out, or get it wrong.
    """

    def __init__(self) -> None:
        self.all: list[OutputItem] = []
        self._call_ids: set[str] = set()

    def of_part(self, kind: str, index: int | None, key: str | None) -> OutputItem | None:
        """Return the item of this kind that a part belongs to, or `None` if it hasn't come."""
        last = self.all[-1] if self.all else None
        is_here = last is not None and (last.kind, last.index) == (kind, index)
        if last is not None and is_here and not last.is_done and last.id in (None, key or last.id):
            return last
        if (found := self._find(kind, index, key)) is not None:
            return found
        is_astray = self._is_astray(index, kind)
        named = [each for each in self.all if each.kind == kind and each.has_id(key)]
        return next((each for each in named if is_astray or each.index is None), None)  # late

    def of_item(
        self, kind: str, index: int | None, item: dict[str, Any], *, is_end: bool
    ) -> OutputItem | None:
        """Return the known item that `item` is the start or the end of, or `None` if it is new."""
        call_id = _id_in(item, "call_id")
        key = call_id or _id_in(item, "id")
        found = self._find(kind, index, key)
        if found is None or (call_id and found.call_id and call_id != found.call_id):
            return None
        if is_end:
            return found if not found.is_done or found.is_same(index, key) else None
        if not found.is_opened:
            return found
        return found if not found.is_done and found.is_same(index, key) else None

    def add(self, kind: str, index: int | None, given: str | None) -> OutputItem:
        """Add an item; one at a place of another kind has no place."""
        item = OutputItem(kind, None if self._is_astray(index, kind) else index, given)
        self.all.append(item)
        return item

    def match(self, output: list[dict[str, Any]]) -> list[OutputItem | None]:
        """Return, for each item of a whole output, the one that it repeats, or `None`.

        Items are matched by their ids, then by their place, then by their order.
        """
        left, found = list(self.all), dict[int, OutputItem]()
        for rule in (_has_its_id, _has_its_place, _may_be):
            for index, item in enumerate(output):
                same = [each for each in left if index not in found and rule(each, index, item)]
                if same:
                    found[index] = same[0]
                    left = [each for each in left if each is not same[0]]
        return [found.get(index) for index in range(len(output))]

    def call_id_of(self, item: dict[str, Any]) -> str:
        """Return the id of a new call: the one given, unless another call has it."""
        given = _id_in(item, "call_id") or _id_in(item, "id")
        self._call_ids.add(chosen := distinct_id(given, self._call_ids))
        return chosen

    def _find(self, kind: str, index: int | None, key: str | None) -> OutputItem | None:
        alike = [each for each in self.all if each.kind == kind]
        here = [each for each in alike if index is not None and each.index == index]
        unfinished = [each for each in alike if not each.is_done]
        is_astray = self._is_astray(index, kind)
        candidates = (
            [each for each in here if each.has_id(key)],
            here,
            [each for each in unfinished if each.has_id(key)],
            [each for each in unfinished if is_astray or each.index is None],
        )
        found = next((each[-1] for each in candidates if each), None)
        if found is not None and found.index is None and not is_astray:
            found.index = index
        return found

    def _is_astray(self, index: int | None, kind: str) -> bool:
        """Return whether an index is left out, or that of an item of another kind."""
        if index is None:
            return True
        return any(each.index == index and each.kind != kind for each in self.all)


def _id_in(item: dict[str, Any], name: str) -> str | None:
    given = as_optional_text(item.get(name))
    return given if is_id(given) else None


def _may_be(known: OutputItem, index: int, item: dict[str, Any]) -> bool:
    given = _id_in(item, "call_id")
    is_other = None not in (given, known.call_id) and given != known.call_id
    return known.kind == item.get("type") and not is_other


def _has_its_id(known: OutputItem, index: int, item: dict[str, Any]) -> bool:
    key = _id_in(item, "call_id") or _id_in(item, "id")
    return known.kind == item.get("type") and known.has_id(key)


def _has_its_place(known: OutputItem, index: int, item: dict[str, Any]) -> bool:
    return known.index == index and _may_be(known, index, item)
