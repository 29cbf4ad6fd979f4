"""`FunctionTool`: how a function is called, and the decorator that makes a tool of it."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import msgspec
import pytest
import reactivex
from reactivex import Observable

import rxllm
from rxllm import FunctionTool, Message, ToolCall, ToolContext, ToolError, tool
from rxllm.agents.tool import Decision
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import no_leaks

CONTEXT = ToolContext(ToolCall("1", "look", "{}"), (Message("user", "Hi"),), 2, {"user": 7})
USER: ContextVar[str] = ContextVar("USER")


async def output(function: Callable[..., Any] | FunctionTool, /, **arguments: Any) -> Any:
    """Return what a call gives once nothing is left to await: the output, or a stream of it."""
    made = function if isinstance(function, FunctionTool) else FunctionTool(function)
    returned = made.call(arguments, CONTEXT)
    if isinstance(returned, Awaitable) and not isinstance(returned, Observable):
        return await returned
    return returned


async def items(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


def place() -> str:
    """Where this runs."""
    return "loop" if threading.current_thread() is threading.main_thread() else "thread"


class TestPlainFunctions:
    async def test_it_runs_in_a_thread_with_the_context_variables(self) -> None:
        def look(name: str) -> tuple[str, str, str]:
            return name, place(), USER.get()

        USER.set("Ada")
        assert await output(look, name="x") == ("x", "thread", "Ada")

    async def test_without_a_thread_it_returns_at_once(self) -> None:
        assert FunctionTool(place, thread=False).call({}, CONTEXT) == "loop"

    async def test_what_it_raises_is_raised(self) -> None:
        def fail() -> None:
            raise ToolError("the door is locked")

        with pytest.raises(ToolError, match=r"^the door is locked$"):
            await output(fail)
        with pytest.raises(ToolError, match="locked"):
            FunctionTool(fail, thread=False).call({}, CONTEXT)

    async def test_a_stop_iteration_is_an_error_and_does_not_hang(self) -> None:
        def first(values: list[int]) -> int:
            return next(iter(values))

        with pytest.raises(RuntimeError, match="StopIteration"):
            await output(first, values=[])

    @pytest.mark.parametrize("thread", [True, False])
    async def test_what_it_returns_may_be_asynchronous(self, thread: bool) -> None:
        async def answer() -> int:
            return 42

        async def count() -> AsyncIterator[int]:
            yield 1
            yield 2

        def counts() -> AsyncIterator[int]:
            return count()

        def answers(*, twice: bool) -> Any:
            return deferred() if twice else answer()

        async def deferred() -> Awaitable[int]:
            return answer()

        made = FunctionTool(answers, thread=thread)
        assert await output(made, twice=False) == await output(made, twice=True) == 42
        assert await items(await output(counts)) == [1, 2]

    @pytest.mark.parametrize("thread", [True, False])
    async def test_a_stream_is_the_output_and_not_awaited(self, thread: bool) -> None:
        stream = ScriptedModel("Hello").stream("Hi")
        numbers = reactivex.of(1, 2)

        def write(kind: str) -> Observable[Any]:
            return stream if kind == "chunks" else numbers

        async def write_later() -> Observable[Any]:
            return stream

        made = FunctionTool(write, thread=thread)
        assert await output(made, kind="chunks") is stream
        assert await output(made, kind="numbers") is numbers
        assert await output(write_later) is stream


class TestAsynchronousFunctions:
    async def test_a_coroutine_function_runs_on_the_loop(self) -> None:
        async def look() -> str:
            await asyncio.sleep(0)
            return place()

        assert await output(look) == "loop"
        assert await output(functools.partial(look)) == "loop"

    async def test_a_callable_object_may_be_asynchronous(self) -> None:
        class Look:
            async def __call__(self) -> str:
                return place()

        assert await output(Look()) == "loop"

    async def test_the_items_of_an_asynchronous_generator(self) -> None:
        async def count(to: int) -> AsyncIterator[int]:
            for number in range(to):
                yield number

        assert await items(FunctionTool(count).call({"to": 3}, CONTEXT)) == [0, 1, 2]


class TestPlainGenerators:
    @pytest.mark.parametrize(("thread", "where"), [(True, "thread"), (False, "loop")])
    async def test_its_items_then_what_it_returns(self, thread: bool, where: str) -> None:
        def count(to: int) -> Generator[Any, None, str]:
            USER.set(USER.get() + "!")
            for number in range(to):
                yield number, place(), USER.get()
            return "done"

        def counted(to: int) -> Iterator[Any]:
            return count(to)

        expected = [(0, where, "Ada!"), (1, where, "Ada!"), "done"]
        for function in (count, counted):
            USER.set("Ada")
            made = FunctionTool(function, thread=thread)
            assert await items(await output(made, to=2)) == expected

    async def test_nothing_runs_before_an_item_is_asked_for(self) -> None:
        steps: list[int] = []

        def count() -> Iterator[int]:
            for number in range(9):
                steps.append(number)
                yield number

        stream = FunctionTool(count).call({}, CONTEXT)
        assert steps == []
        assert await anext(stream) == 0
        assert steps == [0]
        await stream.aclose()

    @pytest.mark.parametrize("thread", [True, False])
    async def test_leaving_it_closes_the_generator(self, thread: bool) -> None:
        closed: list[str] = []

        def count() -> Iterator[int]:
            try:
                yield 1
                yield 2
            finally:
                closed.append(place())

        async with no_leaks():
            async with aclosing(FunctionTool(count, thread=thread).call({}, CONTEXT)) as stream:
                assert await anext(stream) == 1
            assert closed == ["thread" if thread else "loop"]

    async def test_a_cancelled_step_is_not_waited_for_and_the_generator_closed_after_it(
        self,
    ) -> None:
        started, release, closed = threading.Event(), threading.Event(), threading.Event()

        def wait() -> Iterator[int]:
            try:
                started.set()
                release.wait(60)
                yield 1
            finally:
                closed.set()

        async with no_leaks():
            stream = FunctionTool(wait).call({}, CONTEXT)
            step = asyncio.create_task(anext(stream))
            await asyncio.to_thread(started.wait, 60)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
            assert not closed.is_set()
            release.set()
            assert await asyncio.to_thread(closed.wait, 60)

    @pytest.mark.parametrize("thread", [True, False])
    async def test_its_error_is_raised_after_its_items(self, thread: bool) -> None:
        def count() -> Iterator[int]:
            yield 1
            raise ToolError("no more")

        seen: list[int] = []
        with pytest.raises(ToolError, match="no more"):
            async for item in FunctionTool(count, thread=thread).call({}, CONTEXT):
                seen.append(item)
        assert seen == [1]


class TestContext:
    async def test_it_is_injected_where_it_is_asked_for(self) -> None:
        def look(place: str, here: ToolContext, also: ToolContext | None = None) -> list[Any]:
            return [place, here, also]

        made = FunctionTool(look)
        assert list(made.tool.parameters["properties"]) == ["place"]
        assert await output(made, place="x") == ["x", CONTEXT, CONTEXT]

    def test_a_model_cannot_give_it(self) -> None:
        def look(here: ToolContext | None = None) -> None: ...

        with pytest.raises(msgspec.ValidationError, match="unknown field `here`"):
            FunctionTool(look).read('{"here": null}')

    def test_a_context_of_no_run_drops_reports(self) -> None:
        context = ToolContext(ToolCall("1", "look"), ())
        assert (context.step, context.context) == (1, None)
        context.report({"progress": 1})


class TestGivenParameters:
    SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}  # noqa: RUF012

    async def test_the_function_is_called_with_the_arguments_and_the_context(self) -> None:
        def look(arguments: dict[str, Any], context: ToolContext) -> Any:
            """Look."""
            return arguments, context, place()

        made = FunctionTool(look, parameters=self.SCHEMA)
        assert made.tool == rxllm.Tool("look", "Look.", self.SCHEMA)
        arguments = made.read('{"a": "not checked"}')
        assert await made.call(arguments, CONTEXT) == (arguments, CONTEXT, "thread")

    def test_arguments_are_an_object(self) -> None:
        made = FunctionTool(lambda *_: None, name="any", parameters=self.SCHEMA)
        assert made.read("") == {}
        with pytest.raises(msgspec.ValidationError, match="the arguments: Expected `object`"):
            made.read("[1]")
        with pytest.raises(msgspec.DecodeError):
            made.read("{")


class TestNames:
    def test_it_is_that_of_the_function_or_given(self) -> None:
        assert FunctionTool(place).name == "place"
        assert FunctionTool(place, name="where-am_I").name == "where-am_I"

    @pytest.mark.parametrize("name", ["", "a" * 65, "a b", "files.read", "größe", "a\n"])
    def test_a_name_that_providers_refuse_is_an_error(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"1 to 64 letters a to z.*: pass another name="):
            FunctionTool(place, name=name)

    def test_a_lambda_needs_a_name(self) -> None:
        with pytest.raises(ValueError, match="got '<lambda>'"):
            FunctionTool(lambda: 1)


class TestDecorator:
    def test_bare_and_with_options(self) -> None:
        @tool
        def add(a: int, b: int = 1) -> int:
            """Add two numbers."""
            return a + b

        def decide(arguments: dict[str, Any], context: ToolContext) -> Decision:
            return bool(arguments["a"])

        @tool(name="sub", description="Subtract.", timeout=2, sequential=True, approval=decide)
        async def subtract(a: int, b: int) -> int:
            return a - b

        assert isinstance(add, FunctionTool)
        assert (add.approval, add.timeout, add.sequential, add.thread) == ("run", None, False, True)
        assert add.tool.description == "Add two numbers."
        assert repr(subtract) == "FunctionTool('sub')"
        assert subtract.tool.description == "Subtract."
        assert (subtract.approval, subtract.timeout, subtract.sequential) == (decide, 2.0, True)

    async def test_the_decorated_function_can_still_be_called(self) -> None:
        @tool
        def add(a: int, b: int = 1) -> int:
            """Add two numbers."""
            return a + b

        @tool(thread=False)
        async def later(a: int) -> int:
            return a

        assert add(2, b=3) == 5
        assert await later(4) == 4
        assert add.__doc__ == "Add two numbers."

    def test_methods_of_an_object(self) -> None:
        class Shop:
            def find(self, name: str) -> str:
                return name

            @tool
            @staticmethod
            def hours(day: int) -> int:
                return day

        assert FunctionTool(Shop().find).read('{"name": "pen"}') == {"name": "pen"}
        assert Shop.hours.read('{"day": 2}') == {"day": 2}
        assert Shop.hours(3) == 3

    @pytest.mark.parametrize("given", [3, "look", int, FunctionTool(place)])
    def test_only_a_function_makes_a_tool(self, given: Any) -> None:
        with pytest.raises(TypeError, match="a tool is made from a function, got"):
            tool(given)

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"timeout": 0}, ValueError),
            ({"timeout": "5"}, TypeError),
            ({"approval": "always"}, ValueError),
            ({"time_out": 5}, TypeError),
        ],
    )
    def test_a_bad_option_is_an_error(self, options: dict[str, Any], error: type) -> None:
        with pytest.raises(error):
            tool(**options)(place)


def test_importing_rxllm_loads_no_tools() -> None:
    program = (
        "import sys, rxllm\n"
        "assert not {'docstring_parser', 'mcp', 'rxllm.agents'} & set(sys.modules)\n"
        "rxllm.FunctionTool, rxllm.mcp_server\n"
        "assert not {'docstring_parser', 'mcp', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
