"""`tool_calls`: tool calls, once they are complete."""

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
    """Pass on each tool call once, when it is complete and its arguments have been parsed.

    ::

        S-a--b--a--b--a---b---E|  a: {"pl   {"place": "Os   {"place": "Oslo"} (complete)
        [ tool_calls() ]          b: {      {"at":          {"at": 9} (complete)
        S-------------A---B---E|

    A `ToolCall` carries the arguments received so far. Calls may arrive interleaved; a chunk
    belongs to the call with its `id`, or without an id to the last call at its `index`. Fields that
    a later chunk leaves empty (id, name, arguments) keep their earlier value. Only the complete
    call is passed on, with `complete=True`, and with `{}` if no arguments arrived; later chunks
    with its id are dropped. `arguments_of(call)` returns the arguments as a dictionary. All other
    chunks pass immediately.

    A call is complete at the chunk that is marked so or, if the model doesn't mark any, at
    `End("tool_calls")`, `End("stop")` or completion without `End`, in the order in which the calls
    started. Calls that are incomplete at any other `End` (such as `"length"`) are dropped.

    - Completion: completes the pending calls, as above. Error: pending calls are dropped, since
      their arguments are unknown.
    - Restart: pending calls of that stream are dropped, and the same ids may be used again.
    - Disposal: upstream is disposed, and pending calls are dropped.
    - Demand: passes through. The last chunk of each call is held until the end of its answer.

    Args:
        strict: False passes on a call whose arguments can't be parsed, for the code that runs it to
            handle: models do make mistakes.

    Raises:
        MalformedStreamError: into `on_error` unless `strict` is False, if the arguments of a
            complete call are not a JSON object. Upstream is disposed.

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
    8.0 End(finish_reason='tool_calls', stop_sequence=None, ...)
    9.0 |
    """

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            assembler = _Assembler(observer, strict)
            assembler.upstream.disposable = source.subscribe(
                assembler.on_next, observer.on_error, assembler.on_completed, scheduler=scheduler
            )
            return assembler.upstream

        return Stream(subscribe, "tool_calls", of_chunks=True)

    return operator


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """Parse the arguments of a complete call from their JSON text.

    Raises:
        MalformedStreamError: they are not a JSON object; the message names the tool and the place.

    >>> arguments_of(ToolCall("1", "weather", '{"place": "Oslo"}'))
    {'place': 'Oslo'}
    """
    try:
        return msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise MalformedStreamError(
            f"the arguments of call {call.index}, of the tool {call.name!r}, are not a JSON "
            f"object: {error}"
        ) from error


class _Calls:
    """The calls of one answer, in the order in which they started."""

    __slots__ = ("_by_id", "_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []  # passed-on calls stay, to recognise late chunks
        self._by_id: dict[str, int] = {}
        self._by_index: dict[int, int] = {}

    def add(self, delta: ToolCall) -> ToolCall | None:
        """Merge a delta; return the call if it is complete now."""
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
        """The incomplete calls."""
        return [call for call in self._calls if not call.complete]

    def _place(self, delta: ToolCall) -> int | None:
        if delta.id and (place := self._by_id.get(delta.id)) is not None:
            return place
        place = self._by_index.get(delta.index)
        if place is None:
            return None
        known = self._calls[place]
        if delta.id:
            return None if known.id else place  # otherwise a different call at the same index
        return None if known.complete and not known.id else place


class _Assembler:
    """The state of one subscription."""

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
        """Pass complete calls on; return False if one is malformed and the stream has failed."""
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
