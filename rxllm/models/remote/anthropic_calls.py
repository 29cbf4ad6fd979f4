"""The tool calls of a message, accumulated from the deltas of their blocks."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from rxllm.chunks import ToolCall
from rxllm.models.remote.call_ids import distinct_id
from rxllm.models.remote.coercion import as_arguments, as_text, is_json
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.text_joiner import TextJoiner

__all__ = ["CallReader"]

_NO_INPUT: Final = ("", "{}", "null")


class _Call(Comparable):
    """The call of one block.

    Attributes:
        call: the call so far.
        is_whole: the arguments came at once; pieces that follow repeat them.
    """

    def __init__(self, call: ToolCall) -> None:
        self.call = call
        self.is_whole = False
        self._joiner = TextJoiner()

    def add(self, given: Any) -> ToolCall:
        """Add a piece of the arguments, or all of them as an object or a list."""
        before = "" if self.is_whole else self.call.arguments
        self.is_whole = isinstance(given, dict | list)
        if self.is_whole:
            arguments = as_arguments(given) or ""
        else:
            arguments = before + self._joiner.feed(as_text(given))
        self.call = replace(self.call, arguments=arguments)
        return self.call

    @property
    def is_empty(self) -> bool:
        return not self.call.arguments.strip()

    def ended(self, *, may_be_empty: bool) -> ToolCall:
        """Return the call at its end; it is complete if its arguments are."""
        arguments = self.call.arguments + self._joiner.flush()
        if self.is_empty and may_be_empty:
            arguments = "{}"
        complete = bool(self.call.name) and is_json(arguments)
        return replace(self.call, arguments=arguments, complete=complete)


class CallReader(Comparable):
    """Reads the calls of one message.

    A call without arguments may have been cut off, so its end waits: for another block, or for the
    end of the message. A delta whose index isn't that of an open call belongs to the newest one.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Call] = {}
        self._waiting: list[_Call] = []
        self._ids: list[str] = []

    def is_open(self, index: int, call_id: str) -> bool:
        """Return whether the open call at `index` has this id."""
        call = self._open.get(index)
        return call is not None and call.call.id == call_id

    def open(self, index: int, given_id: str, name: str, given: Any) -> ToolCall:
        """Begin a call; `given` is the input at the start of its block, if it has any."""
        call_id = distinct_id(given_id, self._ids, "toolu")
        call = _Call(ToolCall(call_id, name, index=len(self._ids)))
        self._ids.append(call_id)
        self._open[index] = call
        if given and not (isinstance(given, str) and given.strip() in _NO_INPUT):
            call.add(given)
            call.is_whole = is_json(call.call.arguments)
        return call.call

    def add(self, index: int, given: Any) -> list[ToolCall]:
        """Add a delta, and return its call so far; none if no call is open."""
        call = self._open.get(index) or next(reversed(self._open.values()), None)
        return [] if call is None else [call.add(given)]

    def close(self, index: int) -> list[ToolCall]:
        """Return the call whose block has ended, unless it waits."""
        call = self._open.pop(index, None)
        if call is not None and call.is_empty:
            self._waiting.append(call)
            return []
        return [] if call is None else [call.ended(may_be_empty=False)]

    def follow(self, index: int) -> list[ToolCall]:
        """Return the calls that have ended because another block begins at `index`."""
        ended = self._waiting
        self._waiting = []
        if (left := self._open.pop(index, None)) is not None:
            ended.append(left)
        return [call.ended(may_be_empty=True) for call in ended]

    def finish(self, *, may_be_complete: bool) -> list[ToolCall]:
        """Return the calls that remain at the end of the message.

        Args:
            may_be_complete: false if the message was cut off.
        """
        rest = (*self._waiting, *self._open.values())
        return [call.ended(may_be_empty=may_be_complete) for call in rest]
