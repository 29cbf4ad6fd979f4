"""`Agent`: a model that uses tools, and answers in as many steps as it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Unpack, overload

from msgspec.structs import replace
from reactivex import Observable, abc

from rxllm.agents._calls import Claim
from rxllm.agents.inbox import Inbox
from rxllm.agents.run import Approvals, Prepare, Run
from rxllm.agents.tool import FunctionTool, ToolContext, ToolOptions
from rxllm.arguments import check_callable, check_int, check_number
from rxllm.chunks import Chunk, ToolCall
from rxllm.errors import BadRequestError
from rxllm.messages import Message, Tool
from rxllm.requests import (
    Model,
    ModelInfo,
    Prompt,
    Request,
    RequestOptions,
    as_request,
    load_all,
)
from rxllm.stream import Stream
from rxllm.token_count import TokenCount, estimated_tokens

__all__ = ["Agent"]


class Agent:
    """A model made of a model and tools.

    ::

        S-a-(c,E+)--r---S-b-(E,|)    c: ToolCall, E+: End("tool_calls", more=True), r: ToolResult

    Its stream is a run: one answer after another, each as the model gives it. After an answer with
    tool calls, which ends with `End(more=True)`, the tools run, up to `concurrency` at once, and
    each call gets a `ToolResult`. Then the model is asked again, with the answer and the results.
    The last `End` has no `more`. Every operator works on a run; recovery for a single answer stands
    inside, around the model: `Agent(rxllm.piped(model, ops.retry_with_backoff(3)))`, or a `Router`.

    - Tools run once the answer with their calls is complete, so that a retry of it can't run them
      twice. Calls of an answer that was cut off (finish reason `"length"`) don't run.
    - A tool that raises, takes too long, doesn't exist, or gets arguments of another type has a
      `ToolResult` with an `error`, which the model receives. The run continues.
    - Error of the model: the run fails. `error.messages` is the conversation without the answer
      that failed; `agent.stream(error.messages)` continues, and no tool runs again. A retry behind
      the agent does nothing once a tool has run.
    - Disposal: the model and all tools are stopped at once; the sink waits for their clean-up. A
      function in a thread runs on, and its result is dropped.
    - Demand: while the valve is closed, no step, call or request begins. Streams of tools are held,
      with their time limits; coroutines continue, and their results wait.
    - A tool that is a stream of chunks, such as another agent, passes them on with the id of the
      call as their `source`.

    Each subscription runs the tools: share a run with `ops.multiplex`.

    Args:
        model: the model.
        tools: functions, `FunctionTool`s, and `Tool`s without a function. A call of the latter ends
            the run with `"tool_calls"`: the caller answers it and asks again.
        instructions: the system message, unless the prompt has one.
        max_steps: the maximum number of answers, 1 or more. The last one is requested without
            calls; if it still has some, the run ends with `"limit"`.
        concurrency: calls that run at once, 1 or more, including those that a function decides
            about.
        tool_timeout: seconds that a call may take, above 0, or `None` for no limit.
        prepare: called before each step with a `Turn`; returns a changed one, or `None`. May be a
            coroutine function. Messages that it changes stay changed; all else holds for that step.
        on_tool_error: returns what the model receives about a call that raised.
        secret: signs the tokens of approvals, so that a client can't change the approved call.
        claim: called with the token of an approved call and its `ToolContext`; returns whether
            this run is the first to make it (`rxllm.redis.RedisClaims`, say). May be a coroutine
            function. With it, calls that may need an approval get an id that no other conversation
            has.
        repairs: how often the model is asked for another answer if one doesn't follow the
            `response_format`, 0 or more. The request is a `Steering`.
        name: the name in `info`. An approval is for the agent of this name.

    Attributes:
        runs_tools: answers its own calls, so that a client doesn't. Wrappers have it, too.

    Raises:
        BadRequestError: two tools have the same name.
        TypeError, ValueError: another argument is invalid.

    >>> from rxllm.chunks import End
    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> def double(number: int) -> int:
    ...     return 2 * number
    >>> calling = [ToolCall("1", "double", '{"number": 21}', complete=True), End("tool_calls")]
    >>> model = ScriptedModel(calling, "It is 42.")
    >>> agent = Agent(model, [FunctionTool(double, thread=False)])
    >>> events = Marbles().run(agent.stream("What is twice 21?"))
    >>> [event.output for _, event in events if hasattr(event, "output")]
    [42]
    """

    runs_tools = True

    def __init__(
        self,
        model: Model,
        tools: Sequence[FunctionTool | Tool | Callable[..., Any]] = (),
        *,
        instructions: str | None = None,
        max_steps: int = 20,
        concurrency: int = 8,
        tool_timeout: float | None = 60.0,
        prepare: Prepare | None = None,
        on_tool_error: Callable[[ToolCall, Exception], str] | None = None,
        secret: bytes | None = None,
        claim: Claim | None = None,
        repairs: int = 0,
        name: str = "agent",
    ) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"model must be a model, such as rxllm.model('tiny'), got {model!r}")
        for what, function in (
            ("prepare", prepare),
            ("on_tool_error", on_tool_error),
            ("claim", claim),
        ):
            if function is not None:
                check_callable(what, function, "a function, or None")
        for what, value, kind in (
            ("secret", secret, bytes),
            ("instructions", instructions, str),
            ("name", name, str),
        ):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{what} must be {kind.__name__}, got {value!r}")
        if secret == b"":
            raise ValueError("secret must not be empty: anybody could sign with it")
        self.model = model
        self.tools: dict[str, FunctionTool | Tool] = _by_name(tools)
        self.instructions = instructions
        self.max_steps: int = check_int("max_steps", max_steps, "the maximum number of answers")
        self.concurrency: int = check_int("concurrency", concurrency, "calls that run at once")
        self.tool_timeout = tool_timeout
        if tool_timeout is not None:
            check_number("tool_timeout", tool_timeout, "seconds that a call may take", above=0)
        self.prepare = prepare
        self.on_tool_error = on_tool_error
        self.secret = secret
        self.claim = claim
        self.repairs: int = check_int("repairs", repairs, "requests for another answer", minimum=0)
        self.name = name

    def __repr__(self) -> str:
        return f"Agent({self.model!r}, {list(self.tools)})"

    @property
    def info(self) -> ModelInfo:
        """That of the model, with the agent's name and tools."""
        inner = self.model.info
        tools = ", ".join(self.tools) or "no tools"
        return replace(inner, id=self.name, provider="agent", description=f"{inner.id}, {tools}")

    @overload
    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]: ...
    @overload
    def stream(
        self,
        prompt: Prompt,
        *,
        approvals: Approvals | None = None,
        inbox: Inbox | None = None,
        context: Any = None,
        **options: Unpack[RequestOptions],
    ) -> Stream[Chunk]: ...
    def stream(
        self,
        prompt: Prompt,
        *,
        approvals: Approvals | None = None,
        inbox: Inbox | None = None,
        context: Any = None,
        **options: Unpack[RequestOptions],
    ) -> Stream[Chunk]:
        """Return a cold Observable of a run.

        Args:
            prompt: a string, messages, or a complete request.
            approvals: decisions about calls that wait (`Result.pending`), by their tokens: `True`,
                `False`, or the reason for a no. The prompt is the conversation with these calls.
                Those without a decision are asked for again.
            inbox: messages of the user that join the run.
            context: for the tools: `ToolContext.context`.
            options: the fields of `Request`. `tools` are added to those of the agent.

        Raises:
            BadRequestError: the prompt or an option is invalid. An approval of a call that doesn't
                wait is an error of the stream.
        """
        request = self._request(prompt, options)
        if not isinstance(inbox, Inbox | None):
            raise BadRequestError(f"inbox must be an rxllm.Inbox, got {inbox!r}", "inbox")
        _check_approvals(approvals)

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return Run(self, request, observer, scheduler, approvals, inbox, context).start()

        return Stream(subscribe, self.name, of_chunks=True, answer_schema=request.answer_schema)

    def as_tool(self, name: str, description: str, **options: Unpack[ToolOptions]) -> FunctionTool:
        """Return this agent as a tool of another one, whose argument is the `task` in words.

        Its chunks have the id of the call as their `source`, and its last text is the output. It
        can't ask for approvals.

        Args:
            name: the name of the tool.
            description: what it is good for.
            options: see `FunctionTool`.
        """

        def ask(task: str, context: ToolContext) -> Observable[Chunk]:
            return self.stream(task, context=context.context)

        options.setdefault("thread", False)
        return FunctionTool(ask, name=name, description=description, **options)

    async def load(self) -> None:
        """Load the model, if it is a local one.

        Raises:
            ModelLoadError: it can't be loaded.
        """
        await load_all([self.model])

    async def count_tokens(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> TokenCount:
        """Return the number of tokens of the first request of a run, or an estimate.

        Raises:
            BadRequestError: the prompt or an option is invalid.
        """
        request = self._request(prompt, options)
        count = getattr(self.model, "count_tokens", None)
        if count is None:
            return estimated_tokens(request)
        counted: TokenCount = await count(request)
        return counted

    def _request(self, prompt: Prompt, options: RequestOptions) -> Request:
        given = options.get("tools", prompt.tools if isinstance(prompt, Request) else ())
        if not isinstance(given, list | tuple):
            raise BadRequestError(f"tools must be a list of tools, got {given!r}", "tools")
        tools = self.tools.values()
        options["tools"] = [
            *(each.tool if isinstance(each, FunctionTool) else each for each in tools),
            *(each for each in given if _name_of(each) not in self.tools),
        ]
        request = as_request(prompt, **options)
        if self.instructions is None or request.messages[0].role == "system":
            return request
        system = Message("system", self.instructions)
        return replace(request, messages=(system, *request.messages))


def _check_approvals(approvals: object) -> None:
    if approvals is None:
        return
    if not isinstance(approvals, Mapping):
        raise BadRequestError(
            f"approvals must map tokens to decisions, got {approvals!r}", "approvals"
        )
    for token, decision in approvals.items():
        if not (isinstance(token, str) and isinstance(decision, bool | str)):
            words = "approvals must map tokens to True, False or the reason for a no"
            raise BadRequestError(f"{words}, got {token!r}: {decision!r}", "approvals")


def _by_name(
    tools: Sequence[FunctionTool | Tool | Callable[..., Any]],
) -> dict[str, FunctionTool | Tool]:
    if not isinstance(tools, Iterable):
        raise TypeError(f"tools must be a list of tools, got {tools!r}")
    by_name: dict[str, FunctionTool | Tool] = {}
    for each in tools:
        made = each if isinstance(each, FunctionTool | Tool) else FunctionTool(each)
        if made.name in by_name:
            raise BadRequestError(f"two tools have the name {made.name!r}", "tools")
        by_name[made.name] = made
    return by_name


def _name_of(tool: Any) -> str | None:
    name: str | None = tool.get("name") if isinstance(tool, dict) else getattr(tool, "name", None)
    return name
