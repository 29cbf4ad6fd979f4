"""The tool calls of one answer: their order, approval and results."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable

from rxllm.agents._foreign_types import to_json
from rxllm.agents._tasks import start_task
from rxllm.agents.tool import Decision, FunctionTool, ToolContext, ToolError
from rxllm.bridge import from_async
from rxllm.chunks import ApprovalRequest, Chunk, ErrorInfo, ToolCall, ToolResult, is_chunk
from rxllm.messages import Message, Tool
from rxllm.tagging import tagging
from rxllm.trampoline import Trampoline
from rxllm.transcript import Transcript
from rxllm.valve import clock_of, run_on_loop, valve_of

__all__ = ["Calls", "Claim", "Host", "Job"]

Claim: TypeAlias = Callable[[str, ToolContext], bool | Awaitable[bool]]
"""Returns whether a run is the first to make an approved call, given its token and context."""

_NOTHING: Any = object()


class Host(Protocol):
    """The run that makes the calls."""

    scheduler: abc.SchedulerBase
    step: int
    context: Any
    concurrency: int
    tool_timeout: float | None
    claim: Claim | None
    on_tool_error: Callable[[ToolCall, Exception], str] | None
    raised: BaseException | None  # by the subscriber

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far."""
        ...

    @property
    def tool_names(self) -> Sequence[str]:
        """The names of the tools of this step."""
        ...

    def token_of(self, call: ToolCall) -> str:
        """Return the token of an approval of this call."""
        ...

    def send(self, chunk: Chunk) -> None:
        """Record a chunk, and pass it on."""
        ...

    def fail(self, error: Exception) -> None:
        """End the run with an error."""
        ...

    def on_calls_done(self, requests: Sequence[ApprovalRequest], *, are_open: bool) -> None:
        """All calls have ended, or are left for somebody else to answer."""
        ...


class Job:
    """One call.

    Args:
        call: the call.
        tool: its tool: a function, one that the caller runs, or `None` if there is none.
        is_whole: whether the model has written all of its arguments.
        is_resumed: whether an earlier run has asked for a decision about it.
        decision: that decision: `True`, or `False` or a reason to refuse the call; `None` if there
            is none yet.
    """

    def __init__(
        self,
        call: ToolCall,
        tool: FunctionTool | Tool | None,
        *,
        is_whole: bool = True,
        is_resumed: bool = False,
        decision: bool | str | None = None,
    ) -> None:
        self.call = call
        self.tool = tool
        self.is_whole = is_whole
        self.is_resumed = is_resumed
        self.decision = decision
        self.state: Literal["waiting", "running", "done"] = "waiting"
        self.interim: ToolResult | None = None
        self.work = SerialDisposable()
        self.timer = SerialDisposable()
        self.seconds = 0.0  # that it may take, if there is a limit
        self.due = 0.0  # when they will have passed
        self.is_held = False  # while the valve is closed, and its time too

    @property
    def is_sequential(self) -> bool:
        """Whether it runs alone."""
        return isinstance(self.tool, FunctionTool) and self.tool.sequential


class Calls(abc.DisposableBase):
    """Runs calls: several at once, each with its approval, its time limit and one result.

    While the valve is closed, no call begins and no result is sent. Streams are held, and their
    time limit with them; coroutines continue, and their result waits.
    """

    def __init__(self, host: Host, jobs: list[Job]) -> None:
        self._host = host
        self._clock = clock_of(host.scheduler)
        self._valve = valve_of(host.scheduler)
        self._closed_at = None if self._valve.is_open else self._clock()
        self._waiting = deque(jobs)
        self._running: dict[Job, None] = {}
        self._ready: deque[Callable[[], None]] = deque()  # calls that were approved
        self._interims: deque[Job] = deque()
        self._results: deque[ToolResult] = deque()  # to be sent
        self._requests: list[ApprovalRequest] = []
        self._are_open = False
        self._subscription = CompositeDisposable(
            self._valve.on_change(self._on_valve),
            *[job.work for job in jobs],
            *[job.timer for job in jobs],
        )
        self._trampoline = Trampoline(self._subscription)

    def dispose(self) -> None:
        """Cancel all calls."""
        self._subscription.dispose()

    def move(self, *_: object) -> None:
        """Send what has arrived, and begin what may begin."""
        self._trampoline.repeat(self._step)

    def _step(self) -> bool:
        if not self._valve.is_open:
            return False
        if self._results:
            self._host.send(self._results.popleft())
            return True
        if self._interims:
            self._send_interim(self._interims.popleft())
            return True
        if self._ready:
            self._ready.popleft()()
            return True
        following = self._next()
        if following is not None:
            self._waiting.popleft()
            self._running[following] = None
            following.state = "running"
            self._begin(following)
            return True
        if not (self._waiting or self._running):
            self.dispose()
            self._host.on_calls_done(self._requests, are_open=self._are_open)
        return False

    def _next(self) -> Job | None:
        if not self._waiting or len(self._running) >= self._host.concurrency:
            return None
        first = next(iter(self._running), None)
        if first is not None and (first.is_sequential or self._waiting[0].is_sequential):
            return None
        return self._waiting[0]

    def _send_interim(self, job: Job) -> None:
        interim, job.interim = job.interim, None
        if interim is not None:
            self._host.send(interim)

    def _on_valve(self, is_open: bool) -> None:
        if not is_open:
            self._closed_at = self._clock()
        elif self._closed_at is not None:
            pause, self._closed_at = self._clock() - self._closed_at, None
            for job in self._running:
                if job.is_held and job.seconds:
                    job.due += pause
                    self._set_timer(job)
        self.move()

    # Approval

    def _begin(self, job: Job) -> None:
        tool = job.tool
        if tool is None:
            names = ", ".join(self._host.tool_names) or "none"
            words = f"there is no tool {job.call.name!r}; there are: {names}"
            self._refuse(job, "UnknownToolError", words)
            return
        if isinstance(tool, Tool):  # the caller's
            self._leave_open(job)
            return
        try:
            if not job.is_whole:
                raise ValueError("the arguments are not complete")
            arguments = tool.read(job.call.arguments)
        except (ValueError, RecursionError) as error:
            words = f"{error}. The arguments were: {job.call.arguments[:200]}"
            self._refuse(job, "InvalidArgumentsError", words)
            return
        call = partial(self._call, job, tool, arguments)
        if job.decision is not None:
            self._on_decision(job, call)
        elif callable(policy := tool.approval):
            ask = partial(policy, arguments, self._context(job))
            self._when_known(job, ask, partial(self._decide, job, call))
        else:
            self._decide(job, call, policy)

    def _on_decision(self, job: Job, call: Callable[[], None]) -> None:
        """Act on a decision about a call that an earlier run has asked for."""
        claim = self._host.claim
        if job.decision is not True:
            self._deny(job, job.decision)
        elif claim is None:
            self._make(call)
        else:

            def on_claimed(is_first: bool) -> None:
                if is_first:
                    self._make(call)
                else:
                    self._refuse(job, "ClaimedError", "another run is making this call, or made it")

            ask = partial(claim, self._host.token_of(job.call), self._context(job))
            self._when_known(job, ask, on_claimed)

    def _decide(self, job: Job, call: Callable[[], None], decision: Decision) -> None:
        if decision == "ask":
            self._requests.append(ApprovalRequest(job.call.id, self._host.token_of(job.call)))
            self._leave_open(job)
        elif job.is_resumed:
            self._refuse(job, "InterruptedError", "it is not known whether this was done")
        elif decision is True or decision == "run":
            self._make(call)
        else:
            self._deny(job, decision)

    def _deny(self, job: Job, reason: object) -> None:
        words = f": {reason}" if isinstance(reason, str) and reason else ""
        self._refuse(job, "DeniedError", f"the user has not allowed this{words}")

    def _when_known(self, job: Job, ask: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Call `then` with what `ask` returns, now or when it has been awaited."""
        try:
            given = ask()
        except Exception as error:
            self._host.fail(error)
            return
        if not inspect.isawaitable(given):
            then(given)
            return

        def on_done(value: Any) -> None:
            then(value)
            self.move()

        job.work.disposable = start_task(self._host.scheduler, given, on_done, self._host.fail)

    def _make(self, call: Callable[[], None]) -> None:
        """Make a call now, or once the valve is open."""
        self._ready.append(call)

    def _leave_open(self, job: Job) -> None:
        self._leave(job)
        self._are_open = True

    def _leave(self, job: Job) -> None:
        job.state, job.interim = "done", None
        job.timer.disposable = Disposable()
        self._running.pop(job, None)

    # The call

    def _context(self, job: Job) -> ToolContext:
        host, report = self._host, partial(self._report, job)
        return ToolContext(job.call, host.messages, host.step, host.context, report)

    def _report(self, job: Job, value: Any) -> None:
        interim = ToolResult(job.call.id, job.call.name, _json(value), preliminary=True)
        run_on_loop(self._host.scheduler, partial(self._on_report, job, interim))

    def _on_report(self, job: Job, interim: ToolResult) -> None:
        if job.state == "running" and not self._subscription.is_disposed:
            if job.interim is None:
                self._interims.append(job)
            job.interim = interim
            self.move()

    def _call(self, job: Job, tool: FunctionTool, arguments: dict[str, Any]) -> None:
        if job.is_resumed:  # so that nobody asks again from the start: it would run twice
            self._host.send(ToolResult(job.call.id, job.call.name, preliminary=True))
        seconds = self._host.tool_timeout if tool.timeout is None else tool.timeout
        if seconds is not None:
            job.seconds, job.due = seconds, self._clock() + seconds
            self._set_timer(job)
        context = self._context(job) if tool.takes_context else ToolContext(job.call, ())
        try:
            self._receive(job, tool.call(arguments, context))
        except Exception as error:
            self._on_error(job, error)

    def _receive(self, job: Job, given: Any) -> None:
        """Take the output that a tool has returned, or wait for it."""
        if isinstance(given, Observable):
            self._listen(job, given)
        elif hasattr(given, "__aiter__"):
            self._listen(job, from_async(lambda: given))
        elif inspect.isawaitable(given):

            def on_done(value: Any) -> None:
                self._receive(job, value)
                self.move()

            job.work.disposable = start_task(
                self._host.scheduler, given, on_done, partial(self._on_error, job)
            )
        else:
            self._give(job, given)

    def _listen(self, job: Job, stream: Observable[Any]) -> None:
        job.is_held = True
        listener = _Listener(job.call, self._host.send)

        def on_next(item: Any) -> None:
            if job.state == "done":
                return
            try:
                send = listener.read(item)
            except TypeError as error:
                job.work.dispose()
                self._on_error(job, error)
            else:
                send()

        def on_completed() -> None:
            if job.state == "done":
                return
            try:
                output = listener.output()
            except ToolError as error:
                self._on_error(job, error)
            else:
                self._give(job, output)
                self.move()

        job.work.disposable = stream.subscribe(
            on_next,
            partial(self._on_error, job),
            on_completed,
            scheduler=self._host.scheduler,
        )

    # Its end

    def _set_timer(self, job: Job) -> None:
        wait = max(0.0, job.due - self._clock())
        job.timer.disposable = self._host.scheduler.schedule_relative(
            wait, partial(self._on_time, job)
        )

    def _on_time(self, job: Job, *_: object) -> None:
        if job.state == "done" or (job.is_held and not self._valve.is_open):
            return  # the timer is set again when the valve opens
        if job.due > self._clock():
            self._set_timer(job)
            return
        words = f"the tool took more than {job.seconds:g} s, and was stopped"
        self._refuse(job, "ToolTimeoutError", words)
        job.work.dispose()
        self.move()

    def _give(self, job: Job, value: Any) -> None:
        try:
            output = _json(value)
        except TypeError as error:
            self._on_error(job, error)
        else:
            self._end(job, ToolResult(job.call.id, job.call.name, output))

    def _on_error(self, job: Job, error: Exception) -> None:
        if error is self._host.raised:
            raise error  # of the subscriber: a stream of a tool has emitted while subscribed to
        if job.state == "done":
            return
        handler = self._host.on_tool_error
        try:
            words = (str(error) or "it failed") if handler is None else handler(job.call, error)
            if not isinstance(words, str):
                raise TypeError(f"on_tool_error must return a string, got {words!r}")
        except Exception as failure:
            if handler is not None:
                self._host.fail(failure)
                return
            words = "it failed"  # and its words, too
        self._refuse(job, type(error).__name__, words)
        self.move()

    def _refuse(self, job: Job, kind: str, words: str) -> None:
        sendable = words.encode("utf-8", "replace").decode()  # no provider takes a lone surrogate
        self._end(job, ToolResult(job.call.id, job.call.name, error=ErrorInfo(kind, sendable)))

    def _end(self, job: Job, result: ToolResult) -> None:
        if job.state != "done":
            self._leave(job)
            self._results.append(result)


class _Listener:
    """Reads the stream of a tool: chunks of a run of its own, or interim outputs."""

    def __init__(self, call: ToolCall, send: Callable[[Chunk], None]) -> None:
        self._call = call
        self._send = send
        self._pass_on = tagging(call.id, send)
        self._transcript = Transcript()
        self._last: Any = _NOTHING
        self._needs_approval = False

    def read(self, item: Any) -> Callable[[], None]:
        """Read an item; return a function that passes it on.

        Chunks of a run of its own have the id of the call as their source.

        Raises:
            TypeError: it is neither a chunk nor JSON.
        """
        if not is_chunk(item):
            self._last = _json(item)
            interim = ToolResult(self._call.id, self._call.name, self._last, preliminary=True)
            return partial(self._send, interim)
        chunk: Chunk = item
        if type(chunk) is ApprovalRequest and chunk.source is None:
            self._needs_approval = True
            return _ignore
        self._transcript.add(chunk)
        return partial(self._pass_on, chunk)

    def output(self) -> Any:
        """Return the last output, or the text of the last answer.

        Raises:
            ToolError: the run has ended without an answer.
        """
        if self._needs_approval:
            raise ToolError("it needs an approval, which can't be asked for inside a tool")
        if self._last is not _NOTHING:
            return self._last
        end = self._transcript.end
        if end is not None and end.finish_reason == "tool_calls":
            raise ToolError("it calls a tool that can't be run here")
        return self._transcript.text


def _ignore() -> None:
    """Pass nothing on."""


def _json(value: Any) -> Any:
    """Return an output as a JSON value.

    Raises:
        TypeError: it can't be written as JSON.
    """
    try:
        output = msgspec.to_builtins(value, enc_hook=to_json, str_keys=True)
        msgspec.json.encode(output)  # raises for a lone surrogate
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the output of the tool is not JSON: {error}") from None
    return output
