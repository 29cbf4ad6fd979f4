"""One subscription of `guard`: windows of text, and the checks that they wait for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from functools import partial

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.chunks import Chunk, End, is_restart, text_of
from rxllm.errors import ContentFilteredError, StreamCancelledError
from rxllm.operators._per_source import concerned
from rxllm.operators.filtering._rules import Rules
from rxllm.operators.filtering._windows import Windows
from rxllm.valve import Valve, valve_of, with_valve

__all__ = ["Guarding"]


class Guarding:
    """One subscription. Each source has its own windows; `End` of all and completion wait."""

    def __init__(
        self, observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase, rules: Rules
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler
        self._rules = rules
        self._streams: dict[str | None, Windows] = {}
        self._stopped: set[str | None] = set()
        self._full: set[str | None] = set()  # the streams of which too much waits
        self._later: deque[Chunk | None] = deque()  # from an end of all on; None: completion
        self._going_on = self._ended = False
        self._downstream = valve_of(scheduler)
        self._valve = Valve(downstream=self._downstream)
        self._upstream = SingleAssignmentDisposable()
        self._subscription = CompositeDisposable(
            self._upstream,
            self._downstream.on_change(self._on_valve),
            self._valve,
            Disposable(self._drop),
        )

    def start(self, source: Observable[Chunk]) -> abc.DisposableBase:
        """Subscribe to `source`."""
        self._upstream.disposable = source.subscribe(
            self.on_next,
            self.on_error,
            self.on_completed,
            scheduler=with_valve(self._scheduler, self._valve),
        )
        return self._subscription

    def on_next(self, chunk: Chunk) -> None:
        """Check text, and pass on the rest behind it."""
        if self._ended:
            return  # a source that sends all at once can't be disposed of earlier
        if self._later or _ends_all(chunk):
            self._later.append(chunk)
            self._go_on()
        else:
            self._accept(chunk)

    def on_error(self, error: Exception) -> None:
        """Drop what was not checked, and fail."""
        left = [chunk for stream in self._streams.values() for chunk in stream.left()]
        self._subscription.dispose()
        self._send(left)
        self._observer.on_error(error)

    def on_completed(self) -> None:
        """Complete once everything is checked."""
        self._later.append(None)
        self._go_on()

    def _accept(self, chunk: Chunk) -> None:
        source = chunk.source
        if is_restart(chunk):
            self._restart(source)
            self._observer.on_next(chunk)
            return
        if source in self._stopped:
            return
        stream = self._streams.get(source)
        if text_of(chunk):
            if stream is None:
                stream = self._streams[source] = Windows(source)
        elif stream is None or not stream.waits:
            if type(chunk) is End:
                self._streams.pop(source, None)
            self._observer.on_next(chunk)
            return
        stream.append(chunk)
        self._hold(stream)
        self._advance(stream)

    def _go_on(self) -> None:
        """Let go what waits for an end of all, as far as all checks are made."""
        if self._going_on:
            return  # called from inside of on_next: the loop below goes on
        self._going_on = True
        try:
            while self._later and not self._ended:
                chunk = self._later[0]
                if chunk is not None and not _ends_all(chunk):
                    self._later.popleft()
                    self._accept(chunk)
                elif self._all_checked():
                    self._later.popleft()
                    self._end_all(chunk)
                else:
                    return
        finally:
            self._going_on = False

    def _all_checked(self) -> bool:
        for stream in list(self._streams.values()):
            stream.complete = True
            self._advance(stream)
        return not self._ended and not any(
            stream.waits or stream.busy for stream in self._streams.values()
        )

    def _end_all(self, end: Chunk | None) -> None:
        self._streams.clear()
        if end is not None:
            self._observer.on_next(end)
        else:
            self._subscription.dispose()
            self._observer.on_completed()

    def _advance(self, stream: Windows, fine: bool | None = None) -> None:
        """Settle the window of `stream` that is `fine` or not, and check those after it."""
        if stream.busy:
            return  # called from inside of on_next: the loop below goes on
        stream.busy = True
        try:
            if fine is not None:
                self._settle(stream, fine)
            while self._may_check(stream):
                fine = self._checked(stream)
                if fine is not None and not self._ended:
                    self._settle(stream, fine)
        finally:
            stream.busy = False
        if self._later:
            self._go_on()  # what came from inside of on_next has waited for this

    def _may_check(self, stream: Windows) -> bool:
        return (
            not self._ended and self._downstream.is_open and stream.next_is_ready(self._rules.every)
        )

    def _checked(self, stream: Windows) -> bool | None:
        """Whether the next window is fine; None if that is not known yet, or never will be."""
        try:
            verdict = self._rules.ask(stream.open(self._rules.every), self._scheduler)
        except Exception as error:
            self.on_error(error)
            return None
        if isinstance(verdict, bool):
            return verdict
        stream.task = verdict
        verdict.add_done_callback(partial(self._on_checked, stream))
        return None

    def _on_checked(self, stream: Windows, task: asyncio.Future[bool]) -> None:
        """The task of a check is done. What is raised here goes to the loop's handler."""
        error = None if task.cancelled() else task.exception()
        if stream.task is not task:
            if error is not None:
                message = "a check of guard() failed while it was being stopped"
                task.get_loop().call_exception_handler({"message": message, "exception": error})
            return
        stream.task = None
        try:
            if task.cancelled():
                self.on_error(StreamCancelledError("somebody else cancelled a check of guard()"))
            elif isinstance(error, Exception):
                self.on_error(error)
            elif error is None:
                self._advance(stream, bool(task.result()))
        except Exception:
            self._subscription.dispose()  # a subscriber raised: its source is closed
            raise

    def _settle(self, stream: Windows, fine: bool) -> None:
        rules = self._rules
        if fine:
            self._release(stream, stream.release(rules.context))
        elif rules.on_violation == "replace":
            self._release(stream, stream.release(rules.context, replacement=rules.replacement))
        elif rules.on_violation == "error":
            error = ContentFilteredError("guard() has met text that is not fine, and dropped it")
            error.partial = "".join(stream.passed)
            self.on_error(error)
        else:
            self._stop(stream)

    def _release(self, stream: Windows, chunks: list[Chunk]) -> None:
        if self._rules.on_violation == "error":
            stream.passed.extend(map(text_of, chunks))
        self._send(chunks)
        self._hold(stream)
        if stream.complete and not stream.waits and self._streams.get(stream.source) is stream:
            del self._streams[stream.source]

    def _stop(self, stream: Windows) -> None:
        last: Chunk = End("content_filter", source=stream.source)
        if stream.source is not None:
            left = stream.left()
            self._forget(stream.source)
            self._stopped.add(stream.source)
            self._send([*left, last])
            return
        left = [chunk for stream in self._streams.values() for chunk in stream.left()]
        self._subscription.dispose()
        self._send([*left, last])
        self._observer.on_completed()

    def _restart(self, source: str | None) -> None:
        self._forget(source)
        if source is None:
            self._stopped.clear()
        self._stopped.discard(source)

    def _forget(self, source: str | None) -> None:
        for each in concerned(self._streams, source):
            stream = self._streams.pop(each)
            stream.drop()
            self._hold(stream)

    def _drop(self) -> None:
        self._ended = True
        self._later.clear()
        for stream in self._streams.values():
            stream.drop()

    def _hold(self, stream: Windows) -> None:
        """Hold upstream while too much of any stream waits."""
        if stream.waiting > 2 * self._rules.every:
            self._full.add(stream.source)
        else:
            self._full.discard(stream.source)
        if self._full:
            self._valve.close()
        else:
            self._valve.open()

    def _send(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            self._observer.on_next(chunk)

    def _on_valve(self, _: bool) -> None:
        for stream in list(self._streams.values()):
            self._advance(stream)
        self._go_on()


def _ends_all(chunk: Chunk) -> bool:
    return type(chunk) is End and chunk.source is None
