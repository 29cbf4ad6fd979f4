"""The state of one subscription of `guard`: text windows and their pending checks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from reactivex import abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.chunks import Chunk, End, is_restart, is_stream_failed, text_of
from rxllm.errors import ContentFilteredError
from rxllm.operators.filtering._rules import Rules, outcome_of, report_failure
from rxllm.operators.filtering._windows import Windows, ends_all
from rxllm.restart import committed, matching_sources, survives_restart
from rxllm.trampoline import Trampoline
from rxllm.valve import Valve, fail_stream, valve_of, with_valve

__all__ = ["GuardState"]


class GuardState:
    """The state of one subscription.

    Each source has its own windows; an `End` without a source, and completion, wait for all of
    them. One loop sends the chunks in `_out` and runs the checks that are due.
    """

    def __init__(
        self, observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase, rules: Rules
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler
        self._rules = rules
        self._streams: dict[str | None, Windows] = {}
        self._stopped: set[str | None] = set()
        self._due: dict[Windows, None] = {}  # with a window to check, in order
        self._full: set[Windows] = set()  # with too much text waiting
        self._later: deque[Chunk] = deque()  # from an `End` without a source on
        self._out: deque[Chunk] = deque()
        self._last: Callable[[], None] | None = None  # after `_out`
        self._held = self._completed = self._ended = False
        self._trampoline = Trampoline()
        self._downstream = valve_of(scheduler)
        self._valve = Valve(downstream=self._downstream)
        self.upstream = SingleAssignmentDisposable()
        self.upstream_scheduler = with_valve(scheduler, self._valve)
        self.subscription = CompositeDisposable(
            self.upstream,
            self._downstream.on_change(lambda _: self._move()),
            self._valve,
            Disposable(self._drop),
        )

    def on_next(self, chunk: Chunk) -> None:
        """Check text, and pass on other chunks behind it."""
        if self._ended:
            return  # a synchronous source may still push
        if is_restart(chunk):
            self._restart(chunk)
        elif self._later or ends_all(chunk):
            self._later.append(chunk)
        else:
            self._accept(chunk)
        self._move()

    def on_error(self, error: Exception) -> None:
        """Drop unchecked text, and fail."""
        self._finish(partial(self._observer.on_error, error))
        self._move()

    def on_completed(self) -> None:
        """Complete once everything has been checked."""
        self._completed = True
        self._move()

    def _accept(self, chunk: Chunk) -> None:
        source = chunk.source
        if source in self._stopped:
            return
        if is_stream_failed(chunk):
            self._forget(source)  # as on an error, but of one source only
        stream = self._streams.get(source)
        if text_of(chunk):
            if stream is None:
                stream = self._streams[source] = Windows(source)
        elif stream is None or not stream.waits:
            if type(chunk) is End:
                self._streams.pop(source, None)
            self._out.append(chunk)
            return
        stream.append(chunk)
        if stream.waiting > 2 * self._rules.every:
            self._full.add(stream)
            self._hold()
        self._mark_if_due(stream)

    def _move(self) -> None:
        """Take steps until there is nothing to do."""
        try:
            self._trampoline.repeat(self._step)
        except BaseException:
            self.subscription.dispose()
            raise  # a failure of the subscriber, not of this stream: it goes to the caller

    def _step(self) -> bool:
        """Take one step; return False if there is nothing to do."""
        if self._out:
            self._observer.on_next(self._out.popleft())
            return True
        if self._last is not None:
            last, self._last = self._last, None
            last()
        if self._ended:
            return False
        if self._held and not self._full:
            self._hold()
            return True
        if self._due and self._downstream.is_open:
            self._check(next(iter(self._due)))
            return True
        return self._advance() if self._later or self._completed else False

    def _mark_if_due(self, stream: Windows) -> None:
        if stream.next_is_ready(self._rules.every):
            self._due[stream] = None

    def _hold(self) -> None:
        """Pause upstream while too much text of any stream waits."""
        self._held = bool(self._full)
        (self._valve.close if self._held else self._valve.open)()

    def _advance(self) -> bool:
        """Process the next of `_later`, or completion, once earlier checks are done."""
        if self._later and not ends_all(self._later[0]):
            self._accept(self._later.popleft())
            return True
        for stream in self._streams.values():
            stream.complete = True
            self._mark_if_due(stream)
        if any(stream.waits for stream in self._streams.values()):
            return bool(self._due) and self._downstream.is_open
        if self._later:
            self._streams.clear()
            self._out.append(self._later.popleft())
        else:
            self._finish(self._observer.on_completed)
        return True

    def _check(self, stream: Windows) -> None:
        """Check the next window of `stream`, immediately or in a task."""
        del self._due[stream]
        text = stream.open(self._rules.every)
        try:
            verdict = self._rules.ask(text, self._scheduler)
        except Exception as error:
            self.on_error(error)
            return
        dropped = self._streams.get(stream.source) is not stream  # by the check itself
        if isinstance(verdict, bool):
            if not dropped:
                self._settle(stream, verdict)
            return
        verdict.add_done_callback(partial(self._on_checked, stream))
        if dropped:
            verdict.cancel()
        else:
            stream.task = verdict

    def _on_checked(self, stream: Windows, task: asyncio.Future[bool]) -> None:
        """Handle the result of a check that ran as a task."""
        if stream.task is not task:
            report_failure(task)
            return
        stream.task = None
        outcome = outcome_of(task)
        try:
            if isinstance(outcome, Exception):
                self.on_error(outcome)
            elif outcome is not None:
                self._settle(stream, outcome)
                self._move()
        except Exception as failure:
            fail_stream(self._scheduler, failure)

    def _settle(self, stream: Windows, fine: bool) -> None:
        """Release the window of `stream`, or apply `on_violation`."""
        rules = self._rules
        if fine:
            self._release(stream, stream.release(rules.context))
        elif rules.on_violation == "replace":
            self._release(stream, stream.release(rules.context, replacement=rules.replacement))
        elif rules.on_violation == "error":
            error = ContentFilteredError("guard() dropped text that its check rejected")
            error.partial = "".join(stream.passed)
            self.on_error(error)
        elif stream.source is None:
            self._finish(self._observer.on_completed, End("content_filter"))
        else:
            self._forget(stream.source)
            self._out.append(End("content_filter", source=stream.source))
            self._stopped.add(stream.source)

    def _release(self, stream: Windows, chunks: list[Chunk]) -> None:
        if self._rules.on_violation == "error":
            stream.passed.extend(map(text_of, chunks))
        self._out.extend(chunks)
        if stream.waiting <= 2 * self._rules.every:
            self._full.discard(stream)
        self._mark_if_due(stream)
        if stream.complete and not stream.waits:
            del self._streams[stream.source]

    def _restart(self, notice: Chunk) -> None:
        source = notice.source
        if kept := committed(self._later, source):  # what waits before it is not taken back
            later = list(self._later)
            self._later = deque(later[:kept])
            self._later += (each for each in later[kept:] if survives_restart(each, source))
            self._later.append(notice)
            return
        self._forget(source)
        self._stopped = set() if source is None else self._stopped - {source}
        waiting, self._later = self._later, deque()
        for each in waiting:
            if source is not None and each.source != source:
                self._later.append(each)
            elif survives_restart(each):
                self._out.append(each)
        self._out.append(notice)

    def _forget(self, source: str | None) -> None:
        """Drop the streams that match `source`, and release chunks that aren't model output."""
        for each in matching_sources(self._streams, source):
            stream = self._streams.pop(each)
            self._out.extend(stream.drop())
            self._full.discard(stream)
            self._due.pop(stream, None)

    def _finish(self, last: Callable[[], None], *ends: Chunk) -> None:
        """Stop; after checked text, send chunks that aren't model output, `ends` and `last`."""
        self.upstream.dispose()
        self._forget(None)
        out = [*self._out, *filter(survives_restart, self._later), *ends]
        self.subscription.dispose()
        self._out.extend(out)
        self._last = last

    def _drop(self) -> None:
        self._ended = True
        self._forget(None)
        self._later.clear()
        self._out.clear()
