"""The tool calls of a chat completion, accumulated from their deltas."""

from __future__ import annotations

from typing import Final

from rxllm.chunks import ProviderState, ToolCall
from rxllm.models.remote.call_ids import distinct_id, is_id
from rxllm.models.remote.coercion import is_json
from rxllm.models.remote.history import Target
from rxllm.models.remote.openai_types import ToolCallDelta
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.text_joiner import TextJoiner

__all__ = ["CallReader"]


_PLACEHOLDERS: Final = ("{}", "null", '""')


class _Call(Comparable):
    """One call.

    Attributes:
        id: distinct from those of the other calls.
        given_id: the id that the server gave it, if any.
        place: the index that the server gave it, if any.
    """

    def __init__(self, index: int, given_id: str | None, id: str) -> None:  # noqa: A002
        self.index = index
        self.given_id = given_id
        self.place: int | None = None
        self.id = id
        self.name = ""
        self.arguments = ""
        self.state: ProviderState | None = None
        self.pieces = 0
        self.joiner = TextJoiner()

    def add(self, name: str | None, arguments: str | None) -> None:
        """Add a delta. A name may come in pieces, with each delta, or at the end."""
        if name and name != self.name and not (self.name and self.arguments):
            self.name = name if name.startswith(self.name) else self.name + name
        if arguments and self.is_placeholder and arguments.lstrip().startswith("{"):
            self.arguments = ""
        self.arguments += self.joiner.feed(arguments or "")
        self.pieces += bool(arguments)

    @property
    def is_placeholder(self) -> bool:
        """Whether the arguments are what some servers send before the real ones."""
        return self.arguments.strip() in _PLACEHOLDERS

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are a complete object; checked only if they may be one."""
        return self.arguments[-16:].rstrip().endswith("}") and is_json(self.arguments)

    def as_chunk(self, *, complete: bool = False) -> ToolCall:
        return ToolCall(self.id, self.name, self.arguments, self.index, complete, self.state)


class CallReader(Comparable):
    """Tells which call a delta belongs to; servers differ in what they repeat and leave out.

    A delta opens a new call if its index is new; if its id is new and it names a function; or if it
    has no id, the arguments so far are complete, and a name or an opening brace follows.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._next_name: str | None = None

    def read(self, delta: ToolCallDelta) -> ToolCall:
        """Return the call so far that `delta` continues or opens."""
        function = delta.function or delta
        name, arguments = function.name, function.arguments
        call = self._find(delta)
        if call is None or self._opens(delta, call, name, arguments):
            name = name or self._next_name or (call.name if call is not None else None)
            call = self._open(delta)
        elif name == call.name and call.is_whole and arguments in ("", None, call.arguments):
            # Repeated at its end; or the name of a call whose arguments follow.
            self._next_name = None if arguments else name
            return call.as_chunk()
        self._next_name = None
        if delta.index is not None:
            self._by_index[delta.index] = call
        call.add(name, arguments)
        if delta.extra_content:
            call.state = self._target.state({"extra_content": delta.extra_content})
        return call.as_chunk()

    def finish(self, *, may_be_complete: bool) -> list[ToolCall]:
        """Return all calls at the end of the answer; those whose arguments are JSON are complete.

        Args:
            may_be_complete: false if the answer was cut off.
        """
        ended = []
        for call in self._calls:
            call.arguments += call.joiner.flush()
            if may_be_complete and not call.arguments.strip():
                call.arguments = "{}"
            is_complete = may_be_complete and bool(call.name) and is_json(call.arguments)
            ended.append(call.as_chunk(complete=is_complete))
        return ended

    def _find(self, delta: ToolCallDelta) -> _Call | None:
        """The call that `delta` continues, unless it opens one."""
        known = [call for call in self._calls if is_id(delta.id) and call.given_id == delta.id]
        if delta.index is not None:
            call = self._by_index.get(delta.index)
            before = [each for each in known if each.place == delta.index]
            return before[-1] if before and call is not None else call
        if known:
            return known[-1]
        return self._calls[-1] if self._calls else None

    def _opens(
        self, delta: ToolCallDelta, call: _Call, name: str | None, arguments: str | None
    ) -> bool:
        if is_id(delta.id) and delta.id != call.given_id:
            if call.given_id is None and not call.arguments and name in (call.name, None):
                call.given_id = delta.id
                return False
            return bool(name)
        is_other = bool(name) and bool(call.name) and name != call.name
        begins = bool(arguments) and (arguments or "").lstrip().startswith("{")
        if not (is_other or begins) or not call.is_whole:
            return False
        if is_other or (name and not is_id(delta.id) and call.pieces == 1):
            return True
        is_repeated = arguments == call.arguments
        return self._next_name is not None or not (call.is_placeholder or is_repeated)

    def _open(self, delta: ToolCallDelta) -> _Call:
        given_id = delta.id if is_id(delta.id) else None
        taken = [call.id for call in self._calls]
        call = _Call(len(taken), given_id, distinct_id(given_id, taken))
        call.place = delta.index
        self._calls.append(call)
        return call
