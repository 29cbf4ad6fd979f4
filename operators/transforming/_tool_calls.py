"""`tool_calls`: calls of tools, once they are whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.chunks import Chunk, End, ToolCall, is_restart
from rxllm.errors import MalformedStreamError
from rxllm.restart import forget, matching_sources
from rxllm.stream import Stream

__all__ = ["arguments_of", "tool_calls"]

_WHOLE: Final = ("tool_calls", "stop")


def tool_calls(*, strict: bool = True) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Pass on each call of a tool once, when it is whole and its arguments have been read.

    ::

        S-a--b--a--b--a---b---E|  a: {"pl   {"place": "Os   {"place": "Oslo"} (complete)
        [ tool_calls() ]          b: {      {"at":          {"at": 9} (complete)
        S-------------A---B---E|

    A `ToolCall` carries the arguments as far as they have come. Several calls may come at once,
    mixed; a chunk belongs to the call of its `id`, or to the last one at its `index` where it
    has no id. What a later chunk leaves empty (id, name, arguments) stays as it was told before.
    Only the whole call is passed on, with `complete=True`, and `{}` for arguments where none came;
    what still comes under its id is left out. `arguments_of(call)` gives them as a dictionary.
    All other chunks pass at once.

    A call is whole at the chunk that says so, and, where the model does not say it, at
    `End("tool_calls")`, `End("stop")` or completion without `End`, in the order in which the calls
    began. Calls that are under way at another `End` (`"length"`, say) are dropped.

    - Completion: as said. Error: calls under way are dropped, since nobody can tell what they ask.
    - Restart: calls under way of that stream are dropped, and the same ids may come again.
    - Disposal: upstream is disposed, calls under way are dropped.
    - Demand: passes through. Held is the last chunk of each call of an answer that is under way.

    Args:
        strict: False passes a call on whose arguments can't be read, to be dealt with by whoever
            runs it: models do make mistakes.

    Raises:
        MalformedStreamError: into `on_error` unless `strict` is False: the arguments of a whole
            call are no JSON object. Upstream is disposed.

    >>> from rxllm.testing import Marbles
    >>> deltas = {"a": ToolCall("1", "weather", '{"pl'), "b": ToolCall("2", "time", "{", 1)}
    >>> deltas["A"] = ToolCall("1", "weather", '{"place": "Oslo"}', complete=True)
    >>> deltas["B"] = ToolCall("2", "time", '{"at": 9}', 1)
    >>> marbles = Marbles()
    >>> source = marbles.cold("a-b-A-B-E|", lookup={**deltas, "E": End("tool_calls")})
    >>> for time, event in marbles.run(source.pipe(tool_calls())):
    ...     print(time, arguments_of(event) if isinstance(event, ToolCall) else event)
    4.0 {'place': 'Oslo'}
    8.0 {'at': 9}
    8.0 End(finish_reason='tool_calls', stop_sequence=None, source=None)
    9.0 |
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            assembling = _Assembling(observer, strict)
            assembling.upstream.disposable = source.subscribe(
                assembling.on_next, observer.on_error, assembling.on_completed, scheduler=scheduler
            )
            return assembling.upstream

        return Stream(subscribe, "tool_calls", of_chunks=True)

    return operator


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments of a whole call, read from their JSON text.

    Raises:
        MalformedStreamError: they are no JSON object; the message names the tool, and where.

    >>> arguments_of(ToolCall("1", "weather", '{"place": "Oslo"}'))
    {'place': 'Oslo'}
    """
    try:
        return msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise MalformedStreamError(
            f"the arguments of call {call.index}, of the tool {call.name!r}, are no JSON object: "
            f"{error}"
        ) from error


class _Calls:
    """The calls of one answer, in the order in which they began."""

    __slots__ = ("_by_id", "_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []  # a call that has been passed on stays, to be known again
        self._by_id: dict[str, int] = {}
        self._by_index: dict[int, int] = {}

    def add(self, delta: ToolCall) -> ToolCall | None:
        """Take a delta in; return the call if it is whole now."""
        place = self._place(delta)
        if place is None:
            place = len(self._calls)
            self._calls.append(delta)
        elif self._calls[place].complete:
            return None
        else:
            known = self._calls[place]
            delta = self._calls[place] = ToolCall(
                delta.id or known.id,
                delta.name or known.name,
                delta.arguments or known.arguments,
                known.index,
                delta.complete,
                source=delta.source,
            )
        self._by_index[delta.index] = place
        if delta.id:
            self._by_id[delta.id] = place
        return delta if delta.complete else None

    def under_way(self) -> list[ToolCall]:
        """The calls that are not complete."""
        return [call for call in self._calls if not call.complete]

    def _place(self, delta: ToolCall) -> int | None:
        if delta.id and (place := self._by_id.get(delta.id)) is not None:
            return place
        place = self._by_index.get(delta.index)
        if place is None:
            return None
        known = self._calls[place]
        if delta.id:
            return None if known.id else place  # else it is another call at the same index
        return None if known.complete and not known.id else place


class _Assembling:
    """One subscription."""

    def __init__(self, observer: abc.ObserverBase[Chunk], strict: bool) -> None:
        self._observer = observer
        self._strict = strict
        self._calls: dict[str | None, _Calls] = {}
        self.upstream = SingleAssignmentDisposable()

    def on_next(self, chunk: Chunk) -> None:
        if type(chunk) is ToolCall:
            self._add(chunk)
            return
        if type(chunk) is End:
            if chunk.finish_reason in _WHOLE and not self._finish(chunk.source):
                return
            forget(self._calls, chunk.source)
        elif is_restart(chunk):
            forget(self._calls, chunk.source)
        self._observer.on_next(chunk)

    def on_completed(self) -> None:
        if self._finish(None):
            self._observer.on_completed()

    def _add(self, delta: ToolCall) -> None:
        calls = self._calls.get(delta.source)
        if calls is None:
            calls = self._calls[delta.source] = _Calls()
        call = calls.add(delta)
        if call is not None:
            self._send([call])

    def _finish(self, source: str | None) -> bool:
        sources = matching_sources(self._calls, source)
        return self._send(call for each in sources for call in self._calls.pop(each).under_way())

    def _send(self, calls: Iterable[ToolCall]) -> bool:
        """Pass whole calls on; False if one can't be read, and the stream has failed."""
        for call in calls:
            if self._strict:
                try:
                    arguments_of(call)
                except MalformedStreamError as error:
                    self._fail(error)
                    return False
            self._observer.on_next(
                msgspec.structs.replace(call, arguments=call.arguments or "{}", complete=True)
            )
        return True

    def _fail(self, error: Exception) -> None:
        self._calls.clear()
        self.upstream.dispose()
        self._observer.on_error(error)
