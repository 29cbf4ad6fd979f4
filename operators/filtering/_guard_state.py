"""The state of one subscription of `guard`: windows and their pending checks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from reactivex import abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.chunks import Chunk, End, is_lasting, is_restart, is_stream_failed, text_of
from rxllm.errors import ContentFilteredError
from rxllm.operators.filtering._rules import Rules, outcome_of, report_failure
from rxllm.operators.filtering._windows import Windows
from rxllm.operators.filtering._windows_by_source import WindowsBySource
from rxllm.restart import committed, survives_restart
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
        self._streams = WindowsBySource(rules)
        self._stopped: dict[str | None, bool] = {}  # True: a restart doesn't revive it
        self._later: deque[Chunk] = deque()  # from an `End` without a source on
        self._out: deque[Chunk] = deque()
        self._last: Callable[[], None] | None = None  # after `_out`
        self._held = self._completed = self._ended = False
        self._is_run = False  # with several answers
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
        """Check content, and pass on other chunks behind it."""
        if self._ended:
            return  # a synchronous source may still push
        if is_restart(chunk):
            self._restart(chunk)
        elif self._later or _ends_all(chunk):
            self._is_run = self._is_run or (type(chunk) is End and chunk.more)
            self._later.append(chunk)
            self._send([])
        else:
            self._accept(chunk)
        self._move()

    def on_error(self, error: Exception) -> None:
        """Drop unchecked content, and fail."""
        self._finish(partial(self._observer.on_error, error))
        self._move()

    def on_completed(self) -> None:
        """Complete once everything has been checked."""
        self._completed = True
        self._move()

    def _accept(self, chunk: Chunk) -> None:
        source = chunk.source
        if source in self._stopped:
            self._stopped[source] = self._stopped[source] or is_lasting(chunk)
            return
        if is_stream_failed(chunk):
            self._out.extend(self._streams.forget(source))  # as on an error, but of one source only
        self._send(self._streams.append(chunk))

    def _send(self, chunks: list[Chunk]) -> None:
        """Send `chunks`, and pause upstream while too much waits."""
        self._out.extend(chunks)
        if not self._held and self._is_full:
            self._held = True
            self._valve.close()

    @property
    def _is_full(self) -> bool:
        return bool(self._streams.full) or len(self._later) > 2 * self._rules.every

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
        if self._held and not self._is_full:
            self._held = False
            self._valve.open()
            return True
        if self._streams.due and self._downstream.is_open:
            self._check(next(iter(self._streams.due)))
            return True
        return self._advance() if self._later or self._completed else False

    def _advance(self) -> bool:
        """Process the next of `_later`, or completion, once earlier checks are done."""
        if self._later and not _ends_all(self._later[0]):
            self._accept(self._later.popleft())
            return True
        if self._streams.close():
            return bool(self._streams.due) and self._downstream.is_open
        if self._later:
            self._streams.clear()
            self._out.append(self._later.popleft())
        else:
            self._finish(self._observer.on_completed)
        return True

    def _check(self, stream: Windows) -> None:
        """Check the next window of `stream`, immediately or in a task."""
        del self._streams.due[stream]
        text, window = stream.open()
        try:
            verdict = self._rules.ask(text, window.about, self._scheduler)
        except Exception as error:
            self.on_error(error)
            return
        dropped = stream.window is not window  # by the check itself
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
        on_violation, source = self._rules.on_violation, stream.source
        if fine or on_violation == "replace":
            self._send(self._streams.release(stream, approved=fine))
        elif on_violation == "error":
            error = ContentFilteredError("guard() dropped content that its check rejected")
            error.partial = "".join(map(text_of, stream.passed))
            self.on_error(error)
        elif source is None:
            self._finish(self._observer.on_completed, End("content_filter"))
        else:
            self._stopped[source] = stream.has_ended_answer
            self._out.extend(self._streams.forget(source))
            self._out.append(End("content_filter", source=source))

    def _restart(self, notice: Chunk) -> None:
        source = notice.source
        if kept := committed(self._later, source):  # what waits before it is not taken back
            later = list(self._later)
            self._later = deque(later[:kept])
            self._later += (each for each in later[kept:] if survives_restart(each, source))
            self._later.append(notice)
            return
        self._stopped = {
            each: is_final
            for each, is_final in self._stopped.items()
            if is_final or source not in (None, each)
        }
        waiting, self._later = self._later, deque()
        self._out.extend(self._streams.restart(source, in_run=self._is_run))
        for chunk in waiting:
            if source is not None and chunk.source != source:
                self._later.append(chunk)
            elif survives_restart(chunk):
                self._out.extend(self._streams.append(chunk))
        self._out.extend(self._streams.append(notice))

    def _finish(self, last: Callable[[], None], *ends: Chunk) -> None:
        """Stop; after checked content, send chunks that aren't model output, `ends` and `last`."""
        self.upstream.dispose()
        out = [*self._out, *self._streams.forget(None, self._later), *ends]
        self.subscription.dispose()
        self._out.extend(out)
        self._last = last

    def _drop(self) -> None:
        self._ended = True
        self._streams.forget(None)
        self._later.clear()
        self._out.clear()


def _ends_all(chunk: Chunk) -> bool:
    """True for an `End` without a source, which ends all streams."""
    return type(chunk) is End and chunk.source is None
