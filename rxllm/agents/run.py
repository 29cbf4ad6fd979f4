"""`Run`: one subscription to the stream of an agent."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec.structs import replace
from reactivex import abc
from reactivex.disposable import CompositeDisposable, SerialDisposable

from rxllm.agents._approvals import approval_token
from rxllm.agents._calls import Calls, Claim, Job
from rxllm.agents._tasks import start_task
from rxllm.agents.inbox import Inbox
from rxllm.agents.tool import FunctionTool
from rxllm.chunks import (
    ApprovalRequest,
    Batch,
    Chunk,
    End,
    ErrorInfo,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    has_output,
    is_restart,
)
from rxllm.errors import BadRequestError, InvalidAnswerError
from rxllm.messages import Message, Tool
from rxllm.requests import Model, Request
from rxllm.run_messages import with_all_calls_answered
from rxllm.trampoline import Trampoline
from rxllm.transcript import Transcript
from rxllm.valve import scheduler_or_default, valve_of

__all__ = ["Approvals", "Prepare", "Run", "Turn"]

Approvals: TypeAlias = Mapping[str, bool | str]
"""Decisions about calls that wait, by their tokens: `True`, `False`, or the reason for a no."""


class Turn(msgspec.Struct, frozen=True):
    """The next step of a run: the request that will be sent, and the model that gets it.

    Args:
        step: the number of the answer, from 1.
        request: the request, with the conversation so far.
        model: the model.
    """

    step: int
    request: Request
    model: Model


Prepare: TypeAlias = Callable[[Turn], Turn | Awaitable[Turn | None] | None]
"""Changes a step before it is taken. Its messages stay changed for all later ones."""


class _Agent(Protocol):
    model: Model
    tools: dict[str, FunctionTool | Tool]
    max_steps: int
    concurrency: int
    tool_timeout: float | None
    prepare: Prepare | None
    on_tool_error: Callable[[ToolCall, Exception], str] | None
    secret: bytes | None
    name: str
    claim: Claim | None
    repairs: int


class Run:
    """One run: answers of the model and calls of tools in turn, until an answer has no calls.

    It is what the calls of an answer need of it: see `Host`.
    """

    def __init__(
        self,
        agent: _Agent,
        request: Request,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        approvals: Approvals | None,
        inbox: Inbox | None,
        context: Any,
    ) -> None:
        self.scheduler: abc.SchedulerBase = scheduler_or_default(scheduler)
        self.context = context
        self.step: int = 0
        self.raised: BaseException | None = None  # by the subscriber
        self.concurrency: int = agent.concurrency
        self.tool_timeout: float | None = agent.tool_timeout
        self.claim: Claim | None = agent.claim
        self.on_tool_error: Callable[[ToolCall, Exception], str] | None = agent.on_tool_error
        self._agent = agent
        self._request = request
        self._observer = observer
        self._approvals = approvals
        self._inbox = inbox
        self._transcript = Transcript()
        self._earlier: tuple[Message, ...] = ()  # the conversation before the first answer
        self._replaced = 0  # the messages of the transcript that `_earlier` has, changed or not
        self._ids: set[str] = set()  # of all calls of the conversation
        self._renamed: dict[tuple[int, str], str] = {}  # ids of this answer
        self._end: End | None = None  # of this answer, not passed on yet
        self._repairs = agent.repairs
        self._is_due = False  # a step, once the valve is open
        self._turn: Turn | None = None  # that was prepared, and is to be asked then
        self._tools = request.tools  # of this step
        self._valve = valve_of(scheduler)
        self._upstream = SerialDisposable()
        self._calls = SerialDisposable()
        self._subscription = CompositeDisposable(
            self._upstream, self._calls, self._valve.on_change(self._on_valve)
        )
        self._steps = Trampoline(self._subscription)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far."""
        return self._earlier + self._transcript.messages[self._replaced :]

    @property
    def tool_names(self) -> Sequence[str]:
        """The names of the tools of this step."""
        return [tool.name for tool in self._tools]

    def token_of(self, call: ToolCall) -> str:
        """Return what names a call in `approvals`."""
        return approval_token(call, self._agent.secret, self._agent.name)

    def start(self) -> abc.DisposableBase:
        """Begin with the model, or with the calls that an earlier run has left open."""
        try:
            waiting = self._begin_history()
        except BadRequestError as error:
            self._observer.on_error(error)
            return self._subscription
        if waiting:
            self._make(waiting)
        else:
            self._take_next_step()
        return self._subscription

    def _begin_history(self) -> list[Job]:
        messages = self._request.messages
        if self._approvals is None:
            self._earlier = with_all_calls_answered(messages)
            calls: list[ToolCall] = []
        else:
            last = next((each for each in reversed(messages) if each.role != "tool"), None)
            answered = {message.tool_call_id for message in messages}
            made = () if last is None else last.calls
            calls = [call for call in made if call.id not in answered]
            self._check_approvals(self._approvals, calls)
            self._earlier = with_all_calls_answered(messages, but=[call.id for call in calls])
            self._transcript = Transcript(last)
        self._ids = {call.id for message in self._earlier for call in message.calls}
        decisions = self._approvals or {}
        return [
            Job(
                call,
                self._tool_of(call),
                is_resumed=True,
                decision=decisions.get(self.token_of(call)),
            )
            for call in calls
        ]

    def _check_approvals(self, approvals: Approvals, calls: Sequence[ToolCall]) -> None:
        tokens = {self.token_of(call) for call in calls}
        for token in approvals:
            if token not in tokens:
                raise BadRequestError(
                    f"no call waits for the approval {token[:12]!r}: it was answered before, or it "
                    "is another one than was asked about",
                    "approvals",
                )

    # Steps

    def _take_next_step(self) -> None:
        self._is_due = True
        self._steps.run(self._step_if_open, None)

    def _on_valve(self, is_open: bool) -> None:
        if is_open and self._is_due:
            self._steps.run(self._step_if_open, None)

    def _step_if_open(self, _: None) -> None:
        if not (self._is_due and self._valve.is_open):
            return
        self._is_due = False
        if self._turn is not None:
            turn, self._turn = self._turn, None
            self._ask(turn)
            return
        self.step += 1
        turn = Turn(self.step, self._next_request(), self._agent.model)
        prepare = self._agent.prepare
        if prepare is None:
            self._ask(turn)
            return
        try:
            given = prepare(turn)
        except Exception as error:
            self.fail(error)
            return
        if inspect.isawaitable(given):
            self._upstream.disposable = start_task(
                self.scheduler, given, lambda made: self._prepared(turn, made), self.fail
            )
        else:
            self._prepared(turn, given)

    def _prepared(self, turn: Turn, made: Turn | None) -> None:
        if not isinstance(made, Turn | None):
            self.fail(TypeError(f"prepare must return a Turn or None, got {made!r}"))
            return
        self._turn = turn if made is None else made
        self._earlier = self._turn.request.messages
        self._take_next_step()

    def _next_request(self) -> Request:
        self._earlier = self.messages
        self._replaced = len(self._transcript.messages)
        request = replace(self._request, messages=self._earlier)
        if self.step == self._agent.max_steps and request.tools:
            return replace(request, tool_choice="none")
        if self.step > 1 and request.tool_choice not in (None, "auto", "none"):
            return replace(request, tool_choice=None)  # or it would call without end
        return request

    def _ask(self, turn: Turn) -> None:
        self._end = None
        self._renamed = {}
        self._tools = turn.request.tools
        try:
            stream = turn.model.stream(turn.request)
        except Exception as error:
            self.fail(error)
            return
        self._upstream.disposable = stream.subscribe(
            self._make_on_next(), self._on_error, self._on_completed, scheduler=self.scheduler
        )

    # An answer

    def _make_on_next(self) -> Callable[[Chunk], None]:
        """Return `on_next` as a closure, so that a token costs few attribute lookups."""
        add, observer = self._transcript.add, self._observer
        own: str | None = None  # the source of the answer, if a race has named it
        is_known = False

        def on_next(chunk: Chunk) -> None:
            nonlocal own, is_known
            if type(chunk) is Token and chunk.source is None and own is None:
                add(chunk)
            else:
                if not is_known and (type(chunk) is Start or has_output(chunk)):
                    own, is_known = chunk.source, True
                taken = self._taken(chunk, own)
                if taken is None:
                    return
                if is_restart(chunk) and chunk.source in (None, own):
                    own, is_known = None, False  # another one may win the race
                chunk = taken
                if chunk.source is None:
                    add(chunk)
            try:
                observer.on_next(chunk)
            except BaseException as error:
                self.raised = error
                self._subscription.dispose()
                raise

        return on_next

    def _taken(self, chunk: Chunk, own: str | None) -> Chunk | None:
        """Return a chunk of the answer as the run passes it on; `None` to hold it back."""
        if own is not None:
            chunk = _without(own, chunk)
            if chunk.source is not None and has_output(chunk):
                words = f"a step of an agent has one answer, and got one of {own!r} and another"
                self.fail(BadRequestError(f"{words} of {chunk.source!r}"))
                return None
        if chunk.source is not None:
            return chunk
        if type(chunk) is End and not chunk.more:
            self._end = chunk
            return None
        if type(chunk) is ToolCall:
            return self._named(chunk)
        if is_restart(chunk):
            self._end = None
            self._ids.difference_update(self._renamed.values())
            self._renamed = {}
        return chunk

    def _named(self, call: ToolCall) -> ToolCall:
        """Return a call with an id that no earlier one of the conversation has."""
        key = call.index, call.id
        name = self._renamed.get(key)
        if name is None:
            name = call.id or f"call-{self.step}-{call.index}"
            if self.claim is not None and self._may_need_approval(call):
                name = f"{name}-{token_hex(4)}"  # some models use the same ids everywhere
            while name in self._ids:
                name = f"{name}-{self.step}"
            self._renamed[key] = name
            self._ids.add(name)
        return call if name == call.id else replace(call, id=name)

    def _may_need_approval(self, call: ToolCall) -> bool:
        tool = self._tool_of(call)
        return isinstance(tool, FunctionTool) and tool.approval != "run"

    def _on_completed(self) -> None:
        end = self._end
        if end is None:  # a truncated answer, which the sink reports
            self._complete()
            return
        jobs = self._jobs_of(end)
        if self._subscription.is_disposed:
            return
        if not jobs:
            self._on_answer(end)
        elif all(isinstance(job.tool, Tool) for job in jobs):
            self._finish(replace(end, finish_reason="tool_calls"))  # the caller answers them
        elif self._send(replace(end, finish_reason="tool_calls", more=True)):
            if self.step < self._agent.max_steps:
                self._make(jobs)
            else:
                self._give_up(jobs)

    def _jobs_of(self, end: End) -> list[Job]:
        """Return the calls to make. Those of an answer that was cut off aren't made."""
        answer = self._transcript.answers.get(None)
        if answer is None or answer.is_closed or end.finish_reason not in ("tool_calls", "stop"):
            return []
        jobs: list[Job] = []
        for call in list(answer.calls.values()):
            if call.complete:
                jobs.append(Job(call, self._tool_of(call)))
            elif end.finish_reason == "tool_calls":  # the arguments are not JSON
                self._send(replace(call, complete=True))
                jobs.append(Job(call, self._tool_of(call), is_whole=False))
        return jobs

    def _on_answer(self, end: End) -> None:
        texts: list[str] = []
        if end.finish_reason == "stop" and self.step < self._agent.max_steps:
            texts = self._repair() + ([] if self._inbox is None else self._inbox.take())
        if not texts:
            self._finish(end)
        elif self._send(replace(end, more=True)):
            self._steer(texts)

    def _repair(self) -> list[str]:
        """Return what to tell the model about an answer of another type, if it may try again."""
        schema, transcript = self._request.answer_schema, self._transcript
        if not self._repairs or schema is None:
            return []
        try:
            if transcript.json is not None and not transcript.text:  # `parse_json` has read it
                schema.convert(transcript.json)
            else:
                schema.read(transcript.text)
        except BadRequestError:
            return []  # the schema is invalid, which no answer repairs
        except InvalidAnswerError as error:
            self._repairs -= 1
            words = f"{error}. Answer again, with nothing but the JSON."
            return [words.encode("utf-8", "replace").decode()]
        return []

    def _steer(self, texts: Sequence[str]) -> None:
        for text in texts:
            if not self._send(Steering(text)):
                return
        self._take_next_step()

    # Calls

    def _tool_of(self, call: ToolCall) -> FunctionTool | Tool | None:
        offered = next((each for each in self._tools if each.name == call.name), None)
        return None if offered is None else self._agent.tools.get(call.name, offered)

    def _make(self, jobs: list[Job]) -> None:
        calls = Calls(self, jobs)
        self._calls.disposable = calls
        calls.move()

    def _give_up(self, jobs: list[Job]) -> None:
        """No step is left: the calls get an answer, so that the conversation can go on."""
        steps = "1 step" if self.step == 1 else f"{self.step} steps"
        error = ErrorInfo("LimitError", f"the run has ended after {steps}")
        for job in jobs:
            if not isinstance(job.tool, Tool):
                self._send(ToolResult(job.call.id, job.call.name, error=error))
        self._finish(End("limit"))

    def on_calls_done(self, requests: Sequence[ApprovalRequest], *, are_open: bool) -> None:
        """Take the next step, unless calls are left for somebody else to answer."""
        for request in requests:
            if not self._send(request):
                return
        if are_open:
            self._finish(End("tool_calls"))
        else:
            self._steer([] if self._inbox is None else self._inbox.take())

    # What is passed on

    def send(self, chunk: Chunk) -> None:
        """Record a chunk, and pass it on."""
        self._send(chunk)

    def _send(self, chunk: Chunk) -> bool:
        if self._subscription.is_disposed:
            return False
        if chunk.source is None:
            self._transcript.add(chunk)
        try:
            self._observer.on_next(chunk)
        except BaseException as error:
            self.raised = error
            self._subscription.dispose()
            raise
        return not self._subscription.is_disposed

    def _finish(self, end: End) -> None:
        if self._send(end):
            self._complete()

    def _complete(self) -> None:
        self._subscription.dispose()
        self._observer.on_completed()

    def _on_error(self, error: Exception) -> None:
        if error is self.raised:
            raise error  # RxPY passes it to on_error if the model sends while it is subscribed to
        self.fail(error)

    def fail(self, error: Exception) -> None:
        """End the run with an error, which has the conversation without the failed answer."""
        if self._subscription.is_disposed:
            return
        self._subscription.dispose()
        with suppress(Exception):  # some exceptions allow no attributes
            closed = self._transcript.closed[self._replaced :]
            error.messages = self._earlier + closed  # type: ignore[attr-defined]
        self._observer.on_error(error)


def _without(own: str, chunk: Chunk) -> Chunk:
    """Return a chunk of the answer `own` without that source; nested runs keep the rest."""
    source = chunk.source
    if source == own:
        if type(chunk) is Batch:
            parts: list[Token | Reasoning] = [replace(part, source=None) for part in chunk.chunks]
            return Batch(tuple(parts), chunk.text)
        return replace(chunk, source=None)
    if source is not None and source.startswith(f"{own}/"):
        return replace(chunk, source=source[len(own) + 1 :])
    return chunk
