"""Tools that a model may call: Python functions, with a schema made from their signature.

>>> @tool(timeout=10)
... async def weather(place: str, days: int = 1) -> str:
...     '''Forecast the weather.'''
...     return f"sunny in {place}"
>>> weather
FunctionTool('weather')
>>> weather.tool.description, weather.timeout
('Forecast the weather.', 10.0)
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack, overload

import msgspec

from rxllm.agents._invoke import invoke
from rxllm.agents.signature import Signature, name_of, read_docstring, read_json
from rxllm.arguments import check_number
from rxllm.chunks import ToolCall
from rxllm.messages import Message, Tool

__all__ = [
    "NOT_IN_NAMES",
    "Decision",
    "FunctionTool",
    "Policy",
    "ToolContext",
    "ToolError",
    "ToolOptions",
    "tool",
]

NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_-]")
"""A character that providers refuse in the name of a tool."""

_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


class ToolError(Exception):
    """Raised by a tool whose call has failed. The model receives its message as it is."""


def _ignore(value: Any) -> None:
    """The `report` of a context that belongs to no run, as in a unit test."""


class ToolContext(msgspec.Struct, frozen=True):
    """The context of a call: the value of the parameters of this type.

    Args:
        call: the call. Its `id` stays the same if the run is continued elsewhere.
        messages: the conversation up to the call.
        step: the number of the answer that contains the call, from 1.
        context: what `Agent.stream(context=...)` was given.
        report: sends an interim output; may be called from any thread. While the subscriber isn't
            ready for it, only the newest is kept.
    """

    call: ToolCall
    messages: tuple[Message, ...]
    step: int = 1
    context: Any = None
    report: Callable[[Any], None] = _ignore


Decision: TypeAlias = bool | str
"""`"run"` or `True`; `"ask"` (somebody decides, and a later run continues); `False` or any other
string, the reason, to refuse the call."""

Policy: TypeAlias = (
    Literal["run", "ask"] | Callable[[dict[str, Any], ToolContext], Decision | Awaitable[Decision]]
)
"""How a call is approved: always the same, or by a function of its arguments."""


class ToolOptions(TypedDict, total=False):
    """Options of `FunctionTool`."""

    approval: Policy
    timeout: float | None
    sequential: bool
    thread: bool


class FunctionTool:
    """A function that a model may call.

    The function may be

    - plain: it runs in a thread of its own, with the context variables of the run;
    - asynchronous;
    - an asynchronous or a plain generator: each item is an interim output, the last one the
      output. A plain one takes its steps in threads, and what it returns is its last item;
    - any function that returns an Observable: of chunks (a run of its own, whose last text is the
      output), or of outputs, as those of a generator.

    A parameter of the type `ToolContext` gets the context of the call. The other types may be
    builtins and what is made of them, dataclasses, TypedDicts, msgspec Structs, pydantic models,
    and `Annotated[int, msgspec.Meta(ge=1)]`. The docstring (Google, NumPy or reST style) describes
    the tool and its parameters.

    The tool is still callable as the function.

    Args:
        function: the function.
        name: the name for the model, if not that of the function.
        description: the description for the model, if not that of the docstring.
        approval: `"run"`, `"ask"`, or a function that decides about each call.
        timeout: seconds that a call may take, or `None` for the limit of the agent.
        sequential: run it alone: after the earlier calls of an answer, and before the later ones.
        thread: whether a plain function runs in a thread. Without one it must not block.
        parameters: a JSON Schema of the arguments, which aren't checked then. The function is
            called as `function(arguments, context)`.

    Raises:
        TypeError: a model can't call the function, for the reason that the message gives.
        ValueError: providers refuse the name, or an option is out of range.

    >>> def add(a: int, b: int = 1) -> int:
    ...     return a + b
    >>> adder = FunctionTool(add, description="Add two numbers.")
    >>> adder.read('{"a": "2"}'), adder(2, 3)
    ({'a': 2, 'b': 1}, 5)
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        approval: Policy = "run",
        timeout: float | None = None,
        sequential: bool = False,
        thread: bool = True,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(function, staticmethod):
            function = function.__func__
        if not callable(function) or isinstance(function, type | FunctionTool):
            raise TypeError(f"a tool is made from a function, got {function!r}")
        if approval not in ("run", "ask") and not callable(approval):
            raise ValueError(f"approval must be 'run', 'ask' or a function, got {approval!r}")
        if timeout is not None:
            timeout = check_number("timeout", timeout, "seconds that a call may take", above=0)
        functools.update_wrapper(self, function, updated=())
        self.function: Callable[..., Any] = function
        self.approval: Policy = approval
        self.timeout: float | None = timeout
        self.sequential: bool = sequential
        self.thread: bool = thread
        self._signature = None
        if parameters is None:
            self._signature = Signature(function, ToolContext)
            parameters = self._signature.schema
        self.tool: Tool = Tool(
            _checked_name(name_of(function) if name is None else name),
            read_docstring(function)[0] if description is None else description,
            parameters,
        )

    @property
    def name(self) -> str:
        """The name for the model."""
        return self.tool.name

    @property
    def takes_context(self) -> bool:
        """Whether the function gets the context of a call."""
        return self._signature is None or bool(self._signature.injected)

    def read(self, arguments: str) -> dict[str, Any]:
        """Return the arguments of a call by name: checked, converted, and with the defaults.

        Args:
            arguments: a JSON object, or an empty string for none.

        Raises:
            msgspec.ValidationError: an argument is missing, unknown or of another type; the
                message names it.
            msgspec.DecodeError: this isn't JSON.
        """
        if self._signature is None:
            found: dict[str, Any] = read_json(_OBJECT, arguments)
            return found
        return self._signature.read(arguments)

    def call(self, arguments: dict[str, Any], context: ToolContext) -> Any:
        """Call the function.

        Args:
            arguments: what `read` has returned.
            context: for the parameters that ask for it.

        Returns:
            The output, an Observable, an asynchronous iterator, or an awaitable of one of these.

        Raises:
            Exception: what the function raises, if it is plain and runs without a thread.
        """
        if self._signature is None:
            call = functools.partial(self.function, arguments, context)
        else:
            injected = dict.fromkeys(self._signature.injected, context)
            call = functools.partial(self.function, **arguments, **injected)
        return invoke(self.function, call, thread=self.thread)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function as if it weren't a tool."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"FunctionTool({self.name!r})"


@overload
def tool(function: Callable[..., Any], /) -> FunctionTool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: dict[str, Any] | None = None,
    **options: Unpack[ToolOptions],
) -> Callable[[Callable[..., Any]], FunctionTool]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a tool from a function: `@tool`, or with the options of `FunctionTool`.

    Raises:
        TypeError, ValueError: as `FunctionTool` does.

    >>> @tool(approval="ask")
    ... def delete(path: str) -> None:
    ...     '''Delete a file.'''
    >>> delete.approval
    'ask'
    """
    if function is None:
        return functools.partial(FunctionTool, **options)
    return FunctionTool(function, **options)


def _checked_name(name: str) -> str:
    if not 1 <= len(name) <= 64 or NOT_IN_NAMES.search(name):
        raise ValueError(
            "the name of a tool must have 1 to 64 letters a to z, digits, _ and -, "
            f"got {name!r}: pass another name="
        )
    return name
